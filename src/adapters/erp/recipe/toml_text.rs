//! A recipe's TOML, read key by key: every fault is found in one go and carries its line.
//!
//! Keys that were never read are unknown. Reading continues after a fault.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault_reader::{self, Faults, unknown_key};

/// Largest recipe, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Something wrong in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecipeFault {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, with dots.
    pub key: String,
    /// What is wrong and what is expected.
    pub detail: String,
}

impl fmt::Display for RecipeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.line, self.detail),
            key => write!(f, "{}: {key}: {}", self.line, self.detail),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, with dots.
    pub key: String,
}

impl<T> At<T> {
    /// Another value with the same place.
    pub fn with<U>(&self, value: U) -> At<U> {
        At { value, line: self.line, key: self.key.clone() }
    }

    /// A fault here.
    pub fn fault(&self, detail: impl Into<String>) -> RecipeFault {
        RecipeFault { line: self.line, key: self.key.clone(), detail: detail.into() }
    }
}

/// The text of the file, and the faults found in it so far.
struct Source<'a> {
    text: &'a str,
    faults: &'a Faults<RecipeFault>,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The first line of the text that begins there: TOML drops a line break behind the opening quotes.
    fn first_line(&self, offset: usize) -> usize {
        let text = self.text.get(offset..).unwrap_or_default();
        let begins_below = ["'''\n", "'''\r\n", "\"\"\"\n", "\"\"\"\r\n"];
        self.line(offset) + usize::from(begins_below.iter().any(|quotes| text.starts_with(quotes)))
    }
}

/// A table of the file.
pub struct Table<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    path: String,
    line: usize,
    asked: RefCell<BTreeSet<&'static str>>,
}

/// Parses `source` and hands its table to `read`; what it made, or every fault.
pub fn parse<T>(
    source: &str,
    read: impl FnOnce(&Table<'_>, &Faults<RecipeFault>) -> Option<T>,
) -> Result<T, Vec<RecipeFault>> {
    let whole = |line, detail: String| vec![RecipeFault { line, key: String::new(), detail }];
    if source.len() > MAX_BYTES {
        return Err(whole(1, format!("{} bytes; at most {MAX_BYTES} are read", source.len())));
    }
    let faults = Faults::default();
    let made = {
        let source = Source { text: source, faults: &faults };
        let parsed = DeTable::parse(source.text).map_err(|error| {
            let line = error.span().map_or(1, |span| source.line(span.start));
            whole(line, error.message().to_owned())
        })?;
        let at = At { value: (), line: 1, key: String::new() };
        let table = Table::new(&source, parsed.get_ref(), at);
        let made = read(&table, &faults);
        table.finish();
        made
    };
    faults.none_or_all(made)?.ok_or_else(Vec::new)
}

impl<'a> Table<'a> {
    fn new(source: &'a Source<'a>, table: &'a DeTable<'a>, at: At<()>) -> Self {
        Self { source, table, path: at.key, line: at.line, asked: RefCell::default() }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Where this table begins.
    pub fn place(&self) -> At<()> {
        At { value: (), line: self.line, key: self.path.clone() }
    }

    fn get(&self, name: &'static str) -> Option<(&'a Spanned<DeValue<'a>>, At<()>)> {
        self.asked.borrow_mut().insert(name);
        let value = self.table.get(name)?;
        Some((value, self.at(name, value)))
    }

    fn at(&self, name: &str, value: &Spanned<DeValue<'_>>) -> At<()> {
        At { value: (), line: self.source.first_line(value.span().start), key: self.key(name) }
    }

    /// The value, if there is one; otherwise the fault that another one was expected.
    fn expect<T>(&self, at: &At<()>, expected: &str, value: Option<T>) -> Option<T> {
        let wrong = || at.fault(format!("expected {expected}"));
        self.source.faults.keep(value.ok_or_else(wrong))
    }

    fn value<T>(
        &self,
        name: &'static str,
        expected: &str,
        of: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<At<T>> {
        let (value, at) = self.get(name)?;
        self.expect(&at, expected, of(value.get_ref())).map(|value| at.with(value))
    }

    /// Notes that a key is missing.
    pub fn missing(&self, name: &str, why: &str) {
        let detail = format!("missing: {why}");
        self.source.faults.add(RecipeFault { line: self.line, key: self.key(name), detail });
    }

    /// Text.
    pub fn text(&self, name: &'static str) -> Option<At<String>> {
        self.value(name, "text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// Text that must be there.
    pub fn required(&self, name: &'static str, why: &str) -> Option<At<String>> {
        if !self.table.contains_key(name) {
            self.missing(name, why);
        }
        self.text(name)
    }

    /// Text that `parse` understands.
    pub fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed_at(name, parse).map(|parsed| parsed.value)
    }

    fn parsed_at<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let text = self.text(name)?;
        let parsed = parse(&text.value).map_err(|detail| text.fault(detail));
        self.source.faults.keep(parsed).map(|parsed| text.with(parsed))
    }

    /// A time such as "30s".
    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        self.duration_at(name).map(|time| time.value)
    }

    /// The same with its place.
    pub fn duration_at(&self, name: &'static str) -> Option<At<Duration>> {
        self.parsed_at(name, |text| {
            fault_reader::time(text)
                .filter(|time| !time.is_zero() && *time <= Duration::from_hours(24))
                .ok_or_else(|| "expected a time such as \"30s\" or \"12h\", up to 24h".to_owned())
        })
    }

    /// A whole number from 1 to `max`.
    pub fn number(&self, name: &'static str, max: u32) -> Option<u32> {
        let expected = format!("a whole number from 1 to {max}");
        let whole = |value: &DeValue<'_>| value.as_integer()?.as_str().parse::<u32>().ok();
        let in_range = |value| whole(value).filter(|number| (1..=max).contains(number));
        self.value(name, &expected, in_range).map(|number| number.value)
    }

    /// `true` or `false`, `false` when it is not there.
    pub fn flag(&self, name: &'static str) -> bool {
        self.value(name, "true or false", |value| value.as_bool()).is_some_and(|flag| flag.value)
    }

    /// One text or a list of texts.
    pub fn texts(&self, name: &'static str) -> Vec<At<String>> {
        let Some((value, at)) = self.get(name) else { return Vec::new() };
        self.text_list(value, &at)
    }

    fn text_list(&self, value: &'a Spanned<DeValue<'a>>, at: &At<()>) -> Vec<At<String>> {
        if let Some(text) = value.get_ref().as_str() {
            return vec![at.with(text.to_owned())];
        }
        let expected = "text, or a list of texts";
        let items = self.expect(at, expected, value.get_ref().as_array());
        let texts = items.into_iter().flatten().filter_map(|item| {
            let text = self.expect(at, expected, item.get_ref().as_str())?.to_owned();
            Some(At { value: text, line: self.source.line(item.span().start), key: at.key.clone() })
        });
        texts.collect()
    }

    /// A table with keys of the writer's own choice, each with texts.
    pub fn texts_by_name(&self, name: &'static str) -> Vec<(String, Vec<At<String>>)> {
        let Some(table) = self.table(name) else { return Vec::new() };
        let of = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &Cow<'_, str> = key.get_ref();
            let at = table.at(key, value);
            (key.clone().into_owned(), table.text_list(value, &at))
        };
        table.in_order().into_iter().map(of).collect()
    }

    /// Keys and values in the order of the file.
    fn in_order(&self) -> Vec<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// The same with one text each.
    pub fn text_by_name(&self, name: &'static str) -> Vec<(String, At<String>)> {
        let listed = self.texts_by_name(name);
        let one = listed.into_iter().filter_map(|(key, mut texts)| Some((key, texts.pop()?)));
        one.collect()
    }

    /// A table with keys of the writer's own choice and plain values, as text with its kind.
    pub fn scalars(&self, name: &'static str) -> Vec<(String, At<Scalar>)> {
        let Some(table) = self.table(name) else { return Vec::new() };
        let of = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &Cow<'_, str> = key.get_ref();
            let at = table.at(key, value);
            let expected = "text, a number, true or false";
            let scalar = self.expect(&at, expected, Scalar::of(value.get_ref()))?;
            Some((key.clone().into_owned(), at.with(scalar)))
        };
        table.table.iter().filter_map(of).collect()
    }

    /// The table below `name` as it is, names and all.
    pub fn open(&self, name: &'static str) -> Option<OpenTable<'a>> {
        self.table(name).map(OpenTable)
    }

    /// A table.
    pub fn table(&self, name: &'static str) -> Option<Table<'a>> {
        let (value, at) = self.get(name)?;
        self.below(value, at)
    }

    fn below(&self, value: &'a Spanned<DeValue<'a>>, at: At<()>) -> Option<Table<'a>> {
        let table = self.expect(&at, "a table", value.get_ref().as_table())?;
        Some(Table::new(self.source, table, at))
    }

    /// A list of tables.
    pub fn tables(&self, name: &'static str) -> Vec<Table<'a>> {
        let Some((value, at)) = self.get(name) else { return Vec::new() };
        let expected = format!("a list of tables: [[{}]]", at.key);
        let items = self.expect(&at, &expected, value.get_ref().as_array());
        let of = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| {
            let line = self.source.line(item.span().start);
            let named = item.get_ref().as_table().and_then(|table| table.get("name"));
            let key = match named.and_then(|name| name.get_ref().as_str()) {
                Some(own) => format!("{name}.{own}"),
                None => format!("{}[{index}]", at.key),
            };
            self.below(item, At { value: (), line, key })
        };
        items.into_iter().flatten().enumerate().filter_map(of).collect()
    }

    /// Whether the key is there.
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Notes every key that was never asked for.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            let detail = unknown_key(name, asked.iter().copied(), "");
            let line = self.source.line(value.span().start);
            self.source.faults.add(RecipeFault { line, key: self.key(name), detail });
        }
    }
}

/// A table whose names are the writer's own and whose values are tables.
pub struct OpenTable<'a>(Table<'a>);

impl<'a> OpenTable<'a> {
    /// Its tables by name.
    pub fn tables(&self) -> Vec<(String, Table<'a>)> {
        let of = |(key, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let name = key.get_ref().clone().into_owned();
            let at = self.0.at(&name, value);
            Some((name, self.0.below(value, at)?))
        };
        self.0.table.iter().filter_map(of).collect()
    }
}

/// A plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A number with its digits.
    Number(String),
    /// `true` or `false`.
    Flag(bool),
}

impl Scalar {
    fn of(value: &DeValue<'_>) -> Option<Self> {
        Some(match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Integer(number) => Self::Number(number.as_str().to_owned()),
            DeValue::Float(number) => Self::Number(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Self::Flag(*flag),
            _ => return None,
        })
    }
}
