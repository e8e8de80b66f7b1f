//! Values that recipes look up in a reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

use crate::adapters::erp::recipe::reply::Read;
use crate::adapters::erp::recipe::source::Source;
use crate::adapters::erp::recipe::values;
use crate::adapters::erp::recipe::values::Vars;

/// Most compiled sources of expressions.
pub const MAX_CACHED: usize = 500;

/// `vars`, and what expressions over this reply can name besides.
pub fn vars_with(reply: &Arc<Read>, sources: &Arc<SourceCache>, vars: &Vars) -> Vars {
    let mut vars = vars.clone();
    let body = reply.json().map_or(Value::UNDEFINED, values::of_json);
    vars.insert("status".to_owned(), Value::from(reply.status));
    vars.insert("body".to_owned(), body);
    vars.insert("text".to_owned(), Value::from(reply.text()));
    let (of, sources) = (reply.clone(), sources.clone());
    let at = move |source: &str| -> Result<Value, Error> {
        let source = sources.get(source).map_err(|e| Error::new(ErrorKind::InvalidOperation, e))?;
        Ok(source.find(&of).unwrap_or(Value::UNDEFINED))
    };
    vars.insert("at".to_owned(), Value::from_function(at));
    let of = reply.clone();
    let header = move |name: &str| -> Value {
        of.header(&name.to_ascii_lowercase()).map_or(Value::UNDEFINED, Value::from)
    };
    vars.insert("header".to_owned(), Value::from_function(header));
    vars
}

/// Sources that expressions name, compiled once.
#[derive(Debug, Default)]
pub struct SourceCache(Mutex<HashMap<String, Source>>);

impl SourceCache {
    fn get(&self, text: &str) -> Result<Source, String> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = cached.get(text) {
            return Ok(source.clone());
        }
        let source = Source::parse(text)?;
        if cached.len() < MAX_CACHED {
            cached.insert(text.to_owned(), source.clone());
        }
        Ok(source)
    }
}

/// The first of `sources` that has a value which is not null.
pub fn first_of(sources: &[Source], reply: &Read) -> Option<Value> {
    sources.iter().filter_map(|source| source.find(reply)).find(|value| !value.is_none())
}
