//! The plan of a redrive: a selection of orders, with those that are left out and why.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::money::{Purse, Sum};
use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{Mark, OrderFilter, ShopFilter, SortBy};
use crate::domain::permission::Permission;
use crate::domain::redrive::{Exclusion, ItemStatus, MAX_ORDERS, RedriveThrottle};
use crate::ports::audit::Act;
use crate::ports::redrives::{NewRedrive, Redrive, RedriveItem, Selection};

use crate::ops::principal::authorize;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// Rows fetched at a time.
const PAGE: u32 = 5_000;
/// How many keys of a plan of named orders are stored as its selection.
const TOLD_KEYS: usize = 100;

/// What a selection found.
pub struct Selected {
    /// Orders of the ledger, oldest first.
    pub orders: Vec<OrderRecord>,
    /// Named orders that do not exist or that the caller may not see.
    pub unknown: Vec<OrderKey>,
}

impl Selected {
    pub(super) fn keys(&self) -> Vec<OrderKey> {
        self.orders.iter().map(|order| order.key.clone()).collect()
    }
}

impl Ops {
    /// Stores a selection as a plan; nothing is sent.
    pub async fn plan_redrive(
        &self,
        selection: Selection,
        pace: RedriveThrottle,
        act: &Act,
    ) -> Result<Redrive, Refusal> {
        let plan = self.draft_redrive(selection, pace, act).await?;
        let id = plan.id;
        self.store.add_redrive(plan, act).await?;
        self.any_redrive(id).await
    }

    /// The plan, without storing it.
    pub async fn draft_redrive(
        &self,
        selection: Selection,
        pace: RedriveThrottle,
        act: &Act,
    ) -> Result<NewRedrive, Refusal> {
        pace.check().map_err(|told| unprocessable(Reason::Schema, &told))?;
        let selected = self.select(&selection, act, MAX_ORDERS).await?;
        let shops: BTreeSet<&str> = selected.orders.iter().map(|o| o.key.shop.as_str()).collect();
        if shops.is_empty() {
            authorize_anywhere(act)?;
        }
        for shop in shops {
            authorize(act, Permission::Process, Some(shop))?;
        }
        let (mut items, mut left_out) = (Vec::new(), Vec::new());
        let (mut known, mut purse) = (BTreeSet::new(), Purse::default());
        for order in &selected.orders {
            match Exclusion::of(order) {
                None => {
                    known
                        .extend(order.last_failure.as_ref().map(|f| f.summary.fingerprint.clone()));
                    let facts = &order.facts;
                    purse.add(facts.currency.as_str(), Sum::of_total(facts.total.as_str()));
                    items.push(item(order, ItemStatus::Waiting, None));
                }
                Some(why) => left_out.push(item(order, ItemStatus::Excluded, Some(why))),
            }
        }
        items.append(&mut left_out);
        // Nothing is stored about shops that the planner may not see, so that they may see their
        // own plan.
        let reads = |key: &OrderKey| act.grants.allows(Permission::Read, Some(key.shop.as_str()));
        items.extend(selected.unknown.into_iter().filter(reads).map(unknown_item));
        for (seq, item) in (1u64..).zip(&mut items) {
            item.seq = seq;
        }
        let selection = match selection {
            Selection::Orders(mut keys) => {
                keys.truncate(TOLD_KEYS);
                Selection::Orders(keys)
            }
            other => other,
        };
        let known_fingerprints = known.into_iter().collect();
        let (id, money) = (self.unique_id(), purse.into_money());
        Ok(NewRedrive { id, selection, pace, known_fingerprints, money, items })
    }

    /// The orders of a selection, oldest first; refused when they are more than `most`.
    pub(super) async fn select(
        &self,
        selection: &Selection,
        act: &Act,
        most: u32,
    ) -> Result<Selected, Refusal> {
        let (mut orders, mut unknown) = match selection {
            Selection::Filter(pairs) => {
                let pairs = pairs.iter().map(|(name, text)| (name.as_str(), text.as_str()));
                (self.matching(&self.read_filter(pairs, act)?, most).await?, vec![])
            }
            Selection::Group(fingerprint) => {
                let filter = self.read_filter([("fingerprint", fingerprint.as_str())], act)?;
                (self.matching(&filter, most).await?, vec![])
            }
            Selection::Orders(keys) => self.named(keys).await?,
            Selection::FailedOf(id) => {
                let (mut orders, _) = self.named(&self.unfinished_of(*id).await?).await?;
                orders.retain(|order| order.phase.state() == OrderState::OrderedFailed);
                (orders, vec![])
            }
        };
        // What the caller may not see does not exist for them.
        let may_see = |key: &OrderKey| act.grants.allows(Permission::Read, Some(key.shop.as_str()));
        let (seen, hidden): (Vec<_>, Vec<_>) =
            orders.into_iter().partition(|order| may_see(&order.key));
        orders = seen;
        if matches!(selection, Selection::Orders(_)) {
            unknown.extend(hidden.into_iter().map(|order| order.key));
        }
        if orders.len() + unknown.len() > usize::try_from(most).unwrap_or(usize::MAX) {
            let told = format!("more than {most} orders: choose fewer, for example by a time span");
            return Err(unprocessable(Reason::TooLarge, &told));
        }
        orders.sort_by(|a, b| (a.received_at, &a.key).cmp(&(b.received_at, &b.key)));
        Ok(Selected { orders, unknown })
    }

    async fn matching(&self, filter: &OrderFilter, most: u32) -> Result<Vec<OrderRecord>, Refusal> {
        let sort = SortBy::Received.natural();
        let mut orders: Vec<OrderRecord> = Vec::new();
        loop {
            let after = orders.last().map(|last| Mark::of(last, sort));
            let page = self.store.page_orders(filter, sort, after.as_ref(), PAGE).await?;
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            orders.extend(page);
            // One more than allowed is enough to refuse.
            if is_last || orders.len() > usize::try_from(most).unwrap_or(usize::MAX) {
                return Ok(orders);
            }
        }
    }

    /// A filter of what `act` may see; of lost orders unless it names a state or a phase.
    fn read_filter<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        act: &Act,
    ) -> Result<OrderFilter, Refusal> {
        let mut filter = OrderFilter::from_pairs(pairs, act.now)?;
        if filter.phase.is_none() {
            filter.state = filter.state.or(Some(OrderState::OrderedFailed));
        }
        if let Some(shops) = act.grants.shops_allowing(Permission::Read) {
            filter.shops = ShopFilter::Only(shops);
        }
        Ok(filter)
    }

    async fn named(&self, keys: &[OrderKey]) -> Result<(Vec<OrderRecord>, Vec<OrderKey>), Refusal> {
        let mut seen = HashSet::new();
        let keys: Vec<OrderKey> =
            keys.iter().filter(|key| seen.insert((*key).clone())).cloned().collect();
        let mut found = HashMap::new();
        for record in self.store.records(&keys).await? {
            found.insert(record.key.clone(), record);
        }
        let unknown = keys.into_iter().filter(|key| !found.contains_key(key)).collect();
        Ok((found.into_values().collect(), unknown))
    }

    /// The orders of a redrive that it did not transfer.
    async fn unfinished_of(&self, id: Uuid) -> Result<Vec<OrderKey>, Refusal> {
        self.any_redrive(id).await?;
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.redrive_items(id, None, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(keys) };
            after = Some(last.seq);
            let left = page.into_iter().filter(|item| item.status != ItemStatus::Transferred);
            keys.extend(left.map(|item| item.key));
        }
    }
}

/// Something that belongs to no shop: permission in one shop is enough.
pub(super) fn authorize_anywhere(act: &Act) -> Result<(), Refusal> {
    match act.grants.shops_allowing(Permission::Process) {
        Some(shops) if shops.is_empty() => authorize(act, Permission::Process, None),
        _ => Ok(()),
    }
}

pub(super) fn unprocessable(reason: Reason, told: &str) -> Refusal {
    Refusal::Unprocessable(vec![Fault::whole(reason, told)])
}

fn item(order: &OrderRecord, status: ItemStatus, why: Option<Exclusion>) -> RedriveItem {
    RedriveItem {
        seq: 0,
        key: order.key.clone(),
        revision: order.revision,
        status,
        why: why.map(|why| why.as_str().to_owned()),
        attempt: None,
        failure: None,
        erp_order_id: None,
        currency: order.facts.currency.to_string(),
        total: order.facts.total.to_string(),
        at: None,
    }
}

fn unknown_item(key: OrderKey) -> RedriveItem {
    RedriveItem {
        seq: 0,
        key,
        revision: 0,
        status: ItemStatus::Excluded,
        why: Some(Exclusion::UnknownOrder.as_str().to_owned()),
        attempt: None,
        failure: None,
        erp_order_id: None,
        currency: String::new(),
        total: String::new(),
        at: None,
    }
}
