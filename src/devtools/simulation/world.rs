//! The world of one run: everything that takes part in it, and the steps that befall it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::devtools::simulation::broker::model::BrokerModel;
use crate::devtools::simulation::checkout::{Checkout, key_of};
use crate::devtools::simulation::clock::SkewedClock;
use crate::devtools::simulation::erp::client::{SECOND_ERP, SimulatedErps};
use crate::devtools::simulation::erp::model::ErpModel;
use crate::devtools::simulation::ledger::memory::MemoryLedger;
use crate::devtools::simulation::ledger_weather::Weather;
use crate::devtools::simulation::people::People;
use crate::devtools::simulation::plan::{PREFIX, Plan};
use crate::devtools::simulation::post::{PlainComposer, PostModel};
use crate::devtools::simulation::processes::Process;
use crate::devtools::simulation::receivers::ReceiversModel;
use crate::devtools::simulation::schedule::{
    BrokerTrouble, PostTrouble, ProcessTrouble, Step, What,
};
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::{SCHEDULE, Story};
use crate::devtools::simulation::traps::{Spring, Trap, Traps};
use crate::devtools::simulation::wiring::{Parts, connection, process_name};
use crate::domain::topology::{Names, Topology};
use crate::ports::erps::DEFAULT_ERP;

/// A session of a process that is not scheduled ends after two missed heartbeats.
const HEARTBEATS: Duration = Duration::from_secs(20);

/// Everything of one run.
pub struct World {
    pub plan: Plan,
    pub parts: Parts,
    pub checkout: Checkout,
    pub people: People,
    processes: Shared<Vec<Place>>,
    sprung: Shared<Option<UnboundedReceiver<Trap>>>,
    tasks: Shared<JoinSet<()>>,
}

/// Where a process runs.
#[derive(Default)]
struct Place {
    process: Option<Process>,
    starts: u32,
}

impl World {
    /// The world of `plan`, in which nothing runs yet.
    pub fn new(plan: &Plan, story: &Arc<Story>) -> Arc<Self> {
        let (setup, seed) = (plan.setup.clone(), plan.seed);
        let topology = Topology::new(Names::new(PREFIX), &setup.retry.schedule);
        let erp = |name: &str, nature| Arc::new(ErpModel::new(name, nature, seed, story.clone()));
        let erps = SimulatedErps {
            default: erp(DEFAULT_ERP, setup.erp),
            second: setup.second_erp.map(|nature| erp(SECOND_ERP, nature)),
        };
        let (traps, sprung) = Traps::new();
        let ids = Arc::new(AtomicU64::new(1));
        let clock = SkewedClock::new(story.clone(), SignedDuration::ZERO, ids.clone());
        let parts = Parts {
            traps: Arc::new(traps),
            story: story.clone(),
            ledger: MemoryLedger::default().with_clock(Arc::new(clock)),
            weather: Arc::new(Weather::new(seed, story.clone())),
            broker: Arc::new(BrokerModel::new(seed, topology, story.clone())),
            erps: Arc::new(erps),
            post: Arc::new(PostModel::new(seed, story.clone())),
            receivers: Arc::new(ReceiversModel::new(seed, story.clone())),
            composer: Arc::new(PlainComposer { digest: setup.digest }),
            ids,
            setup,
        };
        let ops = Arc::new(parts.ops());
        let places = (0..parts.setup.processes()).map(|_| Place::default());
        Arc::new(Self {
            plan: plan.clone(),
            checkout: Checkout::new(&parts, ops.clone(), seed),
            people: People::new(&parts, ops, seed),
            processes: Shared::new(places.collect()),
            sprung: Shared::new(Some(sprung)),
            tasks: Shared::default(),
            parts,
        })
    }

    /// Starts the broker and every process.
    pub fn start(self: &Arc<Self>) {
        let broker = self.parts.broker.clone();
        self.tasks.get().spawn(broker.run_delays());
        if let Some(sprung) = self.sprung.get().take() {
            self.later(self.clone().run_traps(sprung));
        }
        (0..self.parts.setup.processes()).for_each(|process| self.start_process(process));
    }

    /// Lets a step happen.
    pub fn befall(self: &Arc<Self>, step: &Step) {
        if !matches!(step.what, What::Place(_) | What::Person(_)) {
            self.parts.story.tell(SCHEDULE, step);
        }
        let lasts = step.lasts;
        match &step.what {
            What::Place(placement) => {
                let (world, placement) = (self.clone(), placement.clone());
                let erp = self.parts.erps.of(placement.shop);
                if let Some(poison) = placement.poison {
                    erp.is_poisoned_by(&key_of(&placement), poison);
                }
                self.later(async move { world.checkout.place(&placement).await });
            }
            What::Person(verb) => {
                let (world, verb) = (self.clone(), *verb);
                self.later(async move { world.people.act(verb).await });
            }
            What::Process(trouble) => self.trouble_process(*trouble, lasts),
            What::Broker(trouble) => self.trouble_broker(trouble, lasts),
            What::Ledger(trouble) => self.parts.weather.befall(*trouble, lasts),
            What::Erp { second, mood, share } => {
                let shop = if *second { SECOND_ERP } else { DEFAULT_ERP };
                self.parts.erps.of(shop).gets(*mood, *share, lasts);
            }
            What::Post(trouble) => self.trouble_post(*trouble, lasts),
        }
    }

    /// What befalls the mail server befalls the receivers of channels in their way.
    fn trouble_post(&self, trouble: PostTrouble, lasts: Duration) {
        let (post, receivers) = (&self.parts.post, &self.parts.receivers);
        match trouble {
            PostTrouble::Away => {
                post.is_away(lasts);
                receivers.are_away(lasts);
            }
            PostTrouble::AnswersLost => {
                post.is_silent(lasts);
                receivers.are_silent(lasts);
            }
            PostTrouble::OneReceiverBusy => {
                post.is_busy(lasts);
                receivers.one_is_busy(lasts);
            }
            PostTrouble::OneReceiverNarrow => {
                post.is_narrow(lasts);
                receivers.are_narrow(lasts);
            }
        }
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.parts.story.tell(SCHEDULE, "all is well from now on");
        self.parts.traps.disarm();
        self.parts.weather.heal();
        self.parts.broker.heal();
        self.parts.post.heal();
        self.parts.receivers.heal();
        self.parts.erps.all().for_each(|erp| erp.heal());
        if self.parts.setup.max_count.is_none() {
            self.parts.erps.all().for_each(|erp| erp.forgives());
        }
        for place in &*self.processes.get() {
            place.process.iter().for_each(Process::wake);
        }
    }

    /// Everybody dies, and nothing happens any more.
    pub fn end(&self) {
        self.processes.get().clear();
        self.tasks.get().abort_all();
    }

    fn later(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.get().spawn(work);
    }

    fn start_process(self: &Arc<Self>, process: usize) {
        let mut processes = self.processes.get();
        let place = &mut processes[process];
        if place.process.is_some() {
            return;
        }
        place.starts += 1;
        let name = format!("{}.{}", process_name(process), place.starts);
        self.parts.story.tell(&name, "starts");
        place.process = Some(Process::start(&self.parts, &name));
    }

    /// Lets happen what traps do.
    async fn run_traps(self: Arc<Self>, mut sprung: UnboundedReceiver<Trap>) {
        while let Some(trap) = sprung.recv().await {
            self.parts.story.tell(SCHEDULE, format_args!("{trap:?}"));
            let trouble = match trap.spring {
                Spring::Dies => ProcessTrouble::Dies(trap.process),
                Spring::Sleeps => ProcessTrouble::Sleeps(trap.process),
            };
            self.trouble_process(trouble, trap.lasts);
        }
    }

    fn take(&self, process: usize) -> Option<Process> {
        self.processes.get()[process].process.take()
    }

    fn trouble_process(self: &Arc<Self>, trouble: ProcessTrouble, lasts: Duration) {
        let world = self.clone();
        match trouble {
            ProcessTrouble::Dies(process) => {
                drop(self.take(process));
                self.parts.broker.end_session(connection(process));
                self.later(async move {
                    tokio::time::sleep(lasts).await;
                    world.start_process(process);
                });
            }
            ProcessTrouble::Sleeps(process) => {
                self.processes.get()[process].process.iter().for_each(Process::sleep);
                self.later(async move {
                    tokio::time::sleep(lasts.min(HEARTBEATS)).await;
                    if lasts > HEARTBEATS {
                        world.parts.broker.end_session(connection(process));
                        tokio::time::sleep(lasts - HEARTBEATS).await;
                    }
                    world.processes.get()[process].process.iter().for_each(Process::wake);
                });
            }
            ProcessTrouble::Trapped(process, point, spared, spring) => {
                self.parts.traps.arm(Trap { process, point, spared, spring, lasts });
            }
            ProcessTrouble::Restarts(process) => {
                let Some(taken) = self.take(process) else { return };
                self.later(async move {
                    taken.drain().await;
                    world.parts.broker.end_session(connection(process));
                    tokio::time::sleep(lasts).await;
                    world.start_process(process);
                });
            }
        }
    }

    fn trouble_broker(&self, trouble: &BrokerTrouble, lasts: Duration) {
        let broker = &self.parts.broker;
        match trouble {
            BrokerTrouble::Away => broker.is_away(lasts),
            BrokerTrouble::SessionEnds(process) => broker.end_session(connection(*process)),
            BrokerTrouble::ConsumerEnds(process, queue) => {
                broker.cancel_consumer(connection(*process), &format!("{PREFIX}.{queue}"));
            }
            BrokerTrouble::ConfirmsLost(count) => broker.lose_confirms(*count),
            BrokerTrouble::Doubled(count) => broker.double(*count),
            BrokerTrouble::Alarm => broker.is_alarmed(lasts),
            BrokerTrouble::Minority => broker.is_minority(lasts),
            BrokerTrouble::Full(queue) => broker.fill(&format!("{PREFIX}.{queue}"), lasts),
            BrokerTrouble::StrangerFull => broker.fill_stranger(lasts),
        }
    }
}
