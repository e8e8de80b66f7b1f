//! What administrators must have been told of ERPs and of types of failures after every run.

use jiff::Timestamp;

use crate::devtools::simulation::post::{AUDIENCE, News, reachable};
use crate::devtools::simulation::world::World;
use crate::domain::notice::NoticeKind;
use crate::ports::alarms::{Alarms, Subject, SubjectKind};
use crate::ports::store_error::StoreError;

const CIRCUITS: &str = "every opened circuit that closed is told exactly once";
const TYPES: &str = "every type of failures is told when it begins and when it has ended";
const MOST: u32 = 1_000;

/// What is to be told and was not yet.
pub async fn untold(world: &World) -> Result<Vec<String>, StoreError> {
    let store = &world.parts.ledger;
    let circuits = store.due_alarms(SubjectKind::Circuit, Timestamp::MAX, MOST).await?;
    let closed = circuits.iter().filter(|stored| stored.alarm.on_since.is_none());
    let closed = closed.map(|stored| format!("the end of {} is not told", stored.subject.name()));
    let seen = store.seen_failure_types(MOST).await?;
    let seen = seen.iter().map(|seen| format!("failures {} are not looked at", seen.fingerprint));
    Ok(closed.chain(seen).collect())
}

/// The promises that a settled run has broken, each with what was found.
pub async fn broken(world: &World) -> Result<Vec<(&'static str, String)>, StoreError> {
    let mut broken = Vec::new();
    let beginnings = [NoticeKind::CircuitOpened, NoticeKind::CircuitUnstable];
    for (erp, opened) in world.parts.ledger.openings().await? {
        let subject = Subject::Circuit { erp: erp.clone() };
        let last = world.parts.ledger.alarm(&subject).await?.map(|stored| stored.alarm);
        let still = last.filter(|alarm| !alarm.is_over).map_or(0, |alarm| alarm.times);
        for receiver in reachable() {
            let told = Told::of(world, receiver, &erp, &beginnings, NoticeKind::CircuitClosed);
            let closed: u32 = told.ended.iter().map(|(news, _)| news.times).sum();
            if closed + still != opened {
                let detail = format!(
                    "{erp} opened {opened} times; {receiver} was told of the end of {closed}, and {still} \
                     are not over"
                );
                broken.push((CIRCUITS, detail));
            }
            broken.extend(told.faults().into_iter().map(|detail| (CIRCUITS, detail)));
        }
    }
    let beginnings =
        [NoticeKind::FailureTypeNew, NoticeKind::FailureTypeBack, NoticeKind::FailureTypeUnstable];
    for fingerprint in world.parts.ledger.failure_types().await? {
        let (audience, name) = (AUDIENCE.to_owned(), fingerprint.clone());
        let subject = Subject::FailureType { audience, fingerprint: name };
        let last = world.parts.ledger.alarm(&subject).await?.map(|stored| stored.alarm);
        let still = usize::from(last.is_some_and(|alarm| !alarm.is_over));
        for receiver in reachable() {
            let ends = NoticeKind::FailureTypeEnded;
            let told = Told::of(world, receiver, &fingerprint, &beginnings, ends);
            let (begun, ended) = (told.begun.len(), told.ended.len());
            let new = told.begun.iter().filter(|(news, _)| news.kind == beginnings[0]).count();
            if new != 1 || begun != ended + still {
                let detail = format!(
                    "{receiver} was told of {fingerprint} as new {new} times, of {begun} beginnings and \
                     {ended} ends, and {still} is not over"
                );
                broken.push((TYPES, detail));
            }
            broken.extend(told.faults().into_iter().map(|detail| (TYPES, detail)));
        }
    }
    Ok(broken)
}

/// What one administrator was told of one subject.
struct Told {
    begun: Vec<(News, usize)>,
    ended: Vec<(News, usize)>,
}

impl Told {
    fn of(
        world: &World,
        receiver: &str,
        subject: &str,
        beginnings: &[NoticeKind],
        ends: NoticeKind,
    ) -> Self {
        let news = |kind| world.parts.post.news(receiver, kind, subject);
        Self { begun: beginnings.iter().flat_map(|kind| news(*kind)).collect(), ended: news(ends) }
    }

    /// Mails that say the same twice, and ends of what nobody was told had begun.
    fn faults(&self) -> Vec<String> {
        let twice = self.begun.iter().chain(&self.ended).filter(|(_, mails)| *mails != 1);
        let twice = twice.map(|(news, mails)| format!("{mails} mails say {news:?}"));
        let has_begun = |end: &News| self.begun.iter().any(|(begin, _)| begin.began == end.began);
        let unknown = self.ended.iter().filter(|(end, _)| !has_begun(end));
        twice
            .chain(unknown.map(|(end, _)| format!("nobody was told of the beginning of {end:?}")))
            .collect()
    }
}
