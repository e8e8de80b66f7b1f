//! Templates and expressions of a recipe: Jinja, with escaping by context, and with limits.
//!
//! `{{ x }}` is always one value of its place: a JSON value in JSON, escaped text in XML, one
//! percent-encoded segment in a path. No text pasting. A template can neither run for ever (fuel)
//! nor grow without bound (output limit; only `for` and `if` are there as statements).

use crate::adapters::erp::recipe::filters::MAX_OUTPUT;
use crate::adapters::erp::recipe::values::Vars;
use std::io;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::domain::text::path_segment;

use super::values::{self, Placeholder};
use super::{expressions, filters};

/// Steps of the template engine per template; 10,000 lines need less than a tenth.
const FUEL: u64 = 10_000_000;
/// Longest template, in bytes.
pub const MAX_TEMPLATE: usize = 64 * 1024;
/// Statements that a template may use.
const STATEMENTS: [&str; 6] = ["for", "endfor", "if", "elif", "else", "endif"];
/// Most operators (filters, parts of names, calls, signs) in one expression: the template engine
/// walks them recursively, and each `~` or `*` pastes a text to another one.
const MAX_OPERATORS: usize = 100;
const OPERATORS: &[u8] = b"|.[({+-*/~%<>=!,:";

/// What a template's text is; decides how values are escaped in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A JSON body.
    Json,
    /// An XML body.
    Xml,
    /// A URL path, or what follows it.
    Path,
    /// Text that is encoded as a whole afterwards: a query value, a form field, a header.
    Plain,
}

impl Place {
    fn prefix(self) -> &'static str {
        match self {
            Self::Json => "json:",
            Self::Xml => "xml:",
            Self::Path => "path:",
            Self::Plain => "plain:",
        }
    }
}

/// All templates of a recipe, compiled.
#[derive(Debug)]
pub struct Templates {
    strict: Environment<'static>,
    expressions: Environment<'static>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut strict = environment(UndefinedBehavior::Strict);
        strict.set_auto_escape_callback(|name| match name.split_once(':') {
            Some(("json", _)) => AutoEscape::Json,
            Some(("xml", _)) => AutoEscape::Custom("xml".into()),
            Some(("path", _)) => AutoEscape::Custom("path".into()),
            _ => AutoEscape::None,
        });
        strict.set_formatter(write_value);
        expressions::install(&mut strict);
        let mut lenient = environment(UndefinedBehavior::SemiStrict);
        expressions::install_present(&mut lenient);
        Self { strict, expressions: lenient }
    }
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(undefined);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(50);
    env.set_debug(false);
    filters::install(&mut env);
    env
}

impl Templates {
    /// Compiles `source` under `key`; the name to render it by.
    pub fn add(&mut self, place: Place, key: &str, source: &str) -> Result<String, Error> {
        check_statements(source)?;
        let name = format!("{}{key}", place.prefix());
        // As it was written first: an error of its syntax then has its line.
        self.strict.template_from_str(source)?;
        self.strict.add_template_owned(name.clone(), rewritten(source)?)?;
        Ok(name)
    }

    /// Names that a template uses and does not make itself.
    pub fn names_in(&self, name: &str) -> Vec<String> {
        let template = self.strict.get_template(name);
        let names = template.map(|t| t.undeclared_variables(false)).unwrap_or_default();
        names.into_iter().filter(|name| !name.starts_with('_')).collect()
    }

    /// The text of a template.
    pub fn source(&self, name: &str) -> String {
        self.strict.get_template(name).map(|t| t.source().to_owned()).unwrap_or_default()
    }

    /// Whether a path such as `order.customer.number` leads nowhere in `vars`.
    pub fn is_missing(&self, path: &str, vars: &Vars) -> bool {
        let found = self.expressions.compile_expression(path);
        let found = found.and_then(|path| path.eval(Value::from(vars.clone())));
        match found {
            Ok(value) => values::is_missing(&value),
            Err(error) => error.kind() == ErrorKind::UndefinedError,
        }
    }

    /// Names that an expression uses.
    pub fn names_in_expression(&self, source: &str) -> Vec<String> {
        let compiled = self.expressions.compile_expression(source);
        compiled.map(|e| e.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
    }

    /// Renders the template that was added under `name`.
    pub fn render(&self, name: &str, vars: &Vars) -> Result<String, Error> {
        let template = self.strict.get_template(name)?;
        let mut out = Bounded { bytes: Vec::new() };
        template.render_captured_to(Value::from(vars.clone()), &mut out)?;
        String::from_utf8(out.bytes)
            .map_err(|_| Error::new(ErrorKind::WriteFailure, "the template rendered no text"))
    }

    /// Whether `source` is an expression at all.
    pub fn check_expression(&self, source: &str) -> Result<(), Error> {
        if source.len() > MAX_TEMPLATE {
            return Err(Error::new(ErrorKind::SyntaxError, "longer than 64 KiB"));
        }
        check_operators(source)?;
        expressions::check(&self.expressions, source)
    }

    /// Evaluates an expression; one whose value hangs on something that is not there is an error.
    pub fn eval(&self, source: &str, vars: &Vars) -> Result<Value, Error> {
        expressions::eval(&self.expressions, source, vars)
    }
}

/// Collects output up to [`MAX_OUTPUT`].
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + buf.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("more than {MAX_OUTPUT} bytes")));
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_statements(source: &str) -> Result<(), Error> {
    let wrong = |detail: String| Err(Error::new(ErrorKind::SyntaxError, detail));
    if source.len() > MAX_TEMPLATE {
        return wrong("longer than 64 KiB".to_owned());
    }
    for (is_statement, code) in code_in(source) {
        check_operators(code)?;
        let code = code.trim_start_matches(['-', '+']).trim_start();
        let word: String = code.chars().take_while(char::is_ascii_alphabetic).collect();
        if is_statement && !STATEMENTS.contains(&word.as_str()) {
            return wrong(format!("`{word}`: only for and if are available"));
        }
        if is_statement && word == "for" && code.contains("recursive") {
            return wrong("a loop cannot call itself".to_owned());
        }
    }
    Ok(())
}

/// The same template, as strict as an expression: see `expressions.rs`.
fn rewritten(source: &str) -> Result<String, Error> {
    let (mut out, mut copied) = (String::with_capacity(source.len()), 0);
    for (is_statement, code) in code_in(source) {
        let begin = code.as_ptr() as usize - source.as_ptr() as usize;
        out.push_str(&source[copied..begin]);
        out.push_str(&expressions::in_template(is_statement, code)?);
        copied = begin + code.len();
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

/// The insides of every `{{ }}` and `{% %}`, and whether it is the latter. Ends where the template
/// engine sees the end: not within quotes.
fn code_in(source: &str) -> Vec<(bool, &str)> {
    let mut found = Vec::new();
    let mut rest = source;
    loop {
        let next = [rest.find("{{"), rest.find("{%")].into_iter().flatten().min();
        let Some(begin) = next else { return found };
        let is_statement = rest[begin..].starts_with("{%");
        let inside = &rest[begin + 2..];
        let end = end_of_code(inside.as_bytes());
        found.push((is_statement, &inside[..end]));
        rest = &inside[end..];
    }
}

fn end_of_code(inside: &[u8]) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, byte) in inside.iter().enumerate() {
        match (quote, byte) {
            _ if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'}') if at > 0 && matches!(inside[at - 1], b'}' | b'%') => return at - 1,
            _ => {}
        }
    }
    inside.len()
}

fn check_operators(code: &str) -> Result<(), Error> {
    let signs = code.bytes().filter(|byte| OPERATORS.contains(byte)).count();
    let words = code.split_ascii_whitespace();
    let words = words.filter(|word| matches!(*word, "and" | "or" | "not" | "is" | "in" | "if"));
    if signs + words.count() > MAX_OPERATORS {
        let detail = format!("more than {MAX_OPERATORS} operators in one expression");
        return Err(Error::new(ErrorKind::SyntaxError, detail));
    }
    Ok(())
}

fn write_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if values::is_missing(value) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.is_safe() {
        return put(out, &value.to_string());
    }
    match state.auto_escape() {
        AutoEscape::Json => match values::to_json_text(value) {
            Some(text) => put(out, &text),
            None => {
                Err(Error::new(ErrorKind::BadSerialization, "a value that JSON cannot represent"))
            }
        },
        AutoEscape::Custom(place) if place == "xml" => put(out, &xml_text(&plain(value))),
        AutoEscape::Custom(place) if place == "path" => put(out, &segment(value)?),
        _ => put(out, &plain(value)),
    }
}

fn put(out: &mut Output<'_>, text: &str) -> Result<(), Error> {
    out.write_str(text)
        .map_err(|_| Error::new(ErrorKind::WriteFailure, format!("more than {MAX_OUTPUT} bytes")))
}

/// Text of a value; nothing for null.
fn plain(value: &Value) -> String {
    if value.is_none() { String::new() } else { value.to_string() }
}

/// A value as one part of a path. `.` and `..` cannot be written there: every HTTP client takes
/// them for steps (RFC 3986, 5.2.4).
fn segment(value: &Value) -> Result<String, Error> {
    let text = plain(value);
    let is_placeholder = value.downcast_object_ref::<Placeholder>().is_some();
    if text.is_empty() || text == "." || text == ".." {
        let detail = format!("`{text}` cannot be part of a path");
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    }
    Ok(if is_placeholder { "1".to_owned() } else { path_segment(&text) })
}

/// Text escaped for XML, in content and attributes alike; what XML 1.0 cannot hold is replaced.
pub fn xml_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rendered(place: Place, source: &str, value: Value) -> Result<String, Error> {
        let mut templates = Templates::default();
        let name = templates.add(place, "t", source)?;
        templates.render(&name, &Vars::from([("x".to_owned(), value)]))
    }

    #[test]
    fn a_value_is_escaped_for_its_place() {
        let nasty = || Value::from("O'Neil \"&<>ü/🙂");
        assert_eq!(
            rendered(Place::Json, "[{{ x }}]", nasty()).unwrap(),
            "[\"O'Neil \\\"&<>ü/🙂\"]"
        );
        assert_eq!(
            rendered(Place::Xml, "<a b='{{ x }}'/>", nasty()).unwrap(),
            "<a b='O&#39;Neil &quot;&amp;&lt;&gt;ü/🙂'/>"
        );
        assert_eq!(
            rendered(Place::Path, "/o/{{ x }}", nasty()).unwrap(),
            "/o/O%27Neil%20%22%26%3C%3E%C3%BC%2F%F0%9F%99%82"
        );
        assert_eq!(rendered(Place::Plain, "{{ x }}", nasty()).unwrap(), "O'Neil \"&<>ü/🙂");
        assert_eq!(
            rendered(Place::Path, "/o/{{ x | raw }}", Value::from("a/b")).unwrap(),
            "/o/a/b"
        );
    }

    #[test]
    fn a_step_out_of_the_path_cannot_be_written() {
        assert!(rendered(Place::Path, "/o/{{ x }}", Value::from("..")).is_err());
        assert!(rendered(Place::Path, "/o/{{ x }}", Value::from("")).is_err());
    }

    #[test]
    fn money_keeps_its_digits() {
        let price = "123456789012345678901234567890.10";
        let json = format!("{{\"a\": {price}, \"b\": \"{price}\"}}");
        let value = values::of_json(&serde_json::from_str(&json).unwrap());
        let made =
            rendered(Place::Json, "[{{ x.a }},{{ x.b | num }},{{ x.a | str }}]", value).unwrap();
        assert_eq!(made, format!("[{price},{price},\"{price}\"]"));
    }

    #[test]
    fn what_is_not_there_is_an_error_in_templates_and_expressions() {
        assert!(rendered(Place::Json, "{{ x.nothing }}", Value::from(1)).is_err());
        assert!(rendered(Place::Json, "{{ y }}", Value::from(1)).is_err());
        let templates = Templates::default();
        assert!(templates.eval("body.a.b is defined", &Vars::new()).is_err());
        assert!(!templates.eval("body is defined", &Vars::new()).unwrap().is_true());
    }

    #[test]
    fn no_template_runs_for_ever_or_grows_without_bound() {
        let many: Value = (0..10_000).collect();
        let nested = "{% for a in x %}{% for b in x %}{{ b }}{% endfor %}{% endfor %}";
        let error = rendered(Place::Json, nested, many).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
        let grown = "{% for a in x %}{{ x | json }}{% endfor %}";
        assert!(rendered(Place::Json, grown, (0..10_000).collect()).is_err());
        for refused in [
            "{% macro m() %}{% endmacro %}",
            "{% set y = x %}",
            "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
            &format!("{{{{ x {} }}}}", "~ x ".repeat(120)),
        ] {
            assert!(rendered(Place::Json, refused, Value::from("x")).is_err(), "{refused}");
        }
        for grown in
            ["| json ", "| replace('1', '11111111') ", "| b64 ", "| split('') | join('22') "]
        {
            let chain = format!("{{{{ x {} }}}}", grown.repeat(1_000));
            assert!(rendered(Place::Plain, &chain, Value::from("1'\"")).is_err(), "{grown}");
            let short = format!("{{{{ x {} }}}}", grown.repeat(24));
            let made = rendered(Place::Plain, &short, Value::from("1'\""));
            assert!(made.is_err() || made.is_ok_and(|text| text.len() <= MAX_OUTPUT), "{grown}");
        }
        let hidden = format!("{{{{ '}}}}' {} }}}}", "| json ".repeat(1_000));
        assert!(rendered(Place::Plain, &hidden, Value::from(1)).is_err());
        assert!(Templates::default().check_expression(&"not ".repeat(500)).is_err());
        assert!(Templates::default().check_expression(&"(".repeat(500)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_text_as_a_template_ends_without_a_panic(source in "[ -~{}%|x'~*\\[\\]()]{0,60}", text in any::<String>()) {
            for place in [Place::Json, Place::Xml, Place::Path, Place::Plain] {
                drop(rendered(place, &source, Value::from(text.as_str())));
            }
            drop(Templates::default().eval(&source, &Vars::from([("x".to_owned(), Value::from(text))])));
        }

        #[test]
        fn any_text_arrives_in_json_as_it_is(text in any::<String>()) {
            let made = rendered(Place::Json, "{\"a\": {{ x }}}", Value::from(text.as_str())).unwrap();
            let read: serde_json::Value = serde_json::from_str(&made).unwrap();
            prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
        }
    }
}
