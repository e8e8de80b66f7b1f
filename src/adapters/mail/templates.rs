//! Composing mails from templates: built in, and overridable file by file by a folder.
//!
//! A mail is never lost because of a broken template: if the user's does not render, the built-in
//! one is used and the reason is logged. HTML is escaped by the engine because the template's name ends in `.html`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use minijinja::{Environment, Value};

use crate::domain::language::Language;
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::domain::text::one_line;
use crate::ports::mail::{Composer, Mail, NoticeDetail};

use super::mail_views::{Reader, list};
use super::message_ids::{identity, list_id};
use super::wording::{empty, environment, said};

const SUBJECT: &str = "order_failed.subject";

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        /// The built-in templates by name.
        pub(super) const BUILT_IN: [(&str, &str); [$($name),+].len()] =
            [$(($name, include_str!(concat!("../../../templates/mail/", $name)))),+];
    };
}

built_in!(
    "layout.html",
    "parts.html",
    "order_failed.txt",
    "order_failed.html",
    "digest.subject.txt",
    "digest.txt",
    "digest.html",
    "circuit_opened.subject.txt",
    "circuit_opened.txt",
    "circuit_opened.html",
    "circuit_closed.subject.txt",
    "circuit_closed.txt",
    "circuit_closed.html",
    "circuit_unstable.subject.txt",
    "circuit_unstable.txt",
    "circuit_unstable.html",
    "failure_types.subject.txt",
    "failure_types.txt",
    "failure_types.html",
    "entered_twice.subject.txt",
    "entered_twice.txt",
    "entered_twice.html",
    "customer_confirmation.en.subject.txt",
    "customer_confirmation.en.txt",
    "customer_confirmation.en.html",
    "customer_confirmation.de.subject.txt",
    "customer_confirmation.de.txt",
    "customer_confirmation.de.html",
);

/// Sender, receivers and rules of one audience.
#[derive(Debug, Clone)]
pub struct AudienceSettings {
    /// From.
    pub sender: String,
    /// The administrators.
    pub receivers: Vec<String>,
    /// Their language.
    pub language: Language,
    /// The time zone of all times.
    pub zone: TimeZone,
    /// Subject template of the mail about one failed order.
    pub subject: String,
    /// When single failures become a digest.
    pub digest: DigestRule,
    /// Largest mail.
    pub max_bytes: usize,
    /// Whether there is no mail server.
    pub keep_only: bool,
}

/// Composes mails.
pub struct Templates {
    own: Option<ByLanguage>,
    built_in: ByLanguage,
    public_url: String,
    default: AudienceSettings,
    shops: BTreeMap<String, AudienceSettings>,
}

/// Name of the audience of every shop without mail settings of its own.
pub const DEFAULT_AUDIENCE: &str = "default";

impl Templates {
    /// Templates for these audiences; `folder` overrides built-in ones by file name.
    pub fn new(
        folder: Option<&Path>,
        public_url: &str,
        default: AudienceSettings,
        shops: BTreeMap<String, AudienceSettings>,
    ) -> Result<Self, String> {
        let built_in = ByLanguage::new(&BTreeMap::new())?;
        let own = match folder {
            Some(folder) => Some(ByLanguage::new(&read_folder(folder)?)?),
            None => None,
        };
        let public_url = public_url.trim_end_matches('/').to_owned();
        let templates = Self { own, built_in, public_url, default, shops };
        templates.check_subjects()?;
        Ok(templates)
    }

    fn check_subjects(&self) -> Result<(), String> {
        for settings in self.shops.values().chain([&self.default]) {
            empty(settings.language)
                .template_from_str(&settings.subject)
                .map_err(|error| format!("mail.order_failed.subject: {error}"))?;
        }
        Ok(())
    }

    fn settings(&self, audience: &str) -> &AudienceSettings {
        self.shops.get(audience).unwrap_or(&self.default)
    }

    /// The language of the administrators.
    pub(super) fn language_of(&self, audience: &str) -> Language {
        self.settings(audience).language
    }

    /// Renders with the user's template, or with the built-in one should that fail.
    fn render(&self, language: Language, name: &str, values: &Value) -> String {
        if let Some(own) = &self.own {
            match own.of(language).get_template(name).and_then(|template| template.render(values)) {
                Ok(text) => return text,
                Err(error) => tracing::error!(name, error = %error, "mail.template_failed"),
            }
        }
        self.built_in
            .of(language)
            .get_template(name)
            .and_then(|template| template.render(values))
            .unwrap_or_else(|error| format!("(template {name}: {error})\n{values}"))
    }

    fn subject(&self, settings: &AudienceSettings, values: &Value) -> String {
        let language = settings.language;
        let own = empty(language).render_named_str(SUBJECT, &settings.subject, values);
        own.unwrap_or_else(|error| {
            tracing::error!(error = %error, "mail.order_failed.subject");
            said(language, "An order could not be transferred to the ERP").to_owned()
        })
    }

    /// The mail about `notices` in a language.
    pub(super) fn write(
        &self,
        audience: &str,
        kind: NoticeKind,
        notices: &[NoticeDetail],
        seed: &str,
        language: Language,
    ) -> Mail {
        let settings = &AudienceSettings { language, ..self.settings(audience).clone() };
        let reader = Reader { language, zone: &settings.zone, public_url: &self.public_url };
        let first = &notices[0];
        let (template, values) = match kind {
            NoticeKind::OrderFailed if notices.len() > 1 => {
                ("digest".to_owned(), reader.digest(audience, notices))
            }
            _ if kind.is_of_failure_type() => {
                ("failure_types".to_owned(), reader.failure_types(kind, notices))
            }
            NoticeKind::CustomerConfirmation => {
                (format!("customer_confirmation.{}", language.code()), reader.one(first))
            }
            _ => (kind.as_str().to_owned(), reader.one(first)),
        };
        let subject = match template.as_str() {
            "order_failed" => self.subject(settings, &values),
            _ => self.render(language, &format!("{template}.subject.txt"), &values),
        };
        let is_to_customer = kind == NoticeKind::CustomerConfirmation;
        let receivers = match is_to_customer {
            true => first.customer_email.iter().cloned().collect(),
            false => settings.receivers.clone(),
        };
        let identity = identity(audience, kind, notices, seed, &settings.sender);
        Mail {
            kind,
            attachment: (template == "digest").then(|| list(&self.public_url, notices)),
            sender: settings.sender.clone(),
            receivers,
            subject: one_line(&subject, 200),
            text: self.render(language, &format!("{template}.txt"), &values),
            html: self.render(language, &format!("{template}.html"), &values),
            message_id: identity.message_id,
            in_reply_to: identity.in_reply_to,
            list_id: (!is_to_customer).then(|| list_id(audience, &settings.sender)),
        }
    }
}

impl Composer for Templates {
    fn audience(&self, shop: &str) -> String {
        if self.shops.contains_key(shop) { shop.to_owned() } else { DEFAULT_AUDIENCE.to_owned() }
    }

    fn compose(
        &self,
        audience: &str,
        kind: NoticeKind,
        notices: &[NoticeDetail],
        seed: &str,
    ) -> Mail {
        let language = match kind {
            NoticeKind::CustomerConfirmation => {
                Language::of_locale(notices[0].customer_locale.as_deref().unwrap_or_default())
            }
            _ => self.settings(audience).language,
        };
        self.write(audience, kind, notices, seed, language)
    }

    fn fits(&self, audience: &str, mail: &Mail) -> bool {
        mail.bytes() <= self.settings(audience).max_bytes
    }

    fn digest_rule(&self, audience: &str) -> DigestRule {
        self.settings(audience).digest
    }

    fn keeps_only(&self, audience: &str) -> bool {
        self.settings(audience).keep_only
    }
}

/// The templates, once for each language.
struct ByLanguage {
    en: Environment<'static>,
    de: Environment<'static>,
}

impl ByLanguage {
    /// The built-in templates, and `own` in their place: `NAME.de.txt` goes before `NAME.txt`.
    fn new(own: &BTreeMap<String, String>) -> Result<Self, String> {
        let of = |language: Language| {
            let source = |name: &str, built_in: &str| {
                let own = own.get(&in_language(name, language)).or_else(|| own.get(name));
                own.map_or(built_in, String::as_str).to_owned()
            };
            let templates = BUILT_IN.map(|(name, built_in)| (name, source(name, built_in)));
            environment(language, &BTreeMap::from(templates))
        };
        Ok(Self { en: of(Language::En)?, de: of(Language::De)? })
    }

    fn of(&self, language: Language) -> &Environment<'static> {
        match language {
            Language::En => &self.en,
            Language::De => &self.de,
        }
    }
}

/// The name of a template for one language: `digest.de.subject.txt`.
fn in_language(name: &str, language: Language) -> String {
    let (stem, rest) = name.split_once('.').unwrap_or((name, ""));
    format!("{stem}.{}.{rest}", language.code())
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    if !folder.is_dir() {
        return Err(format!("mail.templates: {} is not a folder", folder.display()));
    }
    let mut own = BTreeMap::new();
    for (name, _) in BUILT_IN {
        let of_languages = Language::ALL.map(|language| in_language(name, language));
        for name in of_languages.into_iter().chain([name.to_owned()]) {
            let path: PathBuf = folder.join(&name);
            match std::fs::read_to_string(&path) {
                Ok(source) => drop(own.insert(name, source)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("mail template {}: {error}", path.display())),
            }
        }
    }
    Ok(own)
}
