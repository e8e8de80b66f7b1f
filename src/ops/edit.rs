//! Editing lost orders: one document by hand, or the same change in many as a JSON Patch (RFC 6902).
//!
//! An edit creates a revision beside the original and sends nothing. The number and the shop
//! identify an order in the ledger, on the broker and in the ERP: they never change
//! (docs/decisions/0009).

use std::sync::Arc;

use json_patch::Patch;
use serde::Serialize;
use serde_json::Value;

use crate::domain::edit::{Difference, LOCKED, changed_locks, differences};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::document::Order;
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::faults::faults;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::domain::text::one_line;
use crate::ports::audit::Act;
use crate::ports::order_desk::{EditRequest, NotEdited, OrderDetail, Revision};
use crate::ports::redrives::Selection;

use crate::ops::principal::authorize_order;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// Most orders that one patch changes.
pub const MAX_PATCHED: u32 = 10_000;
/// Most operations of a patch.
const MAX_OPERATIONS: usize = 1_000;
/// Most characters of the places that an audit row names.
const MAX_PLACES: usize = 500;

/// The preview of an edit.
#[derive(Debug, Clone, Serialize)]
pub struct Review {
    /// The faults that keep it from being an order, each at its place.
    #[serde(skip)]
    pub faults: Vec<Fault>,
    /// Where it differs from what would be sent now.
    pub differences: Vec<Difference>,
}

/// A stored edit.
#[derive(Debug, Clone)]
pub struct Edited {
    /// The order as it is now.
    pub record: OrderRecord,
    /// The number of its newest revision.
    pub revision: u32,
    /// Where it differs from the revision before.
    pub differences: Vec<Difference>,
}

/// What a patch would do to one order.
#[derive(Debug, Clone)]
pub struct PatchPreview {
    pub key: OrderKey,
    /// The revision that would be changed.
    pub revision: u32,
    /// The differences, or why it would not be changed.
    pub outcome: Result<Vec<Difference>, String>,
}

impl Ops {
    /// Previews an edit without storing it.
    pub fn review_edit(&self, detail: &OrderDetail, edited: &str) -> Review {
        Review {
            faults: self.faults_of(&detail.record.key, edited),
            differences: differences(detail.current(), edited),
        }
    }

    /// Makes `edited` the newest revision of an order, if `base_revision` still is.
    pub async fn edit(
        &self,
        key: &OrderKey,
        base_revision: u32,
        edited: &str,
        act: &Act,
    ) -> Result<Edited, Refusal> {
        authorize_order(act, Permission::Edit, key)?;
        let (record, current) = self.current(key).await?;
        self.store_edit(&record, &current, base_revision, edited, act).await
    }

    async fn current(&self, key: &OrderKey) -> Result<(OrderRecord, Arc<str>), Refusal> {
        let found = self.store.current(std::slice::from_ref(key)).await?.pop();
        found.ok_or_else(|| Refusal::not_found("order", key))
    }

    async fn store_edit(
        &self,
        record: &OrderRecord,
        current: &str,
        base_revision: u32,
        edited: &str,
        act: &Act,
    ) -> Result<Edited, Refusal> {
        let key = &record.key;
        if record.revision == base_revision {
            // Otherwise the locked fields would be compared with a document that the editor never
            // saw.
            self.require_locks(key, current, edited, act)?;
        }
        let faults = self.faults_of(key, edited);
        if !faults.is_empty() {
            return Err(Refusal::Unprocessable(faults));
        }
        let differences = differences(current, edited);
        if differences.is_empty() && record.revision == base_revision {
            let nothing = Fault::whole(Reason::Schema, "nothing was changed");
            return Err(Refusal::Unprocessable(vec![nothing]));
        }
        let order = Order::parse(edited.as_bytes(), &self.intake)
            .map_err(|fault| Refusal::Unprocessable(vec![fault]))?;
        let places: Vec<&str> = differences.iter().map(|d| d.place.as_str()).collect();
        let request = EditRequest {
            key: key.clone(),
            base_revision,
            edited: Arc::new(order),
            places: one_line(&places.join(", "), MAX_PLACES),
            act: act.clone(),
        };
        match self.store.edit_order(request).await? {
            Ok(record) => Ok(Edited { revision: record.revision, record, differences }),
            Err(NotEdited::Unknown) => Err(Refusal::not_found("order", key)),
            Err(NotEdited::Invalid(invalid)) => Err(Refusal::Invalid { key: key.clone(), invalid }),
            Err(NotEdited::Newer(newer)) => Err(conflict(key, base_revision, &newer)),
        }
    }

    /// Faults of a document that is to be a revision of this order.
    fn faults_of(&self, key: &OrderKey, edited: &str) -> Vec<Fault> {
        let mut found = faults(edited.as_bytes(), &self.intake);
        if let Ok(order) = Order::parse(edited.as_bytes(), &self.intake) {
            let [order_id, shop, ..] = LOCKED;
            for (place, same) in
                [(order_id, order.key.order_id == key.order_id), (shop, order.key.shop == key.shop)]
            {
                if !same {
                    found.push(Fault::at(Reason::Schema, place, OTHER_ORDER));
                }
            }
        }
        found
    }

    fn require_locks(
        &self,
        key: &OrderKey,
        current: &str,
        edited: &str,
        act: &Act,
    ) -> Result<(), Refusal> {
        match changed_locks(current, edited).is_empty() {
            true => Ok(()),
            false => authorize_order(act, Permission::EditLocked, key),
        }
    }

    /// A document with a patch applied; every digit of every number stays as it is.
    pub fn patch_document(document: &str, patch: &Patch) -> Result<String, Fault> {
        let unreadable = |e: serde_json::Error| Fault::whole(Reason::NotJson, e.to_string());
        let mut value: Value = serde_json::from_str(document).map_err(unreadable)?;
        let before = value.clone();
        json_patch::patch(&mut value, patch).map_err(|error| {
            let step = error.operation;
            let detail = format!("operation {} of the patch: {}", step + 1, error.kind);
            Fault::at(Reason::Schema, error.path.to_string(), one_line(&detail, 300))
        })?;
        keep_order(&before, &mut value);
        serde_json::to_string(&value).map_err(unreadable)
    }

    /// Reads a patch.
    pub fn read_patch(&self, text: &str) -> Result<Patch, Refusal> {
        let fault = |detail: String| {
            let told = format!("this is not a JSON Patch (RFC 6902): {}", one_line(&detail, 300));
            Refusal::Unprocessable(vec![Fault::whole(Reason::Schema, told)])
        };
        if text.len() > self.intake.max_bytes {
            return Err(fault(format!("it has more than {} bytes", self.intake.max_bytes)));
        }
        let patch: Patch = serde_json::from_str(text).map_err(|e| fault(e.to_string()))?;
        match patch.0.len() {
            0 => Err(fault("it has no operation".to_owned())),
            count if count > MAX_OPERATIONS => {
                Err(fault(format!("it has more than {MAX_OPERATIONS} operations")))
            }
            _ => Ok(patch),
        }
    }

    /// What a patch would do to each of many orders; nothing is changed.
    pub async fn preview_patch(
        &self,
        selection: &Selection,
        patch: &str,
        act: &Act,
    ) -> Result<Vec<PatchPreview>, Refusal> {
        let patch = self.read_patch(patch)?;
        let selected = self.select(selection, act, MAX_PATCHED).await?;
        let mut previews = Vec::with_capacity(selected.orders.len());
        for some in selected.keys().chunks(500) {
            let mut found = self.store.current(some).await?;
            found.sort_by(|a, b| (a.0.received_at, &a.0.key).cmp(&(b.0.received_at, &b.0.key)));
            for (record, current) in found {
                let outcome = self.preview_one(&record, &current, &patch, act);
                previews.push(PatchPreview {
                    key: record.key,
                    revision: record.revision,
                    outcome: outcome.map_err(|refusal| refusal.to_string()),
                });
            }
        }
        for key in selected.unknown {
            let outcome = Err(format!("there is no order {key}"));
            previews.push(PatchPreview { key, revision: 0, outcome });
        }
        Ok(previews)
    }

    fn preview_one(
        &self,
        record: &OrderRecord,
        current: &str,
        patch: &Patch,
        act: &Act,
    ) -> Result<Vec<Difference>, Refusal> {
        let key = &record.key;
        authorize_order(act, Permission::Edit, key)?;
        let refused = |fault| Refusal::Unprocessable(vec![fault]);
        let edited = Self::patch_document(current, patch).map_err(refused)?;
        self.require_locks(key, current, &edited, act)?;
        let faults = self.faults_of(key, &edited);
        if !faults.is_empty() {
            return Err(Refusal::Unprocessable(faults));
        }
        let differences = differences(current, &edited);
        if differences.is_empty() {
            return Err(refused(Fault::whole(Reason::Schema, "nothing was changed")));
        }
        let edit = record.clone().edit(record.facts.clone(), act.now);
        edit.map_err(|invalid| Refusal::Invalid { key: key.clone(), invalid })?;
        Ok(differences)
    }

    /// The same change in many orders, each only if it still has the previewed revision; returns
    /// the new revision, or why not.
    pub async fn apply_patch(
        &self,
        orders: &[(OrderKey, u32)],
        patch: &str,
        act: &Act,
    ) -> Result<Vec<(OrderKey, Result<u32, String>)>, Refusal> {
        let patch = self.read_patch(patch)?;
        if orders.len() > usize::try_from(MAX_PATCHED).unwrap_or(usize::MAX) {
            let told = format!("a patch changes at most {MAX_PATCHED} orders at once");
            return Err(Refusal::Unprocessable(vec![Fault::whole(Reason::TooLarge, told)]));
        }
        let mut results = Vec::with_capacity(orders.len());
        for (key, revision) in orders {
            // Each has an audit row of its own.
            let act = Act { id: self.unique_id(), ..act.clone() };
            let result = match self.patch_one(key, *revision, &patch, &act).await {
                Ok(edited) => Ok(edited.revision),
                Err(Refusal::Store(error)) => return Err(Refusal::Store(error)),
                Err(refusal) => Err(refusal.to_string()),
            };
            results.push((key.clone(), result));
        }
        Ok(results)
    }

    async fn patch_one(
        &self,
        key: &OrderKey,
        base_revision: u32,
        patch: &Patch,
        act: &Act,
    ) -> Result<Edited, Refusal> {
        authorize_order(act, Permission::Edit, key)?;
        let (record, current) = self.current(key).await?;
        let edited = Self::patch_document(&current, patch);
        let edited = edited.map_err(|fault| Refusal::Unprocessable(vec![fault]))?;
        self.store_edit(&record, &current, base_revision, &edited, act).await
    }
}

/// Restores the order of the fields of objects: removing a field moves the last one into its place.
fn keep_order(before: &Value, after: &mut Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut moved = std::mem::take(after);
            for (name, was) in before {
                if let Some(mut value) = moved.shift_remove(name) {
                    keep_order(was, &mut value);
                    after.insert(name.clone(), value);
                }
            }
            after.extend(moved);
        }
        (Value::Array(before), Value::Array(after)) => {
            before.iter().zip(after).for_each(|(was, value)| keep_order(was, value));
        }
        _ => {}
    }
}

const OTHER_ORDER: &str = "an order keeps its number and its shop, because the ERP may be asked about it by them: remove this one with a reason and submit another with the correct ones";

fn conflict(key: &OrderKey, base_revision: u32, newer: &Revision) -> Refusal {
    Refusal::Stale { key: key.clone(), base: base_revision, newest: Box::new(newer.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(document: &str, patch: &str) -> Result<String, String> {
        let patch: Patch = serde_json::from_str(patch).unwrap();
        Ops::patch_document(document, &patch).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_patch_keeps_every_digit_and_the_place_of_every_field() {
        let document = r#"{"z":1.10,"a":[1e400,-0,-0.0,12345678901234567890123456789.000000000000000000001,1E+5,0.1e-7],"m":{"y":"1.0","b":null}}"#;
        let patch = r#"[{"op":"replace","path":"/m/b","value":49.950000000000000000000000000001},{"op":"add","path":"/a/-","value":100000000000000000000.10}]"#;
        // An exponent is written in its one way; no digit is touched.
        let expected = r#"{"z":1.10,"a":[1e+400,-0,-0.0,12345678901234567890123456789.000000000000000000001,1e+5,0.1e-7,100000000000000000000.10],"m":{"y":"1.0","b":49.950000000000000000000000000001}}"#;
        assert_eq!(patched(document, patch).unwrap(), expected);
        let removed = patched(r#"{"a":1,"b":2,"c":3,"d":4}"#, r#"[{"op":"remove","path":"/b"}]"#);
        assert_eq!(removed.unwrap(), r#"{"a":1,"c":3,"d":4}"#);
    }

    #[test]
    fn a_patch_that_does_not_fit_names_its_operation_and_place() {
        let test = r#"[{"op":"test","path":"/a","value":1.0},{"op":"remove","path":"/a"}]"#;
        assert_eq!(patched(r#"{"a":1.0}"#, test).unwrap(), "{}");
        let told = patched(r#"{"a":1.00}"#, test).unwrap_err();
        assert!(told.starts_with("at /a: operation 1 of the patch"), "{told}");
        let told = patched("{}", r#"[{"op":"replace","path":"/lines/0/sku","value":"x"}]"#);
        assert!(told.unwrap_err().starts_with("at /lines/0/sku: operation 1 of the patch"));
    }
}
