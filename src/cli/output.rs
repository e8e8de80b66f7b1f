//! Printing listings: a table for people, JSON, NDJSON, and CSV without formulas. Order data is
//! hostile text; everything goes through `one_line` before it is shown.

use crate::domain::csv_cell::cell;
use crate::views::csv::Column;
use std::io::{self, IsTerminal, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::flags::{ExportFormat, Format};
use crate::domain::text::{one_line, shown_json};

/// Longest text in a cell of a table, in characters: on a terminal, where it is wrapped, and elsewhere, where all of it is
/// searched and read.
const MAX_SHOWN: usize = 300;
const MAX_CELL: usize = 2_000;
/// Columns that are not wider than this are not wrapped.
const NARROW: u16 = 24;

/// Prints `items`; `empty` is what a table says when there are none.
pub fn print<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    items: &[T],
    columns: &[Column<'_, T>],
    empty: &str,
) -> io::Result<()> {
    match format {
        Format::Table if items.is_empty() => writeln!(out, "{empty}"),
        Format::Table => {
            let mut table = plain_table();
            let longest = if io::stdout().is_terminal() { MAX_SHOWN } else { MAX_CELL };
            table.set_header(columns.iter().map(|(name, _)| *name));
            for item in items {
                table.add_row(columns.iter().map(|(_, show)| one_line(&show(item), longest)));
            }
            fit(&mut table);
            write_table(out, &table)
        }
        Format::Json => {
            writeln!(out, "{}", shown_json(&serde_json::to_string_pretty(items)?))
        }
        Format::Ndjson => items.iter().try_for_each(|item| {
            writeln!(out, "{}", printable_line(&serde_json::to_string(item)?))
        }),
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record(columns.iter().map(|(name, _)| *name))?;
            for item in items {
                csv.write_record(columns.iter().map(|(_, show)| cell(&show(item))))?;
            }
            csv.flush()
        }
    }
}

/// One document as indented JSON.
pub fn pretty(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A listing that is written in parts.
pub struct Stream<'w> {
    out: &'w mut dyn Write,
    format: ExportFormat,
    is_empty: bool,
}

impl<'w> Stream<'w> {
    /// Begins it.
    pub fn begin(out: &'w mut dyn Write, format: ExportFormat) -> io::Result<Self> {
        if format == ExportFormat::Json {
            write!(out, "[")?;
        }
        Ok(Self { out, format, is_empty: true })
    }

    /// Writes some more items; a file without items still has the names of the columns.
    pub fn items<T: Serialize>(
        &mut self,
        items: &[T],
        columns: &[Column<'_, T>],
    ) -> io::Result<()> {
        if self.format == ExportFormat::Csv {
            let mut csv = csv::Writer::from_writer(&mut *self.out);
            if self.is_empty {
                csv.write_record(columns.iter().map(|(name, _)| *name))?;
            }
            for item in items {
                csv.write_record(columns.iter().map(|(_, show)| cell(&show(item))))?;
            }
            self.is_empty = false;
            return csv.flush();
        }
        items.iter().try_for_each(|item| {
            let json = printable_line(&serde_json::to_string(item)?);
            self.line(&json)
        })
    }

    /// Writes one item that is JSON already.
    pub fn line(&mut self, json: &str) -> io::Result<()> {
        match (self.format, self.is_empty) {
            (ExportFormat::Json, true) => write!(self.out, "\n{json}")?,
            (ExportFormat::Json, false) => write!(self.out, ",\n{json}")?,
            _ => writeln!(self.out, "{json}")?,
        }
        self.is_empty = false;
        Ok(())
    }

    /// Ends it.
    pub fn end(self) -> io::Result<()> {
        if self.format == ExportFormat::Json {
            writeln!(self.out, "{}]", if self.is_empty { "" } else { "\n" })?;
        }
        self.out.flush()
    }
}

/// Prints one thing: as JSON, or as `name  value` lines by `human`.
pub fn print_one<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    match format {
        Format::Table | Format::Csv => human(out),
        Format::Json => {
            writeln!(out, "{}", shown_json(&serde_json::to_string_pretty(item)?))
        }
        Format::Ndjson => writeln!(out, "{}", printable_line(&serde_json::to_string(item)?)),
    }
}

/// Prints `name  value` lines, aligned; those without a value are left out.
pub fn facts(out: &mut dyn Write, facts: &[(&str, Option<String>)]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            writeln!(out, "{name:width$}  {}", one_line(value, 500))?;
        }
    }
    Ok(())
}

/// JSON on one line without terminal controls.
pub(super) fn printable_line(json: &str) -> String {
    shown_json(json).replace('\n', " ")
}

/// Columns without frames.
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// On a terminal: makes the table as wide as that. Long texts are wrapped, numbers and times are not.
fn fit(table: &mut Table) {
    if !io::stdout().is_terminal() {
        return;
    }
    let (_, width) = console::Term::stdout().size();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    let widths = table.column_max_content_widths();
    for (column, width) in table.column_iter_mut().zip(widths) {
        if width <= NARROW {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// Writes a table without the blanks that fill its last column.
pub fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

/// A progress bar on standard error; none without a terminal.
pub fn progress(length: u64, doing: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(doing);
    let style = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// A time in the reader's zone, with its name.
pub fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The time of a view: for people in their zone, for programs as it is.
pub fn shown_time(format: Format, text: Option<&str>) -> String {
    match (format, text.map(str::parse)) {
        (Format::Table, Some(Ok(at))) => local(at),
        _ => text.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv_of(text: &str) -> String {
        let mut out = Vec::new();
        let columns: [Column<'_, String>; 1] = [("text", &|text: &String| text.clone())];
        print(&mut out, Format::Csv, &[text.to_owned()], &columns, "").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formulas_and_escapes_are_text_in_csv() {
        assert_eq!(csv_of("=HYPERLINK(\"http://x\")"), "text\n\"'=HYPERLINK(\"\"http://x\"\")\"\n");
        assert_eq!(csv_of("-12.50"), "text\n-12.50\n");
        assert_eq!(csv_of("a\u{1b}[31m\nb"), "text\na[31m b\n");
    }

    #[test]
    fn a_cell_is_text_also_where_it_is_split_and_plain_data_stays() {
        for (text, safe) in [
            ("x;=HYPERLINK(1)", "x;'=HYPERLINK(1)"),
            ("x; \"=1+1\";@A1", "x; \"'=1+1\";'@A1"),
            ("x\t=1+1\n-2+3", "x =1+1 -2+3"),
            ("\t\r\n=1", "'=1"),
            ("\u{feff}+A1", "'+A1"),
            ("\u{ff1d}1+1", "'\u{ff1d}1+1"),
            ("-inf", "'-inf"),
            ("-1-1", "'-1-1"),
            ("+49-30-1", "'+49-30-1"),
            ("+1;+A1", "+1;'+A1"),
        ] {
            assert_eq!(cell(text), safe, "{text:?}");
        }
        for plain in [
            "-1.50",
            "-1,50",
            "+3e4",
            "1;-2.5;x",
            "+49 (0)30 123456",
            "a@example.com",
            "de/100-1",
            "1=2",
            "Lamp; white; 2-fold",
            ";",
            "",
        ] {
            assert_eq!(cell(plain), plain);
        }
    }

    #[test]
    fn an_empty_table_says_so_and_empty_json_is_a_list() {
        let columns: [Column<'_, String>; 0] = [];
        let mut out = Vec::new();
        print(&mut out, Format::Table, &[], &columns, "Nothing is lost.").unwrap();
        print(&mut out, Format::Json, &[], &columns, "Nothing is lost.").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "Nothing is lost.\n[]\n");
    }
}
