//! Expressions of a recipe, in which a value that is not there is never true.
//!
//! The template engine takes `undefined != 'draft'` and `not undefined` for true. So comparisons and
//! negations are rewritten to calls of our own, which know when an operand is not there. What such a
//! comparison says is unknown: an expression is true only if it is true whatever that would be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::values::is_number;

const COMPARE: &str = "_compare";
const NEGATE: &str = "_not";

/// Evaluates `source` in `env`; an error when its value hangs on something that is not there.
pub fn eval(
    env: &Environment<'_>,
    source: &str,
    vars: &BTreeMap<String, Value>,
) -> Result<Value, Error> {
    let rewritten = rewrite(source)?;
    let compiled = env.compile_expression(&rewritten)?;
    let is_touched = Arc::new(AtomicBool::new(false));
    let run = |assumed: bool| {
        let mut vars = vars.clone();
        let touched = is_touched.clone();
        let compare = move |left: &Value, operator: &str, right: &Value| {
            if left.is_undefined() || right.is_undefined() {
                touched.store(true, Ordering::Relaxed);
                return Ok(assumed);
            }
            compared(left, operator, right)
        };
        let touched = is_touched.clone();
        let negate = move |value: &Value| {
            if value.is_undefined() {
                touched.store(true, Ordering::Relaxed);
                return assumed;
            }
            !value.is_true()
        };
        vars.insert(COMPARE.to_owned(), Value::from_function(compare));
        vars.insert(NEGATE.to_owned(), Value::from_function(negate));
        compiled.eval(Value::from(vars))
    };
    let value = run(false)?;
    let is_unknown = is_touched.load(Ordering::Relaxed) && value.is_true() != run(true)?.is_true();
    match is_unknown {
        true => Err(Error::new(ErrorKind::UndefinedError, "it compares a value that is not there")),
        false => Ok(value),
    }
}

/// Whether `source` is an expression at all.
pub fn check(env: &Environment<'_>, source: &str) -> Result<(), Error> {
    env.compile_expression(source)?;
    env.compile_expression(&rewrite(source)?).map(|_| ())
}

fn compared(left: &Value, operator: &str, right: &Value) -> Result<bool, Error> {
    let contains = || -> Result<bool, Error> {
        match (right.kind(), right.as_str(), left.as_str()) {
            (ValueKind::String, Some(text), Some(part)) => Ok(text.contains(part)),
            (ValueKind::Map, ..) => {
                Ok(right.get_item(left).is_ok_and(|found| !found.is_undefined()))
            }
            _ => Ok(right.try_iter()?.any(|item| is_equal(&item, left))),
        }
    };
    Ok(match operator {
        "==" => is_equal(left, right),
        "!=" => !is_equal(left, right),
        "in" => contains()?,
        "not in" => !contains()?,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    })
}

/// Equal as JSON is: numbers by their digits where they are no plain integers.
fn is_equal(left: &Value, right: &Value) -> bool {
    if is_number(left) && is_number(right) {
        return left == right || left.to_string() == right.to_string();
    }
    left == right
}

/// A part of an expression.
enum Node<'a> {
    Token(&'a str),
    Group(&'a str, Vec<Node<'a>>, &'a str),
}

/// The same expression with its comparisons and negations as calls.
fn rewrite(source: &str) -> Result<String, Error> {
    let mut tokens = tokens(source).into_iter().peekable();
    let nodes = nodes(&mut tokens)?;
    match tokens.next() {
        None => written(&nodes),
        Some(token) => Err(wrong(format!("`{token}` closes nothing"))),
    }
}

fn wrong(detail: String) -> Error {
    Error::new(ErrorKind::SyntaxError, detail)
}

fn tokens(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => end_of_text(rest, first),
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            _ => {
                let double = ["==", "!=", "<=", ">=", "//", "**"];
                if double.iter().any(|two| rest.starts_with(two)) { 2 } else { first.len_utf8() }
            }
        };
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

fn end_of_text(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn nodes<'a>(
    tokens: &mut std::iter::Peekable<std::vec::IntoIter<&'a str>>,
) -> Result<Vec<Node<'a>>, Error> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next_if(|token| !matches!(*token, ")" | "]" | "}")) {
        if !matches!(token, "(" | "[" | "{") {
            nodes.push(Node::Token(token));
            continue;
        }
        let inner = self::nodes(tokens)?;
        let end = tokens.next().ok_or_else(|| wrong(format!("`{token}` is not closed")))?;
        nodes.push(Node::Group(token, inner, end));
    }
    Ok(nodes)
}

fn is(node: Option<&Node<'_>>, tokens: &[&str]) -> bool {
    matches!(node, Some(Node::Token(own)) if tokens.contains(own))
}

fn written(nodes: &[Node<'_>]) -> Result<String, Error> {
    let mut out = String::new();
    let is_boundary = |node: &Node<'_>| is(Some(node), &["and", "or", "if", "else", ",", ":", "="]);
    let mut rest = nodes;
    loop {
        let end = rest.iter().position(is_boundary).unwrap_or(rest.len());
        out.push_str(&part(&rest[..end])?);
        let Some(boundary) = rest.get(end) else { return Ok(out) };
        out.push_str(&plain(std::slice::from_ref(boundary))?);
        rest = &rest[end + 1..];
    }
}

/// What stands between two boundaries: negations, and at most one comparison.
fn part(nodes: &[Node<'_>]) -> Result<String, Error> {
    if is(nodes.first(), &["not"]) {
        return Ok(format!("{NEGATE}({})", part(&nodes[1..])?));
    }
    let comparisons: Vec<(usize, usize)> = (0..nodes.len())
        .filter_map(|at| {
            let is_test = at > 0 && is(nodes.get(at - 1), &["is"])
                || at > 1 && is(nodes.get(at - 2), &["is"]) && is(nodes.get(at - 1), &["not"]);
            match nodes.get(at) {
                node if is(node, &["==", "!=", "<", "<=", ">", ">="]) => Some((at, 1)),
                node if is(node, &["in"])
                    && !is_test
                    && !is(nodes.get(at - at.min(1)), &["not"]) =>
                {
                    Some((at, 1))
                }
                node if is(node, &["not"]) && is(nodes.get(at + 1), &["in"]) && !is_test => {
                    Some((at, 2))
                }
                _ => None,
            }
        })
        .collect();
    match comparisons[..] {
        [] => plain(nodes),
        [(at, length)] => {
            let (left, right) = (plain(&nodes[..at])?, plain(&nodes[at + length..])?);
            let operator = match &nodes[at] {
                Node::Token(operator) if length == 1 => operator,
                _ => "not in",
            };
            Ok(format!("{COMPARE}({left}, '{operator}', {right})"))
        }
        _ => Err(wrong("one comparison at a time: join them with `and`".to_owned())),
    }
}

fn plain(nodes: &[Node<'_>]) -> Result<String, Error> {
    let mut out = String::new();
    for node in nodes {
        match node {
            Node::Token(token) => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let gap = out.ends_with(is_word) && token.starts_with(is_word);
                let is_name = matches!(*token, "and" | "or" | "if" | "else" | "is" | "in" | "not");
                if gap || is_name {
                    out.push(' ');
                }
                out.push_str(token);
                if is_name {
                    out.push(' ');
                }
            }
            Node::Group(begin, inner, end) => {
                out.push_str(begin);
                out.push_str(&written(inner)?);
                out.push_str(end);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::erp::recipe::filters;

    fn environment() -> Environment<'static> {
        let mut env = Environment::empty();
        env.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        filters::install(&mut env);
        env
    }

    fn told(source: &str) -> Result<bool, ErrorKind> {
        let mut vars = BTreeMap::new();
        vars.insert("status".to_owned(), Value::from(200));
        let body = serde_json::json!({"a": 1, "list": [1, "x"], "text": "not in", "null": null, "e": 1.50});
        vars.insert("body".to_owned(), super::super::values::of_json(&body));
        vars.insert("page".to_owned(), Value::UNDEFINED);
        let found = eval(&environment(), source, &vars);
        found.map(|value| value.is_true()).map_err(|error| error.kind())
    }

    #[test]
    fn comparisons_say_what_they_said() {
        for source in [
            "status == 200 and body.a == 1",
            "body.a != 2 or status == 500",
            "status in [200, 204]",
            "not status in [201]",
            "status not in [201, 204]",
            "'in' in body.text and 'not' in body.text",
            "body.list == [1, 'x']",
            "(body.list | length) == 2",
            "not (status == 404)",
            "body.b is not defined and body.a is defined",
            "body.a is number and body.list is sequence and body is mapping",
            "body.null is none",
            "(body.b | default('x')) == 'x'",
            "1 if status == 200 else 0",
            "body.list | map(attribute='a') | list | length == 2",
            "body['a'] == 1",
            "body.e > 1",
            "status is in [200]",
        ] {
            assert_eq!(told(source), Ok(true), "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_never_true() {
        for source in [
            "body.b is sequence",
            "body.b is not sequence",
            "body.b is number",
            "body.b != 'draft'",
            "body.b not in ['draft']",
            "body.b == body.c",
            "not body.b",
            "not (body.b == 1)",
            "body.b < 1",
            "1 > body.b",
            "status == 200 and body.b != 1",
            "page.error is not defined",
            "page.a.b == 1",
            "nothing != 1",
        ] {
            assert_eq!(told(source), Err(ErrorKind::UndefinedError), "{source}");
        }
        assert_eq!(told("body.b is defined and body.b != 'draft'"), Ok(false));
        assert_eq!(told("body.b is not defined or body.b != 'draft'"), Ok(true));
        assert_eq!(told("status == 200 or body.b == 1"), Ok(true));
        assert_eq!(told("status == 404 or body.b"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_says_so() {
        for source in ["status ==", "(status", "status)", "1 < status < 3", "not", "'a"] {
            let checked = check(&environment(), source);
            assert_eq!(checked.map_err(|e| e.kind()), Err(ErrorKind::SyntaxError), "{source}");
        }
    }
}
