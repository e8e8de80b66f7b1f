//! Dead letters: the bytes with the place of the fault marked, fixing and replaying, discarding.

use crate::key;
use axum::extract::{Path, Query};
use minijinja::{Value, context};
use uuid::Uuid;

use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::place::marked;
use crate::domain::permission::Permission;
use crate::domain::text::{one_line, shown_json};
use crate::ports::dead_letters::DeadLetter;
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext, PageResult, download, needed_reason};
use crate::web::html::formatter::printable;
use crate::web::html::forms::{Fields, field};

const MAX_LISTED: u32 = 200;
/// Bytes that the page shows; the download has all.
const MAX_SHOWN: usize = 64 * 1024;

/// `GET /dead-letters`
pub async fn letters(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let all = field(&fields, "all").is_some();
    let letters = ctx.web.ops.dead_letters(&ctx.user.person, !all, MAX_LISTED).await?;
    let letters: Vec<Value> = letters.iter().map(|letter| view(&ctx, letter)).collect();
    ctx.page("dead_letters.html", ctx.t(key!("Dead letters")), None, context! { letters, all })
}

/// `GET /dead-letters/{id}`
pub async fn letter(
    ctx: PageContext,
    Path(id): Path<String>,
    Query(fields): Query<Fields>,
) -> PageResult {
    let letter = find(&ctx, &id).await?;
    let text = std::str::from_utf8(&letter.body).ok();
    let hex = match field(&fields, "as") {
        Some("hex") => true,
        Some("text") => false,
        // Where the first byte that is no text is known, it is marked in what can be read.
        _ => text.is_none() && letter.reason != Reason::NotUtf8.as_str(),
    };
    let headers: Vec<(String, String)> = letter
        .headers
        .iter()
        .map(|(name, value)| (one_line(name, 100), one_line(value, 500)))
        .collect();
    let mut values = context! {
        l => view(&ctx, &letter),
        headers,
        size => ctx.formatter().count(letter.body.len() as u64),
        hex,
        faults => faults_of(&ctx, &letter),
        editable => text.filter(|text| text.len() <= 1_048_576).map(shown_json),
    };
    let shown = &letter.body[..letter.body.len().min(MAX_SHOWN)];
    if hex {
        values = context! { shown => hex_dump(shown), ..values };
    } else {
        let place = letter.place.as_deref().and_then(|place| marked(&letter.body, place));
        values = match place.filter(|range| range.end <= shown.len()) {
            Some(range) => context! {
                before => escaped(&shown[..range.start]),
                marked => escaped(&shown[range.clone()]),
                after => escaped(&shown[range.end..]),
                ..values
            },
            None => context! { shown => escaped(shown), ..values },
        };
    }
    let title = format!("{} {}", ctx.t(key!("Dead letter")), short(letter.id));
    ctx.page("dead_letter.html", &title, None, values)
}

/// `GET /dead-letters/{id}/bytes`
pub async fn bytes(ctx: PageContext, Path(id): Path<String>) -> PageResult {
    let letter = find(&ctx, &id).await?;
    Ok(download(
        &format!("dead-letter-{}.bin", short(letter.id)),
        "application/octet-stream",
        letter.body,
    ))
}

/// `POST /dead-letters/{id}/replay`
pub async fn replay(
    ctx: PageContext,
    Path(id): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let person = &ctx.user.person;
    let letter = ctx.web.ops.dead_letter_for(person, Permission::Process, &id).await?;
    // A browser sends line ends as CR LF; an unchanged text is replayed as received.
    let typed =
        form.iter().find(|(name, _)| name == "body").map(|(_, body)| body.replace("\r\n", "\n"));
    let came = shown_json(&String::from_utf8_lossy(&letter.body).replace("\r\n", "\n"));
    let fixed = typed.filter(|typed| *typed != came).map(String::into_bytes);
    let replayed = ctx.web.ops.replay(&letter, fixed, &ctx.act(field(&form, "reason"))).await?;
    let kind = if replayed.is_settled() { "good" } else { "bad" };
    Ok(ctx.to(&format!("/dead-letters/{}", letter.id), kind, &replayed.sentence()))
}

/// `POST /dead-letters/{id}/discard`
pub async fn discard(
    ctx: PageContext,
    Path(id): Path<String>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let person = &ctx.user.person;
    let letter = ctx.web.ops.dead_letter_for(person, Permission::Remove, &id).await?;
    ctx.web.ops.discard(&letter, &ctx.act(Some(needed_reason(&form)?))).await?;
    Ok(ctx.to("/dead-letters", "good", ctx.t(key!("Discarded. It stays readable."))))
}

async fn find(ctx: &PageContext, id: &str) -> Result<DeadLetter, Failure> {
    Ok(ctx.web.ops.dead_letter(&ctx.user.person, id).await?)
}

fn short(id: Uuid) -> String {
    id.simple().to_string()[24..].to_owned()
}

fn view(ctx: &PageContext, letter: &DeadLetter) -> Value {
    let formatter = ctx.formatter();
    let tone = match letter.status.as_str() {
        "open" => "bad",
        "replayed" => "good",
        _ => "",
    };
    context! {
        id => letter.id.to_string(),
        short => short(letter.id),
        reason => &letter.reason,
        place => letter.place.as_deref().map(|place| one_line(place, 500)),
        detail => one_line(&letter.detail, 500),
        source => &letter.source,
        exchange => &letter.exchange,
        routing_key => &letter.routing_key,
        status => &letter.status,
        tone,
        seen => formatter.count(letter.seen),
        first => formatter.time(letter.first_seen_at),
        last => formatter.time(letter.last_seen_at),
        resolution => letter.resolution.as_deref().map(|text| one_line(text, 500)),
    }
}

/// Every fault of an open letter, where there is more than the one that it was refused for.
fn faults_of(ctx: &PageContext, letter: &DeadLetter) -> Vec<Value> {
    let faults = ctx.web.ops.letter_faults(letter);
    if faults.len() < 2 {
        return Vec::new();
    }
    let view = |fault: &Fault| {
        let place = fault.place.as_deref().map(|place| one_line(place, 500));
        context! { place, detail => one_line(&fault.detail, 500) }
    };
    faults.iter().map(view).collect()
}

/// Bytes as text; those that are none stand as `\xFF`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&printable(chunk.valid()));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

fn hex_dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).enumerate().map(|(index, chunk)| {
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x} ")).collect();
        let plain = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let text: String = chunk.iter().map(plain).collect();
        format!("{:08x}  {hex:48} {text}\n", index * 16)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escaped("a\nä".as_bytes()), "a\nä");
        assert_eq!(escaped(b"a\xff\xfeb"), "a\\xFF\\xFEb");
    }

    #[test]
    fn bytes_are_shown_as_hex_with_what_can_be_read_of_them() {
        assert_eq!(hex_dump(b"a\xffb\n"), format!("00000000  {:48} a.b.\n", "61 ff 62 0a "));
    }
}
