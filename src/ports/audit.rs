//! Who does something by hand, why and when.

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::order_filter::ShopFilter;
use crate::domain::permission::Grants;
use crate::ports::store_error::StoreError;

/// What people did.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// What people did, newest first.
    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;
}

/// Who makes a change by hand, why and when; every such change writes an audit row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The audit row's id.
    pub id: Uuid,
    /// Who.
    pub actor: String,
    /// From which address, where that is known.
    pub from: Option<String>,
    /// Their permissions, which `ops` checks first.
    pub grants: Grants,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub now: Timestamp,
}

/// An action of a person.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From which address, where that was known.
    pub from: Option<String>,
    /// What.
    pub action: String,
    /// To what: an order's key, or the kind and name of something else.
    pub target: String,
    /// Why.
    pub reason: Option<String>,
    /// What it was before: an order's state and phase.
    pub before: Option<String>,
    /// What it was after.
    pub after: Option<String>,
}

/// Which audit rows to list; every part that is set must match.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Who.
    pub actor: Option<String>,
    /// The action, or a prefix that ends with a dot.
    pub action: Option<String>,
    /// To what.
    pub target: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Shops that the reader may see; rows that belong to no shop only with all of them.
    pub shops: ShopFilter,
}

/// An audit row with its id.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct AuditRow {
    /// Its id.
    #[schemars(with = "String")]
    pub id: Uuid,
    /// What was done.
    #[serde(flatten)]
    pub entry: AuditEntry,
}
