//! Columns of a CSV file.

/// A column: its name, and what it shows of an item.
pub type Column<'a, T> = (&'a str, &'a dyn Fn(&T) -> String);
