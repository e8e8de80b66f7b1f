//! Which orders a redrive or a patch means.

use crate::cli::flags::Filter;
use clap::Args;
use std::collections::BTreeMap;

use crate::cli::change::find_all;
use crate::cli::exit::Misuse;
use crate::cli::listing;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::redrives::Selection;

/// The orders of a command line.
pub async fn selection(ops: &Ops, select: &Select, act: &Act) -> anyhow::Result<Selection> {
    if !select.ids.is_empty() {
        return Ok(Selection::Orders(find_all(ops, &select.ids).await?));
    }
    let pairs: BTreeMap<String, String> = listing::filter_of(&select.filter, act.now)?
        .to_pairs()
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text))
        .collect();
    if pairs.is_empty() && !select.all {
        return Err(Misuse::told("name the orders, give a filter, or give --all"));
    }
    Ok(Selection::Filter(pairs))
}

/// Orders by their numbers, or by a filter.
#[derive(Debug, Clone, Args)]
pub struct Select {
    /// ORDER_ID or SHOP/ORDER_ID
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All lost orders
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    #[command(flatten)]
    /// Lost orders that match
    pub filter: Filter,
}
