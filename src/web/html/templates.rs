//! Rendering: the templates in each language, and how times, counts and phases are shown.

use crate::domain::redrive::RedriveThrottle;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, Value, context};

use crate::domain::language::Language;
use crate::web::html::assets::BUILD;

const TEMPLATES: [(&str, &str); 29] = [
    ("page.html", include_str!("../../../templates/web/page.html")),
    ("parts.html", include_str!("../../../templates/web/parts.html")),
    ("login.html", include_str!("../../../templates/web/login.html")),
    ("error.html", include_str!("../../../templates/web/error.html")),
    ("overview.html", include_str!("../../../templates/web/overview.html")),
    ("overview_part.html", include_str!("../../../templates/web/overview_part.html")),
    ("orders.html", include_str!("../../../templates/web/orders.html")),
    ("group.html", include_str!("../../../templates/web/group.html")),
    ("order.html", include_str!("../../../templates/web/order.html")),
    ("edit.html", include_str!("../../../templates/web/edit.html")),
    ("change.html", include_str!("../../../templates/web/change.html")),
    ("results.html", include_str!("../../../templates/web/results.html")),
    ("redrives.html", include_str!("../../../templates/web/redrives.html")),
    ("redrive.html", include_str!("../../../templates/web/redrive.html")),
    ("redrive_part.html", include_str!("../../../templates/web/redrive_part.html")),
    ("dead_letters.html", include_str!("../../../templates/web/dead_letters.html")),
    ("dead_letter.html", include_str!("../../../templates/web/dead_letter.html")),
    ("mails.html", include_str!("../../../templates/web/mails.html")),
    ("mail.html", include_str!("../../../templates/web/mail.html")),
    ("mail_previews.html", include_str!("../../../templates/web/mail_previews.html")),
    ("mail_preview.html", include_str!("../../../templates/web/mail_preview.html")),
    ("channels.html", include_str!("../../../templates/web/channels.html")),
    ("channel_messages.html", include_str!("../../../templates/web/channel_messages.html")),
    ("channel_message.html", include_str!("../../../templates/web/channel_message.html")),
    ("channel_edit.html", include_str!("../../../templates/web/channel_edit.html")),
    ("audit.html", include_str!("../../../templates/web/audit.html")),
    ("status.html", include_str!("../../../templates/web/status.html")),
    ("people.html", include_str!("../../../templates/web/people.html")),
    ("me.html", include_str!("../../../templates/web/me.html")),
];

/// The templates, once for each language.
pub struct Pages {
    en: Environment<'static>,
    de: Environment<'static>,
}

impl Pages {
    /// Reads the templates.
    pub fn new() -> Result<Self, String> {
        Ok(Self { en: environment(Language::En)?, de: environment(Language::De)? })
    }

    /// A page, or a part of one.
    pub fn render(&self, language: Language, name: &str, values: Value) -> Result<String, String> {
        let environment = match language {
            Language::En => &self.en,
            Language::De => &self.de,
        };
        let values = context! {
            lang => language.code(),
            build => BUILD.as_str(),
            version => env!("CARGO_PKG_VERSION"),
            ..values
        };
        let rendered = environment.get_template(name).and_then(|page| page.render(values));
        rendered.map_err(|error| format!("page {name}: {error:#}"))
    }
}

fn environment(language: Language) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).map_err(|error| format!("page {name}: {error}"))?;
    }
    let t = move |key: &str, values: Kwargs| -> Result<String, Error> {
        let mut pairs = Vec::new();
        for name in values.args() {
            let value: Value = values.get(name)?;
            pairs.push((name, value.to_string()));
        }
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(language.fill_said(key, &pairs))
    };
    environment.add_function("t", t);
    environment.add_global("usual_pace", Value::from(Serde(usual_pace())));
    Ok(environment)
}

/// A rate that a recovering ERP can handle, in orders a minute.
pub const GENTLE_RATE: u32 = 1_200;

/// The defaults for rate and steps.
pub fn usual_pace() -> RedriveThrottle {
    RedriveThrottle { rate_per_minute: Some(GENTLE_RATE), ..RedriveThrottle::default() }
}
