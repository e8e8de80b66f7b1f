//! Dead letters: the bytes with the place of the fault marked, fixing and replaying, discarding.

use crate::key;
use axum::extract::{Path, Query};
use minijinja::{Value, context};
use uuid::Uuid;

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
/// Bytes around a place that are marked with it.
const MARKED: usize = 24;

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
        _ => text.is_none(),
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
        editable => text.filter(|text| text.len() <= 1_048_576).map(shown_json),
    };
    let shown = &letter.body[..letter.body.len().min(MAX_SHOWN)];
    if hex {
        values = context! { shown => hex_dump(shown), ..values };
    } else {
        let lossy = String::from_utf8_lossy(shown);
        let place = letter.place.as_deref().and_then(|place| offset_of(&lossy, place));
        values = match place {
            Some((from, to)) => context! {
                before => printable(&lossy[..from]),
                marked => printable(&lossy[from..to]),
                after => printable(&lossy[to..]),
                ..values
            },
            None => context! { shown => printable(&lossy), ..values },
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

/// Where a place is in the text: "line 3 column 7", or the value at a JSON pointer.
fn offset_of(text: &str, place: &str) -> Option<(usize, usize)> {
    let at = match place.strip_prefix("line ") {
        Some(rest) => {
            let (line, column) = rest.split_once(" column ")?;
            let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
            let begin =
                text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
            begin + column.saturating_sub(1)
        }
        None => {
            // The place where the last named step of the pointer is written.
            let steps = place.rsplit('/').filter(|step| step.parse::<usize>().is_err());
            let mut found = None;
            for step in steps.filter(|step| !step.is_empty()) {
                let name = format!("\"{}\"", step.replace("~1", "/").replace("~0", "~"));
                found = text.find(&name);
                if found.is_some() {
                    break;
                }
            }
            found?
        }
    };
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let line_end = text[floor(at)..].find('\n').map_or(text.len(), |end| floor(at) + end);
    Some((floor(at), floor((at + MARKED).min(line_end))))
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
    fn a_place_is_marked_where_it_is_written() {
        let text = "{\n  \"lines\": [{\"sku\": \"\"}],\n  \"total\": \"x\"\n}";
        let marked = |place| offset_of(text, place).map(|(from, to)| &text[from..to]);
        assert_eq!(marked("/total"), Some("\"total\": \"x\""));
        assert_eq!(marked("/lines/0/sku"), Some("\"sku\": \"\"}],"));
        assert_eq!(marked("line 2 column 3"), Some("\"lines\": [{\"sku\": \"\"}],"));
        assert_eq!(marked("/nothing"), None);
        assert_eq!(marked("line 0 column 1"), None);
        assert_eq!(offset_of("äöü", "line 1 column 2").map(|(from, _)| from), Some(0));
    }

    #[test]
    fn bytes_are_shown_as_hex_with_what_can_be_read_of_them() {
        assert_eq!(hex_dump(b"a\xffb\n"), format!("00000000  {:48} a.b.\n", "61 ff 62 0a "));
    }
}
