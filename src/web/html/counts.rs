//! What waits for a person, counted for the navigation and the title of every page.
//!
//! Each page asks; the ledger is asked at most every two seconds for the same shops.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::order_filter::ShopFilter;
use crate::ops::principal::Principal;
use crate::ops::statistics::Attention;
use crate::ops::verbs::Ops;

/// How old a count may be.
const FRESH: Duration = Duration::from_secs(2);
/// People see all shops or a few: more combinations than that are not remembered.
const MAX_REMEMBERED: usize = 64;

struct Counted {
    shops: ShopFilter,
    at: Timestamp,
    attention: Attention,
}

/// The last counts.
#[derive(Default)]
pub struct Counts(Mutex<Vec<Counted>>);

impl Counts {
    /// What waits in the shops that the person may see; nothing while the ledger does not answer.
    pub async fn of(&self, ops: &Ops, person: &Principal) -> Attention {
        let (shops, now) = (person.readable(), ops.now());
        if let Some(known) = self.fresh(&shops, now) {
            return known;
        }
        let Ok(attention) = ops.attention(person).await else { return Attention::default() };
        self.remember(Counted { shops, at: now, attention });
        attention
    }

    fn fresh(&self, shops: &ShopFilter, now: Timestamp) -> Option<Attention> {
        let known = self.0.lock().ok()?;
        let own = known.iter().find(|counted| counted.shops == *shops)?;
        let age = now.duration_since(own.at).unsigned_abs();
        (age < FRESH).then_some(own.attention)
    }

    fn remember(&self, counted: Counted) {
        let Ok(mut known) = self.0.lock() else { return };
        known.retain(|other| other.shops != counted.shops);
        if known.len() >= MAX_REMEMBERED {
            known.remove(0);
        }
        known.push(counted);
    }
}
