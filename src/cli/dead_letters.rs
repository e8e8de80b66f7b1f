//! `dead-letters …`

use crate::cli::change::{act, confirm, whoever};
use crate::cli::flags::{Change, Format, Limit, Output};
use clap::Subcommand;
use std::io::Write;
use std::path::PathBuf;
use uuid::Uuid;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::cli::exit::{Exit, Misuse};
use crate::cli::order_detail::write_document;
use crate::cli::output::{facts, local, print, print_one, shown_time};
use crate::ops::verbs::Ops;
use crate::ports::dead_letters::DeadLetter;
use crate::views::csv::Column;
use crate::views::dead_letters::{LetterView, ReplayedView};

/// Most open dead letters that are searched for an id.
const MAX_LETTERS: u32 = 100_000;
/// Bytes shown of one that is not text.
const MAX_HEX: usize = 4096;

/// `dead-letters …`
pub async fn dead_letters(
    ops: &Ops,
    command: DeadLetters,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        DeadLetters::List { all, limit, output } => {
            let most = limit.rows_and_one(output.output);
            let mut letters = ops.dead_letters(&whoever(), !all, most).await?;
            limit.cut(output.output, &mut letters);
            list(&letters, output.output, out)?;
            Ok(Exit::Done)
        }
        DeadLetters::Show { id, raw, output } => {
            let letter = find(ops, &id).await?;
            if raw {
                out.write_all(&letter.body)?;
            } else {
                print_one(out, output.output, &LetterView::of(&letter), |out| show(out, &letter))?;
            }
            Ok(Exit::Done)
        }
        DeadLetters::Replay { ids, all, file, change, output } => {
            let letters = match all {
                true => ops.dead_letters(&whoever(), true, MAX_LETTERS).await?,
                false => find_all(ops, &ids).await?,
            };
            let fixed = match file {
                Some(_) if letters.len() != 1 => {
                    return Err(Misuse::told("--file needs exactly one dead letter"));
                }
                Some(path) => Some(
                    std::fs::read(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?,
                ),
                None => None,
            };
            if all && !letters.is_empty() {
                confirm(&change, &format!("Replay {} dead letters?", letters.len()))?;
            }
            replay(ops, &letters, fixed, &change, output.output, out).await
        }
        DeadLetters::Discard { ids, change, output } => {
            let letters = find_all(ops, &ids).await?;
            if letters.len() > 1 {
                confirm(&change, &format!("Discard {} dead letters?", letters.len()))?;
            }
            discard(ops, &letters, &change, output.output, out).await
        }
    }
}

fn list(letters: &[DeadLetter], format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    let views: Vec<LetterView> = letters.iter().map(LetterView::of).collect();
    let columns: [Column<'_, LetterView>; 8] = [
        ("ID", &|l| l.id.clone()),
        ("STATUS", &|l| l.status.clone()),
        ("SOURCE", &|l| l.source.clone()),
        ("REASON", &|l| l.reason.clone()),
        ("PLACE", &|l| l.place.clone().unwrap_or_default()),
        ("DETAIL", &|l| l.detail.clone()),
        ("SEEN", &|l| l.seen.to_string()),
        ("LAST", &|l| shown_time(format, Some(&l.last_seen_at))),
    ];
    print(out, format, &views, &columns, "No dead letters.")
}

fn show(out: &mut dyn Write, letter: &DeadLetter) -> std::io::Result<()> {
    facts(
        out,
        &[
            ("Dead letter", Some(letter.id.to_string())),
            ("Status", Some(letter.status.clone())),
            ("Settled by", letter.resolution.clone()),
            ("Reason", Some(letter.reason.clone())),
            ("Place", letter.place.clone()),
            ("Detail", Some(letter.detail.clone())),
            (
                "Came from",
                Some(format!("{} ({} / {})", letter.source, letter.exchange, letter.routing_key)),
            ),
            ("Seen", Some(format!("{} times, last {}", letter.seen, local(letter.last_seen_at)))),
        ],
    )?;
    for (name, value) in &letter.headers {
        writeln!(
            out,
            "{}",
            crate::domain::text::one_line(&format!("Header {name}: {value}"), 500)
        )?;
    }
    writeln!(out, "\n{} bytes", letter.body.len())?;
    match std::str::from_utf8(&letter.body) {
        Ok(text) => write_document(out, text),
        Err(_) => letter.body.chunks(32).take(MAX_HEX / 32).try_for_each(|line| {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "  {}", hex.join(" "))
        }),
    }
}

/// What became of one of several dead letters.
#[derive(Serialize)]
struct LetterOutcome {
    id: String,
    outcome: &'static str,
    #[serde(flatten)]
    replayed: ReplayedView,
}

impl LetterOutcome {
    /// Without a word from the intake.
    fn plain(letter: &DeadLetter, outcome: &'static str, settled: bool) -> Self {
        let replayed = ReplayedView { settled, detail: String::new(), place: None };
        Self { id: letter.id.to_string(), outcome, replayed }
    }
}

fn print_outcomes(
    out: &mut dyn Write,
    format: Format,
    outcomes: &[LetterOutcome],
) -> std::io::Result<()> {
    let columns: [Column<'_, LetterOutcome>; 3] = [
        ("ID", &|o| o.id.clone()),
        ("RESULT", &|o| o.outcome.to_owned()),
        ("DETAIL", &|o| o.replayed.detail.clone()),
    ];
    print(out, format, outcomes, &columns, "No dead letters.")
}

async fn replay(
    ops: &Ops,
    letters: &[DeadLetter],
    fixed: Option<Vec<u8>>,
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let (mut outcomes, mut exits) = (Vec::new(), Vec::new());
    for letter in letters {
        if change.dry_run {
            outcomes.push(LetterOutcome::plain(letter, "would be replayed", false));
            exits.push(Exit::Done);
            continue;
        }
        let replayed = ops.replay(letter, fixed.clone(), &act(ops, change)).await?;
        let (outcome, exit) = match replayed.is_settled() {
            true => ("replayed", Exit::Done),
            false => ("refused", Exit::Failed),
        };
        let replayed = ReplayedView {
            settled: replayed.is_settled(),
            detail: replayed.sentence(),
            place: replayed.place().map(str::to_owned),
        };
        outcomes.push(LetterOutcome { id: letter.id.to_string(), outcome, replayed });
        exits.push(exit);
    }
    print_outcomes(out, format, &outcomes)?;
    Ok(Exit::of_all(&exits))
}

async fn discard(
    ops: &Ops,
    letters: &[DeadLetter],
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Misuse::told("give a reason with --reason"));
    }
    let mut outcomes = Vec::new();
    for letter in letters {
        outcomes.push(if change.dry_run {
            LetterOutcome::plain(letter, "would be discarded", false)
        } else {
            ops.discard(letter, &act(ops, change)).await?;
            LetterOutcome::plain(letter, "discarded", true)
        });
    }
    print_outcomes(out, format, &outcomes)?;
    Ok(Exit::Done)
}

/// The one dead letter whose id is `text` or ends with it (the ends differ first).
async fn find(ops: &Ops, text: &str) -> anyhow::Result<DeadLetter> {
    if text.parse::<Uuid>().is_ok() {
        return Ok(ops.dead_letter(&whoever(), text).await?);
    }
    let letters = ops.dead_letters(&whoever(), false, MAX_LETTERS).await?;
    let mut matching = letters.into_iter().filter(|letter| letter.id.to_string().ends_with(text));
    match (matching.next(), matching.next()) {
        (Some(letter), None) if !text.is_empty() => Ok(letter),
        (None, _) => bail!("there is no dead letter {text}"),
        _ => bail!("several dead letters end with {text}: give more of the id"),
    }
}

async fn find_all(ops: &Ops, ids: &[String]) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::with_capacity(ids.len());
    for id in ids {
        letters.push(find(ops, id).await?);
    }
    Ok(letters)
}

/// `dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List them, newest first
    List {
        /// Include settled ones
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        /// How many
        limit: Limit,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// One of them: the reason, the place, the headers, the bytes
    Show {
        /// Its id, or the end of it that no other has
        id: String,
        /// Only the original bytes
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Replay them, after the cause is fixed
    #[command(after_help = "Examples:
  order-relay dead-letters replay 9c41f2
  order-relay dead-letters show 9c41f2 --raw > order.json   (fix it)
  order-relay dead-letters replay 9c41f2 --file order.json --reason \"total was missing\"")]
    Replay {
        /// Their ids, or ends of ids
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// All open ones
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// The fixed message, instead of the original bytes
        #[arg(long, value_name = "FILE", conflicts_with = "all")]
        file: Option<PathBuf>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Discard them, because they are not needed; they stay readable
    Discard {
        /// Their ids, or ends of ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}
