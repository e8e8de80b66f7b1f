//! Cells of a CSV file, which no spreadsheet runs as a formula.

use crate::domain::text::one_line;

/// Characters that begin a formula; the full-width ones do in Japanese spreadsheets.
pub const BEGINS: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// A cell that no spreadsheet runs (OWASP, CSV injection). Where a decimal comma is usual a
/// spreadsheet splits at `;`, also within a cell: so the start of a formula gets a `'` before it,
/// at the start of the cell and after each `;`, also after blanks and quotes. Tabs and line breaks
/// are blanks already. Numbers and telephone numbers stay as they are.
pub fn cell(text: &str) -> String {
    let text = one_line(text, 32_000);
    let safe: Vec<String> = text.split(';').map(part_of_cell).collect();
    safe.join(";")
}

pub fn part_of_cell(part: &str) -> String {
    let begin = part.trim_start_matches([' ', '"']);
    if !begin.starts_with(BEGINS) || is_number(begin.trim_end()) || is_telephone(begin) {
        return part.to_owned();
    }
    let before = &part[..part.len() - begin.len()];
    format!("{before}'{begin}")
}

/// Also with a decimal comma. `-inf` is a number to Rust and a name to a spreadsheet.
pub fn is_number(text: &str) -> bool {
    text.replacen(',', ".", 1).parse::<f64>().is_ok_and(f64::is_finite)
}

/// Without `-`, `/` and `.`: a spreadsheet would calculate.
pub fn is_telephone(text: &str) -> bool {
    let rest = text.strip_prefix('+');
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || " ()".contains(c)))
}
