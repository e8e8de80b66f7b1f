//! Where the place of a fault is in the bytes of a message: "line 3, column 7", "byte 12", or a JSON pointer. For the
//! page that marks it. Reads broken documents too: it stops where they stop being JSON, and never fails.

use std::ops::Range;

/// Most bytes that are marked.
const MAX_MARKED: usize = 80;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of `place` in `body`; `None` if it is not there (a key that is missing is marked at the object that misses it).
pub fn marked(body: &[u8], place: &str) -> Option<Range<usize>> {
    let bom = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let text = &body[bom..];
    let found = if let Some(at) = place.strip_prefix("byte ") {
        let at = at.parse::<usize>().ok().filter(|at| *at < text.len())?;
        at..at + 1
    } else if let Some(rest) = place.strip_prefix("line ") {
        let (line, column) = rest.split_once(' ')?;
        let line = line.trim_end_matches(',').parse().ok()?;
        let column = column.strip_prefix("column ")?.parse().ok()?;
        at_line(text, line, column)?
    } else {
        at_pointer(text, place.strip_prefix('/')?)?
    };
    Some(found.start + bom..found.end + bom)
}

/// The byte at a line and a column, both from 1; the last one before the end of a text that ends too early.
fn at_line(text: &[u8], line: usize, column: usize) -> Option<Range<usize>> {
    let before = text.split_inclusive(|b| *b == b'\n').take(line.checked_sub(1)?);
    let begin = before.map(<[u8]>::len).sum::<usize>();
    let last = text.len().checked_sub(1)?;
    let mut from = (begin + column.saturating_sub(1)).min(last);
    let mut to = from + 1;
    // A whole character of more than one byte.
    while from > 0 && is_continuation(text[from]) {
        from -= 1;
    }
    while to < text.len() && is_continuation(text[to]) {
        to += 1;
    }
    Some(from..to)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The value at a pointer; where its last step is missing, the begin of what misses it.
fn at_pointer(text: &[u8], pointer: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner { text, at: 0 };
    let steps: Vec<String> =
        pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    for (index, step) in steps.iter().enumerate() {
        scanner.blanks();
        let begin = scanner.at;
        if !scanner.enter(step) {
            let is_last = index + 1 == steps.len();
            return (is_last && begin < text.len()).then_some(begin..begin + 1);
        }
    }
    scanner.blanks();
    let from = scanner.at;
    scanner.skip();
    let to = scanner.at.min(from + MAX_MARKED).min(text.len());
    (from < to).then_some(from..to)
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes to the member or the item that a step names.
    fn enter(&mut self, step: &str) -> bool {
        let wanted = match self.peek() {
            Some(b'{') => None,
            Some(b'[') => match step.parse::<usize>() {
                Ok(index) => Some(index),
                Err(_) => return false,
            },
            _ => return false,
        };
        self.at += 1;
        let mut passed = 0;
        loop {
            self.blanks();
            if matches!(self.peek(), None | Some(b'}' | b']')) {
                return false;
            }
            let is_it = match wanted {
                Some(index) => index == passed,
                None => {
                    let key = self.key();
                    self.blanks();
                    if self.peek() != Some(b':') {
                        return false;
                    }
                    self.at += 1;
                    key.as_deref() == Some(step)
                }
            };
            if is_it {
                return true;
            }
            self.blanks();
            self.skip();
            self.blanks();
            if self.peek() != Some(b',') {
                return false;
            }
            self.at += 1;
            passed += 1;
        }
    }

    fn key(&mut self) -> Option<String> {
        let from = self.at;
        self.skip();
        serde_json::from_slice(&self.text[from..self.at]).ok()
    }

    /// Goes behind the value that begins here: a text, everything within brackets, or up to the next separator.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.skip_text(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth == 0 => return,
                b if b.is_ascii_whitespace() && depth == 0 => return,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_text(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        self.at = self.at.min(self.text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "{\n \"remark\": \"\\\"quantity\\\": [{\",\n \"lines\": [{\"quantity\": 1}, {\"quantity\": 2},\n  \
        {\"a/b\": {\"quantity\": 5}, \"quantity\": \"x\"}],\n \"total\": }";

    fn told<'t>(text: &'t str, place: &str) -> Option<&'t str> {
        marked(text.as_bytes(), place).map(|range| &text[range])
    }

    #[test]
    fn the_value_at_a_pointer_is_marked_and_not_the_first_of_its_name() {
        assert_eq!(told(ORDER, "/lines/2/quantity"), Some("\"x\""));
        assert_eq!(told(ORDER, "/lines/0/quantity"), Some("1"));
        assert_eq!(told(ORDER, "/lines/1"), Some("{\"quantity\": 2}"));
        assert_eq!(told(ORDER, "/lines/2/a~1b/quantity"), Some("5"));
        let from = ORDER.find("{\"a/b\"").unwrap();
        assert_eq!(
            marked(ORDER.as_bytes(), "/lines/2/sku"),
            Some(from..from + 1),
            "it is missing there"
        );
        assert_eq!(marked(ORDER.as_bytes(), "/currency"), Some(0..1));
        for nowhere in ["/lines/9/sku", "/lines/x/sku", "/customer/name/x", "whole", ""] {
            assert_eq!(told(ORDER, nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn a_line_and_a_column_are_marked_as_the_reader_writes_them() {
        assert_eq!(told("{\n  \"a\": ?}", "line 2, column 8"), Some("?"));
        assert_eq!(told("äöü", "line 1, column 4"), Some("ö"));
        assert_eq!(told("{\"a\":", "line 1, column 5"), Some(":"));
        assert_eq!(told("{\"a\":", "line 9, column 5"), Some(":"));
        assert_eq!(told("{}", "line 0, column 1"), None);
        assert_eq!(told("", "line 1, column 0"), None);
        assert_eq!(told("\u{feff}{?", "line 1, column 2"), Some("?"));
    }

    #[test]
    fn a_byte_that_is_no_text_is_marked() {
        assert_eq!(marked(b"ab\xffc", "byte 2"), Some(2..3));
        assert_eq!(marked(b"\xef\xbb\xbfab\xffc", "byte 2"), Some(5..6));
        assert_eq!(marked(b"ab", "byte 2"), None);
    }

    #[test]
    fn no_bytes_make_it_fail() {
        for text in
            ["{\"a", "{\"a\\", "[", "{\"a\":{\"b\":[1,", "}", "]]", ",", "{,}", "[,,]", "{:}"]
        {
            for place in ["/a", "/a/b/1", "/0", "/", "/1/2", "line 1, column 99", "byte 0"] {
                if let Some(range) = marked(text.as_bytes(), place) {
                    assert!(range.start < range.end && range.end <= text.len(), "{text} {place}");
                }
            }
        }
    }
}
