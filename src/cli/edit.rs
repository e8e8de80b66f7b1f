//! `lost-orders edit`: one order in an editor, or the same change in many as a JSON Patch.

use crate::cli::flags::{Change, Output};
use crate::cli::selection::{Select, selection};
use clap::Args;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::change::{act, confirm, whoever};
use crate::cli::exit::{Exit, Misuse};
use crate::cli::transfer::{print_results, transfer_one};
use crate::domain::edit::Difference;
use crate::domain::order::fault::Fault;
use crate::domain::order::values::OrderKey;
use crate::domain::text::one_line;
use crate::ops::edit::PatchPreview;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::order_desk::OrderDetail;
use crate::views::outcomes::OrderOutcome;

/// Most differences shown of one order.
const MAX_SHOWN: usize = 200;
/// Most bytes of a document or patch that is handed in.
const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// `lost-orders edit`
pub async fn edit(ops: &Ops, command: &Edit, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let act = act(ops, &command.change);
    if let Some(patch) = &command.patch {
        return patch_many(ops, command, &read_patch(patch)?, &act, out).await;
    }
    let [id] = command.select.ids.as_slice() else {
        return Err(Misuse::told("name one order, or change several with --patch"));
    };
    let detail = ops.show(&whoever(), &ops.find(&whoever(), id).await?).await?;
    let draft = match &command.file {
        Some(path) => Draft { text: read_file(path)?, kept: None },
        None => Draft::in_editor(&detail)?,
    };
    edit_one(ops, command, &detail, draft, &act, out).await
}

async fn edit_one(
    ops: &Ops,
    command: &Edit,
    detail: &OrderDetail,
    draft: Draft,
    act: &Act,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let key = &detail.record.key;
    let review = ops.review_edit(detail, &draft.text);
    if !review.faults.is_empty() {
        tell_faults(&review.faults);
        draft.tell_kept(key, detail.record.revision);
        return Ok(Exit::Failed);
    }
    if review.differences.is_empty() {
        draft.forget();
        writeln!(out, "nothing was changed")?;
        return Ok(Exit::Done);
    }
    show_differences(out, &review.differences)?;
    if command.change.dry_run {
        draft.forget();
        return Ok(Exit::Done);
    }
    let base_revision = command.base_revision.unwrap_or(detail.record.revision);
    let question = format!("Store this as revision {} of {key}?", base_revision + 1);
    if command.file.is_none()
        && let Err(refused) = confirm(&command.change, &question)
    {
        draft.tell_kept(key, base_revision);
        return Err(refused);
    }
    match ops.edit(key, base_revision, &draft.text, act).await {
        Ok(edited) => {
            draft.forget();
            let stored = OrderOutcome::new(key, "edited", format!("revision {}", edited.revision));
            finish(ops, command, vec![(key.clone(), stored, Exit::Done)], out).await
        }
        Err(refusal) => {
            draft.tell_kept(key, base_revision);
            Err(refusal.into())
        }
    }
}

/// The same change in many orders: preview, confirmation, change.
async fn patch_many(
    ops: &Ops,
    command: &Edit,
    patch: &str,
    act: &Act,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let selection = selection(ops, &command.select, act).await?;
    let mut previews = ops.preview_patch(&selection, patch, act).await?;
    if let Some(base_revision) = command.base_revision {
        match previews.as_mut_slice() {
            [only] => only.revision = base_revision,
            _ => return Err(Misuse::told("--base-revision needs exactly one order")),
        }
    }
    let fit: Vec<(OrderKey, u32)> = previews
        .iter()
        .filter(|preview| preview.outcome.is_ok())
        .map(|preview| (preview.key.clone(), preview.revision))
        .collect();
    if command.change.dry_run {
        let results: Vec<_> = previews.into_iter().map(|preview| would(&preview)).collect();
        let exits: Vec<Exit> = results.iter().map(|(_, exit)| *exit).collect();
        let outcomes: Vec<OrderOutcome> = results.into_iter().map(|(outcome, _)| outcome).collect();
        print_results(out, command.output.output, &outcomes)?;
        return Ok(Exit::of_all(&exits));
    }
    if fit.len() > 1 {
        confirm(&command.change, &format!("Change {} orders?", fit.len()))?;
    }
    let mut changed = ops.apply_patch(&fit, patch, act).await?.into_iter();
    let mut results = Vec::with_capacity(previews.len());
    for preview in previews {
        let result = match preview.outcome {
            Ok(_) => {
                changed.next().map_or(Err("it was not attempted".to_owned()), |(_, done)| done)
            }
            Err(why) => Err(why),
        };
        let (outcome, exit) = match result {
            Ok(revision) => (
                OrderOutcome::new(&preview.key, "edited", format!("revision {revision}")),
                Exit::Done,
            ),
            Err(why) => (OrderOutcome::new(&preview.key, "refused", why), Exit::Failed),
        };
        results.push((preview.key, outcome, exit));
    }
    finish(ops, command, results, out).await
}

/// Transfers the edited orders if requested, and prints the outcome of each.
async fn finish(
    ops: &Ops,
    command: &Edit,
    results: Vec<(OrderKey, OrderOutcome, Exit)>,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let (mut outcomes, mut exits) = (Vec::new(), Vec::new());
    for (key, outcome, exit) in results {
        let (outcome, exit) = match (command.process, exit) {
            (true, Exit::Done) => transfer_one(ops, &key, &act(ops, &command.change)).await?,
            _ => (outcome, exit),
        };
        outcomes.push(outcome);
        exits.push(exit);
    }
    print_results(out, command.output.output, &outcomes)?;
    Ok(Exit::of_all(&exits))
}

fn would(preview: &PatchPreview) -> (OrderOutcome, Exit) {
    match &preview.outcome {
        Ok(differences) => {
            let told: Vec<String> = differences.iter().take(MAX_SHOWN).map(line_of).collect();
            (OrderOutcome::new(&preview.key, "would be edited", told.join("; ")), Exit::Done)
        }
        Err(why) => {
            (OrderOutcome::new(&preview.key, "would be refused", why.clone()), Exit::Failed)
        }
    }
}

fn line_of(difference: &Difference) -> String {
    let side = |json: &Option<String>| json.clone().unwrap_or_else(|| "nothing".to_owned());
    let locked = if difference.locked { " (locked)" } else { "" };
    format!(
        "{}: {} -> {}{locked}",
        difference.place,
        side(&difference.before),
        side(&difference.after)
    )
}

fn show_differences(out: &mut dyn Write, differences: &[Difference]) -> std::io::Result<()> {
    for difference in differences.iter().take(MAX_SHOWN) {
        writeln!(out, "{}", one_line(&line_of(difference), 1_000))?;
    }
    if differences.len() > MAX_SHOWN {
        writeln!(out, "and {} more", differences.len() - MAX_SHOWN)?;
    }
    Ok(())
}

fn tell_faults(faults: &[Fault]) {
    eprintln!("order-relay: this is no order that can be sent:");
    for fault in faults {
        eprintln!("  {fault}");
    }
}

fn read_patch(patch: &str) -> anyhow::Result<String> {
    if patch.trim_start().starts_with('[') {
        return Ok(patch.to_owned());
    }
    read_file(Path::new(patch))
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let name = path.display();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(MAX_INPUT).read_to_string(&mut text),
        _ => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_INPUT).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read {name}"))?;
    Ok(text)
}

/// An edited text, and its file until it is stored.
struct Draft {
    text: String,
    kept: Option<PathBuf>,
}

impl Draft {
    /// Opens the document that would be sent in the user's editor.
    fn in_editor(detail: &OrderDetail) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(detail.current())?;
        let pretty = serde_json::to_string_pretty(&value)? + "\n";
        let path = new_file(&detail.record.key, pretty.as_bytes())?;
        let named = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
        let editor = named.ok().filter(|name| !name.trim().is_empty());
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        // Through a shell: an editor may be named with arguments.
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&path)
            .status()
            .with_context(|| format!("cannot start the editor {editor}"))?;
        if !status.success() {
            bail!("{editor} ended with {status}; nothing was changed, see {}", path.display());
        }
        let text = read_file(&path)?;
        Ok(Self { text, kept: Some(path) })
    }

    /// It is stored, or nothing was written.
    fn forget(self) {
        if let Some(path) = self.kept
            && let Err(error) = std::fs::remove_file(&path)
        {
            eprintln!("order-relay: {} stays: {error}", path.display());
        }
    }

    fn tell_kept(&self, key: &OrderKey, revision: u32) {
        if let Some(path) = &self.kept {
            eprintln!(
                "order-relay: your text is saved. Fix it and submit it with:\n  order-relay \
                 lost-orders edit {key} --file {} --base-revision {revision}",
                path.display()
            );
        }
    }
}

/// A new file that nobody else can read: it holds names and addresses.
fn new_file(key: &OrderKey, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = key.to_string().chars().map(safe).take(80).collect();
    for number in 0..1_000 {
        let file = format!("order-relay-{name}-{}-{number}.json", std::process::id());
        let path = std::env::temp_dir().join(file);
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match made {
            Ok(mut file) => {
                file.write_all(bytes)?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", path.display()));
            }
        }
    }
    bail!("no free file name in {}", std::env::temp_dir().display())
}

/// `lost-orders edit`
#[derive(Debug, Clone, Args)]
pub struct Edit {
    #[command(flatten)]
    /// Which orders
    pub select: Select,
    /// A JSON Patch (RFC 6902): itself, a file, or `-` for standard input; else $EDITOR opens the order
    #[arg(long, value_name = "PATCH")]
    pub patch: Option<String>,
    /// The whole document from a file, or `-` for standard input, instead of $EDITOR
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    pub file: Option<PathBuf>,
    /// The revision on which your edit is based: refused if somebody has edited it since
    #[arg(long, value_name = "N")]
    pub base_revision: Option<u32>,
    /// Transfer the edited orders to the ERP afterwards
    #[arg(long)]
    pub process: bool,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}
