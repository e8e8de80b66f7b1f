//! The plain way of an order, where the database writes it as one statement each: it comes and is claimed, and the ERP
//! has it. Most orders never leave it.

use std::collections::HashSet;

use crate::domain::lifecycle::vocabulary::Phase;
use crate::ports::orders::{ConfirmRequest, Confirmed};

use super::admitting::{Entry, fresh};
use super::db::PlainWrites;
use super::work::{Pending, Work};

/// Writes what it can and answers it; the places of what was written. Whatever fails is left for the careful way.
pub(super) async fn write(db: &dyn PlainWrites, works: &[Work]) -> HashSet<usize> {
    let mut written = HashSet::new();
    let entries: Vec<(usize, Entry<'_>)> = works
        .iter()
        .enumerate()
        .filter_map(|(place, work)| match work {
            Work::Admit(pending) => Some((place, Entry::Admit(pending))),
            Work::Accept(pending) => Some((place, Entry::Accept(pending))),
            _ => None,
        })
        .collect();
    insert(db, &entries, &mut written).await;
    let mut seen = HashSet::new();
    let mut receipts: Vec<(usize, &Pending<ConfirmRequest, Confirmed>)> = works
        .iter()
        .enumerate()
        .filter_map(|(place, work)| match work {
            // A notice belongs to an order that had failed.
            Work::Confirm(pending) if pending.request.notice.is_none() => Some((place, &**pending)),
            _ => None,
        })
        .filter(|(_, pending)| seen.insert(&pending.request.key))
        .collect();
    // In the order of their keys, so that two processes never wait for each other in a ring.
    receipts.sort_by(|(_, a), (_, b)| a.request.key.cmp(&b.request.key));
    confirm(db, &receipts, &mut written).await;
    written
}

async fn insert(
    db: &dyn PlainWrites,
    entries: &[(usize, Entry<'_>)],
    written: &mut HashSet<usize>,
) {
    let places: Vec<usize> = entries.iter().map(|(place, _)| *place).collect();
    let entries: Vec<Entry<'_>> = entries.iter().map(|(_, entry)| *entry).collect();
    let (mut fresh, _) = fresh(&entries);
    fresh.retain(|new| new.record.phase == Phase::Queued);
    let rows: Vec<_> = fresh.iter().map(|new| (new.placed, &new.record)).collect();
    if rows.is_empty() {
        return;
    }
    if let Ok(inserted) = db.insert_orders(&rows).await {
        let new = fresh.iter().filter(|new| inserted.contains(&new.record.key));
        written.extend(new.filter_map(|new| places.get(new.place)));
    }
}

async fn confirm(
    db: &dyn PlainWrites,
    receipts: &[(usize, &Pending<ConfirmRequest, Confirmed>)],
    written: &mut HashSet<usize>,
) {
    let rows: Vec<&ConfirmRequest> = receipts.iter().map(|(_, pending)| &pending.request).collect();
    if rows.is_empty() {
        return;
    }
    if let Ok(confirmed) = db.confirm_plain(&rows).await {
        for (place, pending) in receipts {
            if confirmed.contains(&pending.request.key) {
                let (fail_count, other_erp_order_id) = (0, None);
                let is_new_double = false;
                pending.answer(Confirmed {
                    first: true,
                    fail_count,
                    other_erp_order_id,
                    is_new_double,
                });
                written.insert(*place);
            }
        }
    }
}
