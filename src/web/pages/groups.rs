//! A group of equal failures with its note; actions on many lost orders: the same change, removal.

use crate::key;
use crate::web::html::selection::{SEEN, filter_of, filter_parts, picked, selection_of};
use crate::web::html::{erps, rows};
use axum::extract::Path;
use minijinja::{Value, context};

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::domain::text::one_line;
use crate::ports::redrives::Selection;
use crate::web::auth::session::Posted;
use crate::web::html::context::{
    Failure, PageContext, PageResult, needed_reason, removal_of, unprocessable,
};
use crate::web::html::forms::{Fields, field, order_address};

/// Orders that are removed at once.
const MAX_REMOVED: u32 = 1_000;
/// Previews that are shown.
const MAX_SHOWN: usize = 50;
const EXAMPLE: &str = r#"[{"op": "replace", "path": "/lines/0/sku", "value": "4711"}]"#;

/// `GET /groups/{fingerprint}`
pub async fn group(ctx: PageContext, Path(fingerprint): Path<String>) -> PageResult {
    let group = ctx.web.ops.group(&ctx.user.person, &fingerprint).await?;
    let title = format!("{} {}", group.class, group.code);
    let erps = erps::erps(&ctx, None).await?;
    ctx.page(
        "group.html",
        &title,
        None,
        context! { g => rows::group(&ctx.formatter(), &group), erps },
    )
}

/// `POST /groups/{fingerprint}/note`
pub async fn note(
    ctx: PageContext,
    Path(fingerprint): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let (note, runbook) = (field(&form, "note"), field(&form, "runbook"));
    ctx.web.ops.note_group(&fingerprint, note, runbook, &ctx.act(None)).await?;
    Ok(ctx.to(&format!("/groups/{fingerprint}"), "good", ctx.t(key!("Saved."))))
}

/// The orders of a preview with their revisions.
fn seen(form: &Fields) -> Vec<(OrderKey, u32)> {
    let looked_at = form.iter().filter(|(name, _)| name == "seen");
    looked_at
        .filter_map(|(_, text)| {
            let (revision, key) = text.split_once(SEEN)?;
            let (shop, order_id) = key.split_once('/')?;
            Some((OrderKey::new(shop, order_id).ok()?, revision.parse().ok()?))
        })
        .collect()
}

/// `POST /lost-orders/remove`: takes the picked orders off the list, one after the other.
pub async fn remove(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let reason = removal_of(&form)?;
    let keys = match selection_of(&form)? {
        Selection::Orders(keys) => keys,
        _ => {
            let filter = filter_of(&ctx, &filter_parts(&form), Some(OrderState::OrderedFailed));
            let filter = filter.map_err(unprocessable)?;
            if ctx.web.ops.count(&ctx.user.person, &filter).await? > u64::from(MAX_REMOVED) {
                let detail = key!("More than 1,000 orders match: remove them in smaller parts.");
                return Err(unprocessable(detail));
            }
            let orders = ctx.web.ops.list(&ctx.user.person, &filter, MAX_REMOVED).await?;
            orders.into_iter().map(|order| order.key).collect()
        }
    };
    let mut results = Vec::new();
    for key in keys.iter().filter(|key| ctx.user.person.see(key).is_ok()) {
        let (tone, short, text) = match ctx.web.ops.remove(key, &ctx.act(Some(&reason))).await {
            Ok(_) => ("good", ctx.t(key!("removed")), reason.clone()),
            Err(refusal) => ("bad", ctx.t(key!("not removed")), refusal.to_string()),
        };
        results.push(
            context! { name => key.to_string(), href => order_address(key), tone, short, text },
        );
    }
    let title = ctx.t(key!("Remove from the list of lost orders"));
    ctx.page("results.html", title, None, context! { results })
}

async fn count(ctx: &PageContext, form: &Fields, selection: &Selection) -> Result<u64, Failure> {
    if let Selection::Orders(keys) = selection {
        return Ok(keys.len() as u64);
    }
    let filter = filter_of(ctx, &filter_parts(form), Some(OrderState::OrderedFailed));
    Ok(ctx.web.ops.count(&ctx.user.person, &filter.map_err(unprocessable)?).await?)
}

/// `POST /lost-orders/change`: the same JSON Patch for many, shown per order before it is saved.
pub async fn change(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let selection = selection_of(&form)?;
    let patch = field(&form, "patch");
    let common = context! {
        pairs => filter_parts(&form),
        picked => picked(&form).iter().map(ToString::to_string).collect::<Vec<_>>(),
        all => field(&form, "all").is_some(),
        patch => patch.unwrap_or(EXAMPLE),
    };
    let count = ctx.formatter().count(count(&ctx, &form, &selection).await?);
    let title = ctx.language.fill(key!("The same change to {n} orders"), &[("n", &count)]);
    let page = |more: Value| ctx.page("change.html", &title, None, context! { count, ..more });
    let Some(patch) = patch else { return page(common) };
    let act = ctx.act(field(&form, "reason"));
    // A patch that was changed since is shown again first.
    if field(&form, "do") == Some("apply") && field(&form, "previewed") == Some(patch) {
        needed_reason(&form)?;
        let applied = ctx.web.ops.apply_patch(&seen(&form), patch, &act).await?;
        let results: Vec<Value> = applied
            .iter()
            .map(|(key, result)| {
                let (tone, text) = match result {
                    Ok(revision) => {
                        let n = revision.to_string();
                        ("good", ctx.language.fill(key!("saved as revision {n}"), &[("n", &n)]))
                    }
                    Err(why) => ("bad", why.clone()),
                };
                context! { name => key.to_string(), href => order_address(key), tone, text }
            })
            .collect();
        // They may not match the filter any more by which they were found.
        let kept = applied.iter().filter(|(_, result)| result.is_ok());
        let kept: Vec<String> = kept.map(|(key, _)| key.to_string()).collect();
        return page(context! { results, picked => kept, pairs => (), all => false, ..common });
    }
    let previews = match ctx.web.ops.preview_patch(&selection, patch, &act).await {
        Ok(previews) => previews,
        Err(error @ crate::ops::refusal::Refusal::Unprocessable(_)) => {
            return page(context! { fault => error.to_string(), ..common });
        }
        Err(error) => return Err(error.into()),
    };
    let good = previews.iter().filter(|preview| preview.outcome.is_ok()).count();
    let shown: Vec<Value> = previews
        .iter()
        .take(MAX_SHOWN)
        .map(|preview| {
            let name = preview.key.to_string();
            match &preview.outcome {
                Ok(list) => context! { name, differences => rows::differences(list) },
                Err(why) => context! { name, fault => one_line(why, 300) },
            }
        })
        .collect();
    let looked_at: Vec<String> = previews
        .iter()
        .filter(|preview| preview.outcome.is_ok())
        .map(|preview| format!("{}{SEEN}{}", preview.revision, preview.key))
        .collect();
    page(context! {
        seen => looked_at,
        previews => shown,
        good => ctx.formatter().count(good as u64),
        good_any => good > 0,
        bad => ctx.formatter().count((previews.len() - good) as u64),
        more => previews.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0),
        ..common
    })
}
