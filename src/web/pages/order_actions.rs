//! What people do with one order on its page: transfer, ask, declare absent, remove, restore, settle a double.

use crate::domain::language::Language;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::domain::text::one_line;
use crate::key;
use crate::ops::reconcile::Reconciled;
use crate::ops::transfer::Transferred;
use crate::web::auth::session::Posted;
use crate::web::html::context::{
    Failure, PageContext, PageResult, json_answer, needed_reason, removal_of, wants_json,
};
use crate::web::html::forms::{Fields, field, order_address};
use crate::web::html::language::Key;
use crate::web::pages::order::{key_of, known};
use crate::web::pages::order_content::MAX_FACT;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

/// Its key, if the user may do that to it; the input is checked after that.
async fn find_for(
    ctx: &PageContext,
    needs: Permission,
    at: (String, String),
) -> Result<OrderKey, Failure> {
    let key = key_of(at)?;
    known(ctx.web.ops.find_for(&ctx.user.person, needs, &key).await)?;
    Ok(key)
}

/// Whether the request comes from the script, which shows the answer beside the button.
pub struct ByScript(bool);

impl<S: Send + Sync> FromRequestParts<S> for ByScript {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(wants_json(parts)))
    }
}

/// `POST /orders/{shop}/{order_id}/transfer`: answers with success or the ERP's error.
pub async fn transfer(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    ByScript(by_script): ByScript,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Process, at).await?;
    let became = ctx.web.ops.transfer(&key, &ctx.act(field(&form, "reason"))).await?;
    Ok(answer(&ctx, &key, by_script, &told_transfer(ctx.language, &became)))
}

/// `POST /orders/{shop}/{order_id}/ask`
pub async fn ask(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Process, at).await?;
    let became = ctx.web.ops.reconcile(&key, &ctx.act(field(&form, "reason"))).await?;
    let t = |key: Key| ctx.t(key).to_owned();
    let told = match became {
        Reconciled::Found { erp_order_id } => {
            let number = erp_order_id.unwrap_or_default();
            ("good", format!("{} {number}", t(key!("The ERP has it. ERP number:"))))
        }
        Reconciled::Sent(became) => told_transfer(ctx.language, &became),
        Reconciled::Unclear { said, .. } => (
            "wait",
            format!("{} {}", t(key!("Still unclear. The ERP said:")), one_line(&said, MAX_FACT)),
        ),
        Reconciled::Parked => (
            "wait",
            t(key!(
                "The ERP does not have it, and no automatic attempt is left: transfer it when you are ready."
            )),
        ),
        Reconciled::Held => ("wait", t(key!("The ERP is not usable now; the order waits."))),
        Reconciled::StillWaiting => ("wait", t(key!("No answer yet; it continues automatically."))),
    };
    Ok(answer(&ctx, &key, false, &told))
}

/// `POST /orders/{shop}/{order_id}/absent`
pub async fn absent(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Process, at).await?;
    let reason = needed_reason(&form)?;
    let became = ctx.web.ops.declare_absent(&key, &ctx.act(Some(reason))).await?;
    Ok(answer(&ctx, &key, false, &told_transfer(ctx.language, &became)))
}

/// `POST /orders/{shop}/{order_id}/remove`
pub async fn remove(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Remove, at).await?;
    let reason = removal_of(&form)?;
    ctx.web.ops.remove(&key, &ctx.act(Some(&reason))).await?;
    let told = (
        "good",
        ctx.t(key!("Removed from the list of lost orders. It can be undone here.")).to_owned(),
    );
    Ok(answer(&ctx, &key, false, &told))
}

/// `POST /orders/{shop}/{order_id}/restore`
pub async fn restore(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Remove, at).await?;
    ctx.web.ops.restore(&key, &ctx.act(Some(needed_reason(&form)?))).await?;
    let told = ("good", ctx.t(key!("Back on the list of lost orders.")).to_owned());
    Ok(answer(&ctx, &key, false, &told))
}

/// `POST /orders/{shop}/{order_id}/settle-double`
pub async fn settle_double(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Process, at).await?;
    let reason = needed_reason(&form)?;
    ctx.web.ops.settle_double(&key, &ctx.act(Some(reason))).await?;
    let told = ("good", ctx.t(key!("Settled: somebody has dealt with it in the ERP.")).to_owned());
    Ok(answer(&ctx, &key, false, &told))
}

/// `POST /orders/{shop}/{order_id}/accept-total`: accepts the ERP's sum, and completes the order there.
pub async fn accept_total(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let key = find_for(&ctx, Permission::Edit, at).await?;
    let reason = needed_reason(&form)?;
    ctx.web.ops.accept_total(&key, &ctx.act(Some(reason))).await?;
    let became = ctx.web.ops.transfer(&key, &ctx.act(Some(reason))).await?;
    Ok(answer(&ctx, &key, false, &told_transfer(ctx.language, &became)))
}

fn answer(ctx: &PageContext, key: &OrderKey, by_script: bool, told: &(&str, String)) -> Response {
    let (kind, text) = told;
    if by_script {
        return json_answer(*kind == "good", text).into_response();
    }
    ctx.to(&order_address(key), kind, text)
}

/// The outcome of a transfer, for people.
pub fn told_transfer(language: Language, became: &Transferred) -> (&'static str, String) {
    let t = |key: Key| language.t(key).to_owned();
    let part = |text: &Option<String>| one_line(text.as_deref().unwrap_or_default(), MAX_FACT);
    match became {
        Transferred::Done { erp_order_id: Some(number) } => (
            "good",
            format!("{} {}", t(key!("It is in the ERP. ERP number:")), one_line(number, 80)),
        ),
        Transferred::Done { erp_order_id: None } => {
            ("good", t(key!("It is in the ERP; the ERP gave no number.")))
        }
        Transferred::Failed { attempt, .. } => (
            "bad",
            format!(
                "{} {} ({}): {}",
                t(key!("The ERP did not accept it:")),
                part(&attempt.class),
                part(&attempt.code),
                part(&attempt.message)
            ),
        ),
        Transferred::Unclear { .. } => (
            "wait",
            t(key!(
                "An earlier attempt may have entered it into the ERP, which cannot confirm that yet. Nothing was sent; the ERP is asked again automatically."
            )),
        ),
        Transferred::Held => ("wait", t(key!("The ERP is not usable now; the order waits."))),
        Transferred::StillWaiting => {
            ("wait", t(key!("No answer yet; it continues automatically.")))
        }
    }
}
