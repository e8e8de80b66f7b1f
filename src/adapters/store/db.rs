//! What the ledger needs from a database: a few statements that differ for each one, and a simple
//! way to run all others.
//!
//! `postgres.rs` and `sqlite.rs` implement [`Db`] and [`Tx`]; every decision is made once, in the
//! files beside them. Only integers, text and bytes cross this boundary.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use crate::ports::schema::{CopyTold, SchemaStatus};
use crate::ports::store_error::StoreError;

#[async_trait]
pub trait Db: Send + Sync + 'static {
    /// Its transactions.
    type Tx: Tx;
    /// Statements that add up `moves`, and the rows that this makes.
    const FOLD_COUNTS: &'static [&'static str];
    /// Statements that turn buckets of `added_activity` that are $1 minutes wide and begin before $3 into
    /// such of $2 minutes.
    const FOLD_ACTIVITY: &'static [&'static str];
    /// The column `shop` of `orders` as lists and counts name it.
    const SHOP_IN_LISTS: &'static str;
    /// The query of its clock, in milliseconds, if that is not this machine's.
    const NOW: Option<&'static str>;
    /// The suffix of a query that locks its rows until the end of the transaction.
    const FOR_UPDATE: &'static str;
    /// The same, passing over rows that others have locked: it never waits.
    const FOR_UPDATE_OF_FREE: &'static str;
    /// The keys in $1, a JSON array of arrays, as rows of shop and order_id.
    const KEYS: &'static str;
    /// The condition that the bytes $1 stand in the column `body`.
    const BODY_HOLDS: &'static str;
    /// A statement that waits until whoever writes orders now has finished, and keeps nobody waiting after that.
    const WRITERS_END: Option<&'static str>;
    /// Begins a transaction that will write.
    async fn begin(&self) -> Result<Self::Tx, StoreError>;
    /// Runs a query outside of any transaction.
    async fn fetch(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError>;
    /// The same for people's lists, searches and statistics: it may take long, and never keeps the work waiting.
    async fn read(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError>;
    /// Runs one statement as a transaction of its own; the number of rows it touched.
    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError>;
    /// What can be written as one statement, without a transaction around it; `None`: one writer does everything in
    /// one transaction.
    fn plain(&self) -> Option<&dyn PlainWrites>;
    /// Which migrations are missing.
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError>;
    /// Applies them; the names of those applied.
    async fn migrate(&self, told: CopyTold<'_>) -> Result<Vec<String>, StoreError>;
}

/// The plain way of an order, each step one statement for a whole batch: durable when it returns.
#[async_trait]
pub trait PlainWrites: Send + Sync {
    /// As [`Tx::insert_orders`].
    async fn insert_orders(
        &self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError>;
    /// As [`Tx::confirm_plain`].
    async fn confirm_plain(
        &self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError>;
}

/// A transaction; rolled back when dropped.
#[async_trait]
pub trait Tx: Send {
    /// Runs a query.
    async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError>;
    /// Runs a statement; the number of rows it touched.
    async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError>;
    /// Makes it durable.
    async fn commit(self) -> Result<(), StoreError>;

    /// Inserts orders that are not there, queued and with their first claim, and counts them as received; the
    /// keys of those inserted. Keys in `rows` are unique.
    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError>;
    /// Locks the states of orders until the end of the transaction, in the order of their keys. An order that
    /// has none yet cannot be locked: whoever writes its state first wins.
    async fn lock(&mut self, keys: &[OrderKey]) -> Result<(), StoreError>;
    /// Locks orders and loads them.
    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError>;
    /// The documents of orders: shop, order_id, document, edited.
    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError>;
    /// Writes the states of orders where `version` is still the loaded one, 0 meaning that there was none; the
    /// number of rows written. A receipt is written by the two methods that follow.
    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError>;
    /// Confirms orders that have no state yet, and counts them; their keys. Keys in `rows` are unique.
    async fn confirm_plain(
        &mut self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError>;
    /// Confirms orders that have a state, and adds numbers that differ from the stored one as second entries.
    /// For each such order what was before: shop, order_id, phase, state, error_fingerprint, erp_order_id,
    /// fail_count, currency, total, and 1 if a second entry was added. Keys in `rows` are unique.
    async fn confirm_known(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError>;
    /// Inserts failed attempts that are not there; those inserted.
    async fn insert_failures(
        &mut self,
        rows: &[&FailureRequest],
    ) -> Result<HashSet<(OrderKey, u32)>, StoreError>;
    /// Inserts exchanges that are not there.
    async fn insert_exchanges(&mut self, rows: &[&KeepRequest]) -> Result<(), StoreError>;
    /// Inserts notices that are not there.
    async fn insert_notices(&mut self, rows: &[Notice]) -> Result<(), StoreError>;
}

/// A statement: a literal of our source, or composed of such literals.
#[derive(Debug, Clone)]
pub enum Sql {
    /// A literal of our source.
    Fixed(&'static str),
    /// Composed of literals of our source; never of input.
    Built(String),
}

impl Sql {
    pub fn text(&self) -> &str {
        match self {
            Self::Fixed(sql) => sql,
            Self::Built(sql) => sql,
        }
    }
}

impl From<&'static str> for Sql {
    fn from(sql: &'static str) -> Self {
        Self::Fixed(sql)
    }
}

/// An argument or a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// BIGINT / INTEGER.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BYTEA / BLOB.
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}
impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(Some(number.into()))
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(storable(text)))
    }
}
impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}
impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(storable))
    }
}
impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(at.as_millisecond()))
    }
}
impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(Timestamp::as_millisecond))
    }
}
impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Text(Some(id.to_string()))
    }
}
impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

/// PostgreSQL cannot hold U+0000 in text; SQLite would cut there.
pub fn storable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// Arguments of a statement.
#[macro_export]
#[doc(hidden)]
macro_rules! sql_args {
    ($($value:expr),* $(,)?) => { vec![$($crate::adapters::store::db::Value::from($value)),*] };
}

/// A result row; its columns are taken in the order of the query.
#[derive(Debug)]
pub struct Row {
    /// The table, for error messages.
    pub table: &'static str,
    /// The row's key, for error messages.
    pub name: String,
    values: std::vec::IntoIter<Value>,
}

impl Row {
    /// A row of these columns.
    pub fn new(values: Vec<Value>) -> Self {
        Self { table: "(query)", name: "?".into(), values: values.into_iter() }
    }

    /// The next column as an integer that may be NULL.
    pub fn int_or_null(&mut self, column: &'static str) -> Result<Option<i64>, StoreError> {
        match self.values.next() {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Text(None) | Value::Bytes(None)) => Ok(None),
            other => Err(self.corrupt(column, &format!("expected an integer, found {other:?}"))),
        }
    }

    /// The next column as text that may be NULL.
    pub fn text_or_null(&mut self, column: &'static str) -> Result<Option<String>, StoreError> {
        match self.values.next() {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Int(None) | Value::Bytes(None)) => Ok(None),
            other => Err(self.corrupt(column, &format!("expected text, found {other:?}"))),
        }
    }

    /// The next column as bytes.
    pub fn bytes(&mut self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        match self.values.next() {
            Some(Value::Bytes(Some(bytes))) => Ok(bytes),
            other => Err(self.corrupt(column, &format!("expected bytes, found {other:?}"))),
        }
    }

    /// The next column as an integer.
    pub fn int(&mut self, column: &'static str) -> Result<i64, StoreError> {
        self.int_or_null(column)?.ok_or_else(|| self.corrupt(column, "NULL"))
    }

    /// The next column as text that names this row in error messages.
    pub fn id(&mut self, column: &'static str) -> Result<String, StoreError> {
        let id = self.text(column)?;
        self.name.clone_from(&id);
        Ok(id)
    }

    /// The next column as text.
    pub fn text(&mut self, column: &'static str) -> Result<String, StoreError> {
        self.text_or_null(column)?.ok_or_else(|| self.corrupt(column, "NULL"))
    }

    /// The next column as a number of a smaller or unsigned type.
    pub fn number<T: TryFrom<i64>>(&mut self, column: &'static str) -> Result<T, StoreError> {
        let number = self.int(column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, &format!("{number} is out of range")))
    }

    /// The same, or NULL.
    pub fn number_or_null<T: TryFrom<i64>>(
        &mut self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let Some(number) = self.int_or_null(column)? else { return Ok(None) };
        let converted = T::try_from(number);
        converted.map(Some).map_err(|_| self.corrupt(column, &format!("{number} is out of range")))
    }

    /// The next column as a time.
    pub fn time(&mut self, column: &'static str) -> Result<Timestamp, StoreError> {
        let ms = self.int(column)?;
        Timestamp::from_millisecond(ms).map_err(|e| self.corrupt(column, &e.to_string()))
    }

    /// The same, or NULL.
    pub fn time_or_null(&mut self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let Some(ms) = self.int_or_null(column)? else { return Ok(None) };
        Timestamp::from_millisecond(ms).map(Some).map_err(|e| self.corrupt(column, &e.to_string()))
    }

    /// The next column as text that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| self.corrupt(column, &format!("`{text}` is not known")))
    }

    /// The error for a column with an invalid value.
    pub fn corrupt(&self, column: &'static str, detail: &str) -> StoreError {
        let row = self.name.clone();
        StoreError::Corrupt { table: self.table, column, row, detail: detail.to_owned() }
    }
}
