//! One text out of an XML reply, by the local names of its elements. No document's own entity is ever
//! expanded, and depth and length are bounded.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest XML that is read.
const MAX_DEPTH: usize = 128;
/// Longest text that is taken out, in bytes.
const MAX_TEXT: usize = 1024 * 1024;

/// Text of the first element whose name and whose parents' names end with `names`; local names.
pub fn text_at(text: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut found: Option<(usize, String)> = None;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                if open.len() >= MAX_DEPTH {
                    return None;
                }
                open.push(tag.local_name().into_inner().to_owned());
                if found.is_none() && ends_with(&open, names) {
                    found = Some((open.len(), String::new()));
                }
            }
            Event::Empty(tag) => {
                open.push(tag.local_name().into_inner().to_owned());
                if found.is_none() && ends_with(&open, names) {
                    return Some(String::new());
                }
                open.pop();
            }
            Event::End(_) => {
                match found.take() {
                    Some((depth, text)) if depth == open.len() => return Some(text),
                    other => found = other,
                }
                open.pop();
            }
            Event::Text(part) => append(&mut found, &part),
            Event::CData(part) => append(&mut found, &part),
            Event::GeneralRef(name) => {
                let c = match name.resolve_char_ref().ok()? {
                    Some(c) => c.to_string(),
                    None => entity(&name)?.to_owned(),
                };
                append(&mut found, &c);
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

fn ends_with(open: &[String], names: &[impl AsRef<str>]) -> bool {
    open.len() >= names.len()
        && open[open.len() - names.len()..]
            .iter()
            .zip(names)
            .all(|(own, name)| own == name.as_ref())
}

fn append(found: &mut Option<(usize, String)>, part: &str) {
    if let Some((_, text)) = found
        && text.len() + part.len() <= MAX_TEXT
    {
        text.push_str(part);
    }
}

/// The entities that XML itself knows; a document's own are never expanded.
fn entity(name: &str) -> Option<&'static str> {
    Some(match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => return None,
    })
}
