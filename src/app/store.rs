//! Everything that the ledger can do, only the wiring sees all of it.

use crate::devtools::fill::FillLedger;
use crate::ops::verbs::OpsLedger;
use crate::ports::dead_letters::DeadLetterIntake;
use crate::ports::notices::Outbox;
use crate::ports::orders::OrderFailures;
use crate::ports::refresh_tokens::RefreshTokens;
use crate::ports::schema::Schema;
use crate::workers::channel_notifier::ChannelLedger;
use crate::workers::circuit_watcher::CircuitWatcherLedger;
use crate::workers::heartbeat::HeartbeatLedger;
use crate::workers::redriver::RedriverLedger;
use crate::workers::retention::RetentionLedger;
use crate::workers::submitter::admit::SubmitterLedger;
use crate::workers::sweeper::SweeperLedger;

crate::combined_port! {
    pub trait Store: SubmitterLedger, OrderFailures, DeadLetterIntake, Outbox, SweeperLedger, RedriverLedger,
        CircuitWatcherLedger, OpsLedger, ChannelLedger, FillLedger, HeartbeatLedger, RefreshTokens,
        RetentionLedger, Schema
}
