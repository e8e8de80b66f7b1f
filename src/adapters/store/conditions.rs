//! From a filter to a `WHERE`. States and phases are literals, never arguments: only then can a
//! database use an index that covers lost orders alone.

use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order_filter::{OrderFilter, ShopFilter};
use crate::sql_args;

use super::db::Value;

/// A `WHERE` in construction; `?` in a part becomes the number of the next argument.
pub(super) struct Conditions {
    pub(super) text: String,
    pub(super) args: Vec<Value>,
    /// How the shop is named.
    pub(super) shop: &'static str,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { text: "TRUE".to_owned(), args: Vec::new(), shop: "shop" }
    }
}

impl Conditions {
    /// The orders that a filter selects; `shop` is [`Db::SHOP_IN_LISTS`].
    pub(super) fn of(filter: &OrderFilter, shop: &'static str) -> Self {
        let mut conditions = Self { shop, ..Self::default() };
        conditions.place(filter);
        conditions.rest(filter);
        conditions
    }

    /// Only what `order_counts` knows too: state, phase, shops.
    pub(super) fn place(&mut self, filter: &OrderFilter) {
        let phase = filter.phase.as_deref();
        let known = PHASES.into_iter().find(|(_, name)| phase == Some(*name));
        for state in [filter.state, known.map(|(state, _)| state)].into_iter().flatten() {
            self.add(&format!("state = '{}'", state.as_str()), Vec::new());
        }
        match (phase, known) {
            (_, Some((state, name))) => {
                self.add(&format!("phase = '{name}'"), Vec::new());
                if state != OrderState::Confirmed {
                    // SQLite does not infer it, and needs it to use the index `states_open`.
                    self.add("state <> 'confirmed'", Vec::new());
                }
            }
            (Some(unknown), None) => self.add("phase = ?", sql_args![unknown]),
            (None, None) => {}
        }
        if let Some(shop) = &filter.shop {
            self.add(&format!("{} = ?", self.shop), sql_args![shop]);
        }
        self.shops(&filter.shops);
    }

    /// Only these shops.
    pub(super) fn shops(&mut self, shops: &ShopFilter) {
        if !shops.is_all() {
            let (text, args) = shop_condition(self.shop, shops, self.args.len() + 1);
            self.add(&text, args);
        }
    }

    pub(super) fn add(&mut self, part: &str, args: Vec<Value>) {
        let mut number = self.args.len();
        self.text.push_str(" AND ");
        for c in part.chars() {
            match c {
                '?' => {
                    number += 1;
                    self.text.push_str(&format!("${number}"));
                }
                c => self.text.push(c),
            }
        }
        self.args.extend(args);
    }

    fn rest(&mut self, filter: &OrderFilter) {
        if let Some(customer) = &filter.customer {
            self.add("(customer_number = ? OR customer_email = ?)", sql_args![customer, customer]);
        }
        for (column, text) in [
            ("payment", &filter.payment),
            ("error_class", &filter.class),
            ("error_code", &filter.code),
            ("error_fingerprint", &filter.fingerprint),
        ] {
            if let Some(text) = text {
                self.add(&format!("{column} = ?"), sql_args![text]);
            }
        }
        if let Some(sku) = &filter.sku {
            let framed = format!("%{}%", escape_like(&framed([sku.as_str()])));
            self.add("skus LIKE ? ESCAPE '!'", sql_args![framed]);
        }
        if let Some(since) = filter.since {
            self.add("received_at_ms >= ?", sql_args![since]);
        }
        if let Some(until) = filter.until {
            self.add("received_at_ms < ?", sql_args![until]);
        }
        if let Some(search) = &filter.search {
            // SQLite's LOWER knows only ASCII, PostgreSQL's what its locale does.
            let mut typed = vec![search.to_lowercase(), search.to_ascii_lowercase()];
            typed.dedup();
            let like =
                |what: &str| vec![format!("{what} LIKE ? ESCAPE '!'"); typed.len()].join(" OR ");
            let patterns: Vec<Value> =
                typed.iter().map(|text| format!("%{}%", escape_like(text)).into()).collect();
            let error = like("LOWER(error_message)");
            // Lost orders are looked at with their errors. Of all orders few have one: those are found first.
            let error = match is_lost(filter) {
                true => error,
                false => format!(
                    "(shop, order_id) IN (
                      SELECT shop, order_id FROM order_states
                      WHERE error_fingerprint IS NOT NULL AND ({error}))"
                ),
            };
            let part = format!(
                "({} OR {error} OR (shop, order_id) IN (
                  SELECT shop, order_id FROM order_states WHERE erp_order_id = ?
                  UNION ALL
                  SELECT shop, order_id FROM orders WHERE customer_number = ?))",
                like("search_text"),
            );
            let named = sql_args![search, search];
            let args = [&patterns[..], &patterns[..], &named[..]].concat();
            self.add(&part, args);
        }
    }
}

/// Whether `order_counts` alone can answer how many orders match.
pub(super) fn is_counted(filter: &OrderFilter) -> bool {
    let plain = OrderFilter {
        state: filter.state,
        phase: filter.phase.clone(),
        shop: filter.shop.clone(),
        shops: filter.shops.clone(),
        fingerprint: filter.fingerprint.clone(),
        class: filter.class.clone(),
        code: filter.code.clone(),
        ..OrderFilter::default()
    };
    // It knows the failures of lost orders alone.
    let of_failure = [&filter.fingerprint, &filter.class, &filter.code];
    plain == *filter && (is_lost(filter) || of_failure.iter().all(|part| part.is_none()))
}

/// Whether only lost orders match.
fn is_lost(filter: &OrderFilter) -> bool {
    filter.state == Some(OrderState::OrderedFailed)
        || PHASES.iter().any(|(state, name)| {
            *state == OrderState::OrderedFailed && filter.phase.as_deref() == Some(*name)
        })
}

/// Article numbers as `orders.skus` keeps them: each between line breaks, so that one of them is
/// found and never a part of another.
pub(super) fn framed<'a>(skus: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("\n");
    for sku in skus {
        text.push_str(&sku.replace('\n', " "));
        text.push('\n');
    }
    text
}

fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// A condition on the column `shop` with arguments numbered from `first`.
pub fn shop_condition(shop: &str, filter: &ShopFilter, first: usize) -> (String, Vec<Value>) {
    let (not, shops, otherwise) = match filter {
        ShopFilter::Except(shops) => ("NOT ", shops, "TRUE"),
        ShopFilter::Only(shops) => ("", shops, "FALSE"),
    };
    if shops.is_empty() {
        return (otherwise.to_owned(), Vec::new());
    }
    let places: Vec<String> =
        (first..first + shops.len()).map(|number| format!("${number}")).collect();
    (format!("{shop} {not}IN ({})", places.join(", ")), shops.iter().map(Value::from).collect())
}
