//! Expressions of a recipe, in which a value that is not there is never true.
//!
//! The template engine takes `undefined != 'draft'` and `not undefined` for true, and `undefined ~ 'a'` for
//! `a`. So these are rewritten to calls of our own, which know when an operand is not there. What such a
//! comparison says is unknown: an expression is true only if it is true whatever that would be. In a
//! template it is an error at once. An error of kind `UndefinedError` names what is not there in its detail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use bigdecimal::BigDecimal;

use crate::domain::exact::exact;

use super::decimals::calculate;
use super::values::{is_missing, is_number};

const COMPARE: &str = "_compare";
const NEGATE: &str = "_not";
const PRESENT: &str = "_present";
const CALCULATE: &str = "_calculate";
/// Operators of the template engine that it would calculate with floats, or that nobody needs.
const REFUSED: [&str; 3] = ["//", "%", "**"];

/// Gives the engine of templates what [`in_template`] writes.
pub fn install(env: &mut Environment<'_>) {
    let compare =
        |left: &Value, operator: &str, right: &Value, names: (&str, &str)| match missing_of(
            left, right, names,
        ) {
            Some(name) => Err(undefined(name)),
            None => compared(left, operator, right),
        };
    env.add_function(
        COMPARE,
        move |left: &Value, operator: &str, right: &Value, of_left: &str, of_right: &str| {
            compare(left, operator, right, (of_left, of_right))
        },
    );
    env.add_function(NEGATE, |value: &Value, name: &str| Ok(!present(value, name)?.is_true()));
    install_present(env);
}

/// What templates and expressions have in common.
pub fn install_present(env: &mut Environment<'_>) {
    env.add_function(PRESENT, |value: &Value, name: &str| present(value, name).cloned());
    env.add_function(
        CALCULATE,
        |left: &Value, sign: &str, right: &Value, of_left: &str, of_right: &str| {
            calculate(present(left, of_left)?, sign, present(right, of_right)?)
        },
    );
}

fn present<'a>(value: &'a Value, name: &str) -> Result<&'a Value, Error> {
    if is_missing(value) { Err(undefined(name)) } else { Ok(value) }
}

fn undefined(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedError, name.to_owned())
}

/// The name of an operand that is not there.
fn missing_of<'a>(left: &Value, right: &Value, names: (&'a str, &'a str)) -> Option<&'a str> {
    match (is_missing(left), is_missing(right)) {
        (true, _) => Some(names.0),
        (_, true) => Some(names.1),
        _ => None,
    }
}

/// Evaluates `source` in `env`; an error when its value hangs on something that is not there.
pub fn eval(
    env: &Environment<'_>,
    source: &str,
    vars: &BTreeMap<String, Value>,
) -> Result<Value, Error> {
    let rewritten = rewrite(source)?;
    let compiled = env.compile_expression(&rewritten)?;
    let missing: Arc<Mutex<Option<String>>> = Arc::default();
    let run = |assumed: bool| {
        let mut vars = vars.clone();
        let noted = missing.clone();
        let note = move |name: &str| {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
            Ok(assumed)
        };
        let note_too = note.clone();
        let compare =
            move |left: &Value, sign: &str, right: &Value, of_left: &str, of_right: &str| {
                match missing_of(left, right, (of_left, of_right)) {
                    Some(name) => note(name),
                    None => compared(left, sign, right),
                }
            };
        let negate = move |value: &Value, name: &str| match is_missing(value) {
            true => note_too(name),
            false => Ok(!value.is_true()),
        };
        vars.insert(COMPARE.to_owned(), Value::from_function(compare));
        vars.insert(NEGATE.to_owned(), Value::from_function(negate));
        compiled.eval(Value::from(vars))
    };
    let value = run(false)?;
    let missing = || missing.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match missing() {
        Some(name) if value.is_true() != run(true)?.is_true() => Err(undefined(&name)),
        _ => Ok(value),
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
            (ValueKind::Map, ..) => Ok(right.get_item(left).is_ok_and(|found| !is_missing(&found))),
            _ => Ok(right.try_iter()?.any(|item| is_equal(&item, left))),
        }
    };
    Ok(match operator {
        "==" => is_equal(left, right),
        "!=" => !is_equal(left, right),
        "in" => contains()?,
        "not in" => !contains()?,
        "<" => order(left, right).is_lt(),
        "<=" => order(left, right).is_le(),
        ">" => order(left, right).is_gt(),
        _ => order(left, right).is_ge(),
    })
}

/// Numbers by what they are worth, whatever their digits: 1.5 is 1.50.
fn is_equal(left: &Value, right: &Value) -> bool {
    match both_numbers(left, right) {
        Some((left, right)) => left == right,
        None => left == right,
    }
}

fn order(left: &Value, right: &Value) -> std::cmp::Ordering {
    match both_numbers(left, right) {
        Some((left, right)) => left.cmp(&right),
        None => left.cmp(right),
    }
}

fn both_numbers(left: &Value, right: &Value) -> Option<(BigDecimal, BigDecimal)> {
    let are_numbers = is_number(left) && is_number(right);
    are_numbers.then(|| Some((exact(&left.to_string())?, exact(&right.to_string())?)))?
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
        let name = named(&nodes[1..])?;
        return Ok(format!("{NEGATE}({}, {name})", part(&nodes[1..])?));
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
        [] => joined(nodes),
        [(at, length)] => {
            let (left, right) = (&nodes[..at], &nodes[at + length..]);
            let names = format!("{}, {}", named(left)?, named(right)?);
            let (left, right) = (joined(left)?, joined(right)?);
            let operator = match &nodes[at] {
                Node::Token(operator) if length == 1 => operator,
                _ => "not in",
            };
            Ok(format!("{COMPARE}({left}, '{operator}', {right}, {names})"))
        }
        _ => Err(wrong("one comparison at a time: join them with `and`".to_owned())),
    }
}

/// What is joined by `~` has to be there.
fn joined(nodes: &[Node<'_>]) -> Result<String, Error> {
    if let Some(refused) = REFUSED.iter().find(|sign| nodes.iter().any(|n| is(Some(n), &[**sign])))
    {
        return Err(wrong(format!("`{refused}`: calculate with + - * / and round")));
    }
    let pieces = split(nodes, &["~"]);
    if let [(_, piece)] = pieces[..] {
        return sum(piece);
    }
    let joined: Result<Vec<String>, Error> = pieces
        .into_iter()
        .map(|(_, piece)| Ok(format!("{PRESENT}({}, {})", sum(piece)?, named(piece)?)))
        .collect();
    Ok(joined?.join("~"))
}

fn sum(nodes: &[Node<'_>]) -> Result<String, Error> {
    calculation(nodes, &["+", "-"], &product)
}

fn product(nodes: &[Node<'_>]) -> Result<String, Error> {
    calculation(nodes, &["*", "/"], &operand)
}

/// An operand, with its sign if it has one.
fn operand(nodes: &[Node<'_>]) -> Result<String, Error> {
    match nodes {
        [Node::Token("-"), rest @ ..] if !rest.is_empty() => {
            Ok(format!("{CALCULATE}(0, '-', {}, '', {})", operand(rest)?, named(rest)?))
        }
        nodes => plain(nodes),
    }
}

/// Operators of one rank, from the left, as calls.
fn calculation(
    nodes: &[Node<'_>],
    signs: &[&str],
    inner: &dyn Fn(&[Node<'_>]) -> Result<String, Error>,
) -> Result<String, Error> {
    let mut pieces = split(nodes, signs).into_iter();
    let Some((_, first)) = pieces.next() else { return Ok(String::new()) };
    let (mut made, mut length) = (inner(first)?, first.len());
    for (sign, piece) in pieces {
        let names = format!("{}, {}", named(&nodes[..length])?, named(piece)?);
        made = format!("{CALCULATE}({made}, '{sign}', {}, {names})", inner(piece)?);
        length += 1 + piece.len();
    }
    Ok(made)
}

/// The pieces between the operators `signs`, each with the operator before it. A sign at the beginning of a piece
/// belongs to it.
fn split<'a, 'n>(nodes: &'n [Node<'a>], signs: &[&str]) -> Vec<(&'a str, &'n [Node<'a>])> {
    let (mut pieces, mut begin, mut before) = (Vec::new(), 0, "");
    for (at, node) in nodes.iter().enumerate() {
        let Node::Token(token) = node else { continue };
        let is_after_operator =
            at == 0 || is(nodes.get(at - 1), &["~", "+", "-", "*", "/", "|", "is", "not"]);
        if signs.contains(token) && !is_after_operator {
            pieces.push((before, &nodes[begin..at]));
            (begin, before) = (at + 1, *token);
        }
    }
    pieces.push((before, &nodes[begin..]));
    pieces
}

/// `nodes` as they were written, as a text in quotes.
fn named(nodes: &[Node<'_>]) -> Result<String, Error> {
    let text = as_written(nodes);
    Ok(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")))
}

/// The same text with its groups rewritten.
fn plain(nodes: &[Node<'_>]) -> Result<String, Error> {
    text_of(nodes, &written)
}

/// The text as it was, but for its spacing.
fn as_written(nodes: &[Node<'_>]) -> String {
    text_of(nodes, &|inner| Ok(as_written(inner))).unwrap_or_default()
}

fn text_of(
    nodes: &[Node<'_>],
    inside: &dyn Fn(&[Node<'_>]) -> Result<String, Error>,
) -> Result<String, Error> {
    let mut out = String::new();
    for node in nodes {
        match node {
            Node::Token(token) => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let gap = out.ends_with(is_word) && token.starts_with(is_word);
                let is_spaced =
                    matches!(*token, "and" | "or" | "if" | "else" | "is" | "in" | "not" | "|");
                if gap || is_spaced {
                    out.push(' ');
                }
                out.push_str(token);
                if is_spaced {
                    out.push(' ');
                }
            }
            Node::Group(begin, inner, end) => {
                out.push_str(begin);
                out.push_str(&inside(inner)?);
                out.push_str(end);
            }
        }
    }
    Ok(out)
}

/// The inside of `{{ }}` or `{% %}` of a template, rewritten like an expression. Lines stay where they are.
pub fn in_template(is_statement: bool, code: &str) -> Result<String, Error> {
    let (head, code) = match is_statement {
        true => code.split_at(end_of_head(code)),
        false => code.split_at(code.len() - code.trim_start_matches(['-', '+']).len()),
    };
    let (code, tail) = code.split_at(code.trim_end_matches(['-', '+']).len());
    let made = rewrite(code)?;
    if ![COMPARE, NEGATE, PRESENT, CALCULATE].iter().any(|own| made.contains(own)) {
        return Ok(format!("{head}{code}{tail}"));
    }
    let lines = "\n".repeat(code.matches('\n').count());
    Ok(format!("{head} {made} {lines}{tail}"))
}

/// Where the expression of a statement begins: behind `if`, `elif` and `for … in`.
fn end_of_head(code: &str) -> usize {
    let tokens = tokens(code.trim_start_matches(['-', '+']));
    let end = match tokens.first() {
        Some(&("if" | "elif")) => tokens.first(),
        Some(&"for") => tokens.iter().find(|token| **token == "in"),
        _ => None,
    };
    end.map_or(code.len(), |end| end.as_ptr() as usize + end.len() - code.as_ptr() as usize)
}

/// Paths such as `order.customer.number` in the text of an expression, which may end anywhere, in their order.
pub fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(nodes) = nodes(&mut closed(tokens(code)).into_iter().peekable()) {
        collect_paths(&nodes, &mut found);
    }
    found
}

/// `tokens` with an end for every group.
fn closed(mut tokens: Vec<&str>) -> Vec<&str> {
    let mut open = Vec::new();
    for token in &tokens {
        match *token {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    tokens.extend(open.into_iter().rev());
    tokens
}

fn collect_paths(nodes: &[Node<'_>], found: &mut Vec<String>) {
    let mut at = 0;
    while at < nodes.len() {
        let end = at + path_length(&nodes[at..]);
        let is_filter = at > 0 && is(nodes.get(at - 1), &["|", "is"]);
        let is_call = matches!(nodes.get(end), Some(Node::Group("(", ..)));
        if end > at && !is_filter && !is_call {
            found.push(as_written(&nodes[at..end]));
        }
        for node in &nodes[at..end.max(at + 1)] {
            if let Node::Group(_, inner, _) = node {
                collect_paths(inner, found);
            }
        }
        at = end.max(at + 1);
    }
}

/// How many nodes a path at the beginning of `nodes` has; 0 without one.
fn path_length(nodes: &[Node<'_>]) -> usize {
    let is_name = |node: Option<&Node<'_>>| {
        let Some(Node::Token(token)) = node else { return false };
        let is_word = token.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let words = ["and", "or", "if", "else", "elif", "for", "is", "in", "not"];
        is_word && !words.contains(token)
    };
    if !is_name(nodes.first()) {
        return 0;
    }
    let mut end = 1;
    loop {
        match nodes.get(end) {
            Some(Node::Token(".")) if is_name(nodes.get(end + 1)) => end += 2,
            Some(Node::Group("[", ..)) => end += 1,
            _ => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::erp::recipe::filters;

    fn environment() -> Environment<'static> {
        let mut env = Environment::empty();
        env.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        filters::install(&mut env);
        install_present(&mut env);
        env
    }

    fn told(source: &str) -> Result<bool, ErrorKind> {
        let mut vars = BTreeMap::new();
        vars.insert("status".to_owned(), Value::from(200));
        let body = serde_json::json!({"a": 1, "list": [1, "x"], "text": "not in", "null": null, "e": 1.50});
        let long = r#"{"long": 9007199254740993.5, "long_too": 9007199254740993.4}"#;
        let mut body = body;
        let long: serde_json::Map<String, serde_json::Value> = serde_json::from_str(long).unwrap();
        body.as_object_mut().unwrap().extend(long);
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
            "body.e == 1.5 and body.e == 1.50 and body.e != 1.51",
            "body.e * 2 + body.a == 4",
            "1 + 2 * 3 - 4 / 2 == 5",
            "(1 + 2) * 3 == 9",
            "-body.e + 3 == body.e and 3 - -1 == 4",
            "0.1 + 0.2 == 0.3",
            "'49.95' * 2 == 99.9",
            "body.a ~ body.a + 1 == '12'",
            "(10 / 3) | round(2) == 3.33 and (2.5 | round) == 3 and (2.5 | round(0, 'half_even')) == 2",
            "body.list | length + 1 == 3",
            "body.long > body.long_too and body.long != body.long_too",
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
            "body.b ~ 'a' == 'a'",
            "('a' ~ body.b | lower) == 'a'",
            "body.b | str == ''",
            "body.b + 1 == 1",
            "1 - body.b == 1",
        ] {
            assert_eq!(told(source), Err(ErrorKind::UndefinedError), "{source}");
        }
        assert_eq!(told("body.b is defined and body.b != 'draft'"), Ok(false));
        assert_eq!(told("body.b is not defined or body.b != 'draft'"), Ok(true));
        assert_eq!(told("status == 200 or body.b == 1"), Ok(true));
        assert_eq!(told("status == 404 or body.b"), Ok(false));
    }

    #[test]
    fn an_error_names_what_is_not_there() {
        let detail = |source: &str| {
            let body = Value::from_pairs([("a", 1)]);
            let vars = BTreeMap::from([("body".to_owned(), body)]);
            eval(&environment(), source, &vars).unwrap_err().detail().map(str::to_owned)
        };
        assert_eq!(detail("body.a == body.b").as_deref(), Some("body.b"));
        assert_eq!(detail("not body['it\\'s']").as_deref(), Some("body['it\\'s']"));
        assert_eq!(detail("'x' ~ body.b").as_deref(), Some("body.b"));
    }

    #[test]
    fn paths_are_found_in_the_text_of_an_expression() {
        let found = paths("product.row[l.sku].id | default(order.total) ~ 'a.b' is number");
        assert_eq!(found, ["product.row[l.sku].id", "l.sku", "order.total"]);
        assert_eq!(paths("if at('/x') in (order.a"), ["order.a"]);
    }

    #[test]
    fn what_is_no_expression_says_so() {
        for source in [
            "status ==",
            "(status",
            "status)",
            "1 < status < 3",
            "not",
            "'a",
            "status % 2",
            "status // 2",
            "status ** 2",
            "status +",
        ] {
            let checked = check(&environment(), source);
            assert_eq!(checked.map_err(|e| e.kind()), Err(ErrorKind::SyntaxError), "{source}");
        }
    }
}
