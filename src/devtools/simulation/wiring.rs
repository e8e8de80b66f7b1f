//! What the processes of a run share, and what each of them gets of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::SignedDuration;

use crate::adapters::channels::compose::MessageComposer;
use crate::devtools::simulation::broker::client::BrokerClient;
use crate::devtools::simulation::broker::model::BrokerModel;
use crate::devtools::simulation::clock::SkewedClock;
use crate::devtools::simulation::erp::client::{ErpClient, SECOND_ERP, SimulatedErps};
use crate::devtools::simulation::erp::model::ErpModel;
use crate::devtools::simulation::ledger::memory::MemoryLedger;
use crate::devtools::simulation::ledger_weather::{ProcessWeather, Weather};
use crate::devtools::simulation::plan::Setup;
use crate::devtools::simulation::post::{AUDIENCE, PlainComposer, PostModel, administrators};
use crate::devtools::simulation::receivers::{NothingStored, ReceiversModel, channels};
use crate::devtools::simulation::story::Story;
use crate::devtools::simulation::traps::Traps;
use crate::domain::alarm::Damping;
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::retention::RetentionRule;
use crate::ops::login_config::LoginConfig;
use crate::ops::mail_receivers::MailReceivers;
use crate::ops::passwords::Passwords;
use crate::ops::verbs::{Ops, OpsParts};
use crate::ports::channel_book::{ChannelAccess, ChannelBook};
use crate::ports::erps::DEFAULT_ERP;
use crate::telemetry::Metrics;
use crate::workers::context::{ContextParts, WorkerContext};
use crate::workers::erp_gate::Gate;
use crate::workers::ledger_clock::LedgerClock;
use crate::workers::policies::{AlarmPolicy, Policies, ShopPolicy};

/// Largest document of an order, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// What all processes share.
pub struct Parts {
    pub setup: Setup,
    pub story: Arc<Story>,
    /// The ledger, as those see it who are never disturbed.
    pub ledger: MemoryLedger,
    pub weather: Arc<Weather>,
    pub traps: Arc<Traps>,
    pub broker: Arc<BrokerModel>,
    pub erps: Arc<SimulatedErps>,
    pub post: Arc<PostModel>,
    pub composer: Arc<PlainComposer>,
    pub receivers: Arc<ReceiversModel>,
    pub ids: Arc<AtomicU64>,
}

/// What is told of ERPs and of types of failures: quickly enough for a run.
fn alarms() -> AlarmPolicy {
    AlarmPolicy {
        audience: AUDIENCE.to_owned(),
        damping: Damping { unstable_after: 3, window: Duration::from_mins(10) },
        back_within: Duration::from_mins(5),
        failure_types: true,
        ends_after: Duration::from_mins(20),
    }
}

/// The connection of the process with this number.
pub fn connection(process: usize) -> u32 {
    u32::try_from(process).unwrap_or(u32::MAX)
}

/// The name of the process with this number in the story; every start of it has another one in the
/// ledger.
pub fn process_name(process: usize) -> String {
    format!("p{process}")
}

/// The number of the process with this name.
pub fn process_of(name: &str) -> usize {
    let number = name.trim_start_matches('p').split('.').next().unwrap_or_default();
    number.parse().unwrap_or_default()
}

/// Connections of those who are not processes.
const CHECKOUT: u32 = 1_000;
const PEOPLE: u32 = 1_001;

impl Parts {
    /// What the workers of one process have in common; `name` is `p2.5` for the fifth start of
    /// process 2.
    pub fn context(&self, name: &str, clock: Arc<LedgerClock>) -> Arc<WorkerContext> {
        let process = process_of(name);
        let broker = BrokerClient::new(self.broker.clone(), name, connection(process))
            .with_traps(self.traps.clone(), process);
        Arc::new(WorkerContext::new(ContextParts {
            dead_letters: self.store(process),
            broker: Arc::new(broker),
            clock,
            metrics: Arc::new(Metrics::new("simulation", "simulation")),
            policies: self.policies(name),
            worker: name.to_owned(),
            intake: IntakeRules::of_bytes(MAX_BYTES),
            with_confirmed: true,
        }))
    }

    /// The ledger as one process sees it.
    pub fn store(&self, process: usize) -> Arc<MemoryLedger> {
        let traps = self.traps.clone();
        let weather = ProcessWeather { weather: self.weather.clone(), traps, process };
        Arc::new(self.ledger.disturbed_by(Arc::new(weather)))
    }

    /// The clock of a process, which is wrong until it follows the ledger's.
    pub fn clock(&self, process: usize) -> Arc<LedgerClock> {
        Arc::new(LedgerClock::new(Arc::new(self.skewed(self.setup.skews[process]))))
    }

    fn skewed(&self, skew: SignedDuration) -> SkewedClock {
        SkewedClock::new(self.story.clone(), skew, self.ids.clone())
    }

    /// How checkout and other services reach the broker.
    pub fn checkout(&self) -> BrokerClient {
        BrokerClient::new(self.broker.clone(), "checkout", CHECKOUT)
    }

    /// What people can do.
    pub fn ops(&self) -> Ops {
        Ops::new(OpsParts {
            store: self.store(0),
            broker: Arc::new(BrokerClient::new(self.broker.clone(), "people", PEOPLE)),
            // As one that follows the ledger.
            clock: Arc::new(self.skewed(SignedDuration::ZERO)),
            erps: self.erps.clone(),
            retention: RetentionRule::default(),
            intake: IntakeRules::of_bytes(MAX_BYTES),
            transfer_patience: Duration::from_secs(60),
            login: LoginConfig {
                passwords: Passwords::default(),
                idle: Duration::from_hours(1),
                lifetime: Duration::from_hours(12),
                oidc: None,
            },
            receivers: MailReceivers {
                default: Some(administrators()),
                ..MailReceivers::default()
            },
            channels: self.channels(),
        })
    }

    /// The channels, and how they are reached.
    pub fn channels(&self) -> ChannelAccess {
        ChannelAccess {
            book: ChannelBook::new(channels(self.setup.digest), Arc::new(NothingStored)),
            composer: Arc::new(MessageComposer::new("https://relay.example.com")),
            sender: self.receivers.clone(),
        }
    }

    fn policies(&self, process: &str) -> Policies {
        let policy = |name: &str, erp: &Arc<ErpModel>| {
            let (erp, traps) = (erp.clone(), self.traps.clone());
            let client = ErpClient::of_process(erp, process, traps, process_of(process));
            let (max, rate, rule) = (self.setup.max_in_flight, self.setup.rate, self.setup.circuit);
            ShopPolicy {
                gate: Arc::new(Gate::new(name, Arc::new(client), max, rate, rule)),
                max_count: self.setup.max_count,
                retry: self.setup.retry.clone(),
                asks_first: false,
                customer: self.setup.customer,
                alarms: alarms(),
            }
        };
        let second = self.erps.second.iter();
        let shops: HashMap<String, ShopPolicy> =
            second.map(|erp| (SECOND_ERP.to_owned(), policy(SECOND_ERP, erp))).collect();
        Policies { default: policy(DEFAULT_ERP, &self.erps.default), shops }
    }
}
