//! The state of ERPs, as pages show it.

use minijinja::{Value, context};

use crate::domain::circuit::Circuit;
use crate::domain::permission::Permission;
use crate::web::html::context::{Failure, PageContext};
use crate::web::html::formatter::Formatter;

/// The ERPs and whether they take orders; of one, when it is named.
pub async fn erps(ctx: &PageContext, only: Option<&str>) -> Result<Vec<Value>, Failure> {
    let circuits = ctx.web.ops.circuits(&ctx.user.person).await?.into_iter();
    let named = circuits.filter(|circuit| only.is_none_or(|only| circuit.erp == only));
    Ok(named.map(|circuit| erp(ctx, &ctx.formatter(), &circuit)).collect())
}

pub fn erp(ctx: &PageContext, formatter: &Formatter, circuit: &Circuit) -> Value {
    let shop = ctx.web.ops.shop_of_erp(&circuit.erp);
    context! {
        erp => &circuit.erp,
        state => circuit.state.as_str(),
        reason => &circuit.reason,
        since => formatter.time_or_none(circuit.opened_at),
        trial => formatter.time_or_none(circuit.trial_at),
        may => ctx.user.person.may(Permission::Process, shop),
    }
}
