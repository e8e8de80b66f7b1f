//! Editing one order: every value of its document as a field, or the document as a whole; the
//! differences before anything is saved; the original, what was sent last and the newest side by
//! side.

use crate::key;
use axum::extract::Path;
use minijinja::{Value, context};
use serde_json::Value as Json;

use crate::domain::edit::{LOCKED, differences};
use crate::domain::order::fault::Fault;
use crate::domain::permission::Permission;
use crate::domain::text::{is_unprintable, one_line, shown_json};
use crate::ops::edit::Review;
use crate::ops::refusal::Refusal;
use crate::ports::order_desk::OrderDetail;
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext, PageResult, unprocessable};
use crate::web::html::formatter::printable;
use crate::web::html::forms::{Fields, field, order_address};
use crate::web::html::rows;
use crate::web::pages::order::{key_of, known};
use crate::web::pages::order_actions::told_transfer;

/// Fields that are shown; what is beyond is edited in the document.
const MAX_FIELDS: usize = 300;
/// Fields that can never be changed (docs/decisions/0009).
const FIXED: [&str; 2] = ["/order_id", "/shop"];
/// Parts that many orders lack and an ERP may need: they are offered as empty fields.
const OFFERED: [&str; 7] = [
    "/prices",
    "/delivery_date",
    "/remark",
    "/customer/company",
    "/customer/vat_id",
    "/shipping/price",
    "/shipping/tax_rate",
];
/// Longest text of a value that is shown and cannot be edited as a field, in characters.
const MAX_UNSEEN: usize = 300;
/// Before the pointer in the name of a field.
const FIELD: &str = "f:";

async fn find_to_edit(ctx: &PageContext, at: (String, String)) -> Result<OrderDetail, Failure> {
    let key = key_of(at)?;
    known(ctx.web.ops.show_for(&ctx.user.person, Permission::Edit, &key).await)
}

/// `GET /orders/{shop}/{order_id}/edit`
pub async fn edit(ctx: PageContext, Path(at): Path<(String, String)>) -> PageResult {
    let detail = find_to_edit(&ctx, at).await?;
    let document = pretty(detail.current());
    show(&ctx, &detail, &Desk { base: detail.record.revision, document, ..Desk::default() })
}

/// `POST /orders/{shop}/{order_id}/edit`: shows what would change, or saves it.
pub async fn save(
    ctx: PageContext,
    Path(at): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let detail = find_to_edit(&ctx, at).await?;
    let base = field(&form, "base").and_then(|base| base.parse().ok());
    let base: u32 = base.ok_or_else(|| unprocessable(key!("The base revision is missing.")))?;
    // The document is not trimmed: it is saved as typed.
    let whole = form.iter().find(|(name, _)| name == "document").map(|(_, text)| text.clone());
    let (document, faults) = match (&whole, field(&form, "source")) {
        (Some(document), _) => (document.clone(), Vec::new()),
        (None, Some(source)) => fill_in(source, &form)?,
        (None, None) => return Err(unprocessable(key!("The document is missing."))),
    };
    let mut desk = Desk { base, document, faults, whole: whole.is_some(), ..Desk::default() };
    let wish = field(&form, "do").unwrap_or("review");
    if wish == "review" || !desk.faults.is_empty() {
        return review(&ctx, &detail, desk);
    }
    let act = ctx.act(Some(crate::web::html::context::needed_reason(&form)?));
    match ctx.web.ops.edit(&detail.record.key, base, &desk.document, &act).await {
        Ok(_) => {}
        Err(stale @ Refusal::Stale { .. }) => {
            desk.conflict = Some(stale.to_string());
            return review(&ctx, &detail, desk);
        }
        Err(Refusal::Unprocessable(faults)) => {
            desk.faults = faults;
            return show(&ctx, &detail, &desk);
        }
        Err(error) => return Err(error.into()),
    }
    let page = order_address(&detail.record.key);
    if wish != "save_and_send" {
        return Ok(ctx.to(
            &page,
            "good",
            ctx.t(key!("Saved as a new revision. Nothing was sent.")),
        ));
    }
    let act = ctx.act(field(&form, "reason"));
    let (kind, told) = match ctx.web.ops.transfer(&detail.record.key, &act).await {
        Ok(became) => told_transfer(ctx.language, &became),
        Err(refusal) => ("bad", refusal.to_string()),
    };
    Ok(ctx.to(&page, kind, &format!("{} {told}", ctx.t(key!("Saved as a new revision.")))))
}

fn review(ctx: &PageContext, detail: &OrderDetail, mut desk: Desk) -> PageResult {
    let Review { faults, differences } = ctx.web.ops.review_edit(detail, &desk.document);
    desk.faults.extend(faults);
    desk.differences = Some(rows::differences(&differences));
    desk.locked = differences.iter().any(|difference| difference.locked);
    show(ctx, detail, &desk)
}

/// The content of the page during an edit.
#[derive(Default)]
struct Desk {
    base: u32,
    document: String,
    faults: Vec<Fault>,
    differences: Option<Value>,
    locked: bool,
    conflict: Option<String>,
    whole: bool,
}

fn show(ctx: &PageContext, detail: &OrderDetail, desk: &Desk) -> PageResult {
    let mut fields = Vec::new();
    let json: Json = serde_json::from_str(&desk.document).unwrap_or_default();
    leaves("", &json, &mut fields);
    let original: Json = serde_json::from_str(&detail.document).unwrap_or_default();
    let more = fields.len().saturating_sub(MAX_FIELDS);
    fields.truncate(MAX_FIELDS);
    let is_missing = |place: &&&str| json.is_object() && json.pointer(place).is_none();
    fields
        .extend(OFFERED.iter().filter(is_missing).map(|place| ((*place).to_owned(), &Json::Null)));
    let sections = sections(ctx, &fields, &original, &desk.faults);
    let sent = last_sent(detail);
    let current = detail.current();
    let values = context! {
        o => rows::order(&ctx.formatter(), &detail.record),
        base => &desk.base,
        document => shown_json(&desk.document),
        sections,
        more_fields => (more > 0).then_some(more),
        faults => desk.faults.iter().map(|f| context! { place => &f.place, detail => &f.detail }).collect::<Vec<_>>(),
        reviewed => desk.differences.is_some(),
        list => &desk.differences,
        locked => &desk.locked,
        conflict => &desk.conflict,
        whole => desk.whole || json.is_null(),
        since_original => rows::differences(&differences(&detail.document, current)),
        since_sent => rows::differences(&differences(&sent, current)),
        original => printable(&detail.document),
        sent => printable(&sent),
    };
    let title = format!("{} {}", ctx.t(key!("Edit and resend")), detail.record.key);
    ctx.page("edit.html", &title, Some(detail.record.key.shop.as_str()), values)
}

/// The document that the last attempt sent: the newest that was there when it ended.
fn last_sent(detail: &OrderDetail) -> String {
    let tried_at = detail.attempts.iter().map(|attempt| attempt.occurred_at).max();
    let sent = detail.revisions.iter().rev().find(|r| tried_at.is_some_and(|tried| r.at <= tried));
    sent.map_or_else(|| detail.document.to_string(), |revision| revision.document.to_string())
}

fn pretty(document: &str) -> String {
    let parsed = serde_json::from_str::<Json>(document);
    parsed
        .ok()
        .and_then(|json| serde_json::to_string_pretty(&json).ok())
        .unwrap_or_else(|| document.to_owned())
}

/// Every value that is no list and no object, with its pointer.
fn leaves<'a>(pointer: &str, value: &'a Json, found: &mut Vec<(String, &'a Json)>) {
    match value {
        Json::Object(object) => {
            for (name, value) in object {
                let step = name.replace('~', "~0").replace('/', "~1");
                leaves(&format!("{pointer}/{step}"), value, found);
            }
        }
        Json::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                leaves(&format!("{pointer}/{index}"), value, found);
            }
        }
        leaf if !pointer.is_empty() => found.push((pointer.to_owned(), leaf)),
        _ => {}
    }
}

fn sections(
    ctx: &PageContext,
    fields: &[(String, &Json)],
    original: &Json,
    faults: &[Fault],
) -> Vec<Value> {
    let mut sections: Vec<(String, Vec<Value>)> = Vec::new();
    for (index, (pointer, value)) in fields.iter().enumerate() {
        let (section, label) = place_of(pointer);
        let title = match section.strip_prefix("lines/") {
            Some(number) => {
                let number = number.parse::<usize>().map_or(0, |number| number + 1).to_string();
                ctx.language.fill(key!("Line {n}"), &[("n", &number)])
            }
            None if section.is_empty() => ctx.t(key!("Order")).to_owned(),
            None => one_line(&section, 100),
        };
        let before = original.pointer(pointer);
        let fault = faults.iter().find(|fault| fault.place.as_deref() == Some(pointer.as_str()));
        let text = text_of(value);
        // A field would lose its line breaks, and changes of the rest would not be visible.
        let unseen = pointer.chars().chain(text.chars()).any(is_unprintable);
        let field = context! {
            pointer => (!unseen).then_some(pointer),
            id => index,
            label => one_line(&label, 100),
            value => if unseen { one_line(&text, MAX_UNSEEN) } else { text },
            locked => LOCKED.contains(&pointer.as_str()),
            fixed => FIXED.contains(&pointer.as_str()),
            fault => fault.map(|fault| fault.detail.clone()),
            original => (before != Some(*value))
                .then(|| before.map(|before| one_line(&text_of(before), MAX_UNSEEN)))
                .flatten(),
        };
        match sections.iter_mut().find(|(own, _)| *own == title) {
            Some((_, fields)) => fields.push(field),
            None => sections.push((title, vec![field])),
        }
    }
    sections.into_iter().map(|(title, fields)| context! { title, fields }).collect()
}

/// The part of the document that a value belongs to, and its name there.
fn place_of(pointer: &str) -> (String, String) {
    let steps: Vec<&str> = pointer.split('/').skip(1).collect();
    let (section, rest) = match steps.as_slice() {
        ["lines", number, rest @ ..] => (format!("lines/{number}"), rest),
        [only] => (String::new(), std::slice::from_ref(only)),
        [first, rest @ ..] => ((*first).to_owned(), rest),
        [] => (String::new(), [].as_slice()),
    };
    (section, rest.join("/").replace("~1", "/").replace("~0", "~"))
}

fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// Puts the fields of a form into a document; a value keeps its kind: a number stays a number.
fn fill_in(source: &str, form: &Fields) -> Result<(String, Vec<Fault>), Failure> {
    let unreadable = || unprocessable(key!("The document cannot be read."));
    let mut json: Json = serde_json::from_str(source).map_err(|_| unreadable())?;
    let mut faults = Vec::new();
    for (name, typed) in form {
        let Some(pointer) = name.strip_prefix(FIELD) else { continue };
        if json.pointer(pointer).is_none() && OFFERED.contains(&pointer) && !typed.is_empty() {
            add(&mut json, pointer, typed);
            continue;
        }
        let Some(place) =
            json.pointer_mut(pointer).filter(|own| !own.is_object() && !own.is_array())
        else {
            continue;
        };
        if *typed == text_of(place) {
            continue;
        }
        match typed_like(place, typed) {
            Ok(value) => *place = value,
            Err(expected) => {
                let reason = crate::domain::order::fault::Reason::Schema;
                faults.push(Fault::at(
                    reason,
                    pointer,
                    format!("`{}` is not {expected}", one_line(typed, 60)),
                ));
            }
        }
    }
    let text = serde_json::to_string_pretty(&json).map_err(|_| unreadable())?;
    Ok((text, faults))
}

/// Adds a part that was offered, unless something that is no object is in its place.
fn add(json: &mut Json, pointer: &str, typed: &str) {
    let steps: Vec<&str> = pointer.split('/').skip(1).collect();
    let (Some((last, parents)), Some(mut place)) = (steps.split_last(), json.as_object_mut())
    else {
        return;
    };
    for step in parents {
        let parent = place.entry(*step).or_insert_with(|| Json::Object(Default::default()));
        let Some(object) = parent.as_object_mut() else { return };
        place = object;
    }
    place.insert((*last).to_owned(), Json::from(typed));
}

fn typed_like(before: &Json, typed: &str) -> Result<Json, &'static str> {
    match before {
        Json::Number(_) => {
            let number = serde_json::from_str::<serde_json::Number>(typed.trim());
            number.map(Json::Number).map_err(|_| "a number")
        }
        Json::Bool(_) => typed.trim().parse().map(Json::Bool).map_err(|_| "true or false"),
        Json::Null if typed.is_empty() => Ok(Json::Null),
        _ => Ok(Json::String(typed.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(source: &str, fields: &[(&str, &str)]) -> (String, Vec<String>) {
        let form = fields.iter().map(|(n, v)| (format!("f:{n}"), (*v).to_owned())).collect();
        let (text, faults) = fill_in(source, &form).unwrap_or_else(|_| panic!("readable"));
        let json: Json = serde_json::from_str(&text).unwrap();
        (json.to_string(), faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_value_keeps_its_kind_and_what_was_not_touched_every_digit() {
        let source = r#"{"n":1.10,"big":123456789012345678901234567890,"s":"a","b":true,"z":null}"#;
        let (text, faults) =
            filled(source, &[("/n", "2.50"), ("/s", "007"), ("/b", "false"), ("/z", "")]);
        assert!(faults.is_empty());
        assert!(text.contains(r#""n":2.50"#) && text.contains(r#""s":"007""#), "{text}");
        assert!(
            text.contains("123456789012345678901234567890") && text.contains(r#""z":null"#),
            "{text}"
        );
    }

    #[test]
    fn a_part_that_the_order_lacks_can_be_added() {
        let source = r#"{"customer":{"email":"a@b"},"shipping":"dhl"}"#;
        let fields = [
            ("/prices", "gross"),
            ("/customer/vat_id", "DE123"),
            ("/shipping/price", "1"),
            ("/remark", ""),
            ("/x", "y"),
        ];
        let (text, faults) = filled(source, &fields);
        assert_eq!(
            text,
            r#"{"customer":{"email":"a@b","vat_id":"DE123"},"shipping":"dhl","prices":"gross"}"#
        );
        assert!(faults.is_empty(), "{faults:?}");
        let (text, _) = filled("{}", &[("/shipping/price", "4.90")]);
        assert_eq!(text, r#"{"shipping":{"price":"4.90"}}"#);
    }

    #[test]
    fn what_is_no_number_is_told_at_its_field() {
        let (text, faults) =
            filled(r#"{"lines":[{"q":1}]}"#, &[("/lines/0/q", "one"), ("/nowhere", "x")]);
        assert_eq!(faults, ["at /lines/0/q: `one` is not a number"]);
        assert_eq!(text, r#"{"lines":[{"q":1}]}"#);
    }

    #[test]
    fn each_value_belongs_to_a_part_of_the_order() {
        let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        assert_eq!(place_of("/total"), owned(("", "total")));
        assert_eq!(place_of("/customer/email"), owned(("customer", "email")));
        assert_eq!(place_of("/lines/2/sku"), owned(("lines/2", "sku")));
        assert_eq!(place_of("/x/a~1b/c"), owned(("x", "a/b/c")));
    }
}
