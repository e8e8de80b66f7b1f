//! `mails preview`: each kind of mail with sample data. It needs no ledger and sends nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::exit::{Exit, Misuse};
use crate::cli::flags::{Format, Output};
use crate::cli::output::{facts, print, print_one};
use crate::domain::language::Language;
use crate::ports::mail::{Mail, MailPreviews};
use crate::views::csv::Column;
use crate::views::mails::MailPreview;

/// `mails preview`
#[derive(Debug, Args)]
pub struct PreviewMail {
    /// Which one; without it, the kinds are listed
    pub kind: Option<String>,
    /// Write it to a file: .html or .txt for one of its parts, .eml for the whole message
    #[arg(long, value_name = "FILE", requires = "kind")]
    pub to: Option<PathBuf>,
    /// In this language instead of mail.language
    #[arg(long, value_parser = PossibleValuesParser::new(Language::ALL.map(Language::code)))]
    pub language: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// Shows a mail, writes it to a file, or lists the kinds.
pub fn preview(
    previews: &dyn MailPreviews,
    command: &PreviewMail,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let format = command.output.output;
    let Some(kind) = &command.kind else { return list(previews, format, out) };
    let language = command.language.as_deref().and_then(Language::from_code);
    let Some(mail) = previews.preview(kind, language) else {
        let kinds = previews.kinds().join(", ");
        return Err(Misuse::told(format!("there is no mail `{kind}`; one of: {kinds}")));
    };
    match &command.to {
        Some(path) => write(previews, &mail, path, out)?,
        None => print_one(out, format, &MailPreview::of(kind, &mail), |out| show(&mail, out))?,
    }
    Ok(Exit::Done)
}

fn list(previews: &dyn MailPreviews, format: Format, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let of = |kind: &str| Some(MailPreview::of(kind, &previews.preview(kind, None)?));
    let mails: Vec<MailPreview> = previews.kinds().into_iter().filter_map(of).collect();
    let columns: [Column<'_, MailPreview>; 2] =
        [("KIND", &|m| m.kind.clone()), ("SUBJECT", &|m| m.subject.clone())];
    print(out, format, &mails, &columns, "No mails.")?;
    Ok(Exit::Done)
}

fn show(mail: &Mail, out: &mut dyn Write) -> std::io::Result<()> {
    facts(
        out,
        &[
            ("From", Some(mail.sender.clone())),
            ("To", Some(mail.receivers.join(", "))),
            ("Subject", Some(mail.subject.clone())),
            ("Message-ID", Some(mail.message_id.clone())),
            ("In-Reply-To", mail.in_reply_to.clone()),
            ("List-Id", mail.list_id.clone()),
        ],
    )?;
    writeln!(out, "\n{}", mail.text)
}

fn write(
    previews: &dyn MailPreviews,
    mail: &Mail,
    path: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let bytes = match kind {
        "html" => mail.html.clone().into_bytes(),
        "txt" => mail.text.clone().into_bytes(),
        "eml" => previews.message(mail).map_err(anyhow::Error::msg)?,
        _ => return Err(Misuse::told("--to takes a file that ends in .html, .txt or .eml")),
    };
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(out, "written to {}", path.display())?;
    Ok(())
}
