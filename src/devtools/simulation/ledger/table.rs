//! One table: rows in the order of their key, and what the transaction in progress has to undo.
//!
//! It is read as the map that it is; every change goes through a method here, so that a transaction that fails
//! leaves nothing behind.

use std::collections::BTreeMap;
use std::ops::Deref;

/// Rows by key.
pub(super) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// What stood at each changed key before, oldest change first.
    undo: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), undo: Vec::new() }
    }
}

impl<K, V> Deref for Table<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.rows
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// Writes a row over whatever stands there.
    pub(super) fn put(&mut self, key: K, row: V) {
        let before = self.rows.insert(key.clone(), row);
        self.undo.push((key, before));
    }

    /// Writes a row where none stands; `false`: one does, and stays.
    pub(super) fn insert_new(&mut self, key: K, row: V) -> bool {
        let is_free = !self.rows.contains_key(&key);
        if is_free {
            self.put(key, row);
        }
        is_free
    }

    /// Deletes a row, and returns whether there was one.
    pub(super) fn delete(&mut self, key: &K) -> bool {
        let before = self.rows.remove(key);
        let existed = before.is_some();
        if existed {
            self.undo.push((key.clone(), before));
        }
        existed
    }

    /// Deletes the rows for which this holds.
    pub(super) fn delete_where(&mut self, condition: impl Fn(&K, &V) -> bool) {
        let gone: Vec<K> = self
            .rows
            .iter()
            .filter(|(key, row)| condition(key, row))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.delete(&key);
        }
    }

    /// Keeps what was changed.
    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Undoes what was changed, the last change first.
    pub(super) fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// Changes a row; `false`: there is none.
    pub(super) fn update(&mut self, key: &K, change: impl FnOnce(&mut V)) -> bool {
        self.update_if(key, |_| true, change)
    }

    /// Changes a row where this holds of it; `false`: there is no such row.
    pub(super) fn update_if(
        &mut self,
        key: &K,
        condition: impl FnOnce(&V) -> bool,
        change: impl FnOnce(&mut V),
    ) -> bool {
        let Some(row) = self.rows.get(key).filter(|row| condition(row)) else { return false };
        let mut row = row.clone();
        change(&mut row);
        self.put(key.clone(), row);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_kept_whole_or_undone_whole() {
        let mut table = Table::<u32, &str>::default();
        table.put(1, "one");
        assert!(table.insert_new(2, "two") && !table.insert_new(2, "other"));
        table.commit();
        let before = table.clone();
        table.put(1, "uno");
        table.put(1, "eins");
        table.put(3, "three");
        assert!(table.delete(&2) && !table.delete(&2));
        table.put(2, "zwei");
        assert!(table.update_if(&3, |row| *row == "three", |row| *row = "drei"));
        assert!(!table.update_if(&3, |row| *row == "three", |row| *row = "tre"));
        table.delete_where(|key, _| *key == 1);
        assert_eq!(*table, BTreeMap::from([(2, "zwei"), (3, "drei")]));
        table.roll_back();
        assert_eq!(*table, before);
    }
}
