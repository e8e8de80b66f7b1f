//! Whether orders flow to an ERP.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::circuit::Circuit;

/// Whether orders flow to an ERP.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CircuitView {
    pub erp: String,
    /// closed, half_open or open.
    pub state: &'static str,
    pub reason: Option<String>,
    #[schemars(with = "Option<String>")]
    pub opened_at: Option<Timestamp>,
    /// `null` while a person holds it.
    #[schemars(with = "Option<String>")]
    pub next_trial_at: Option<Timestamp>,
    pub failed_trials: u32,
}

impl CircuitView {
    /// A circuit.
    pub fn of(circuit: &Circuit) -> Self {
        Self {
            erp: circuit.erp.clone(),
            state: circuit.state.as_str(),
            reason: circuit.reason.clone(),
            opened_at: circuit.opened_at,
            next_trial_at: circuit.trial_at,
            failed_trials: circuit.trials,
        }
    }
}
