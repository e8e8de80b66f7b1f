//! From a step and its values to one request, and to the record that is stored of it.

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use sha2::{Digest, Sha256};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::ports::erp::Exchange;

use super::super::http::{header_map, shown};
use super::super::redact::{HIDDEN, Mask};
use super::blame::{Blame, told};
use super::model::{Body, Recipe, Step, Template};
use super::toml_text::RecipeFault;
use crate::adapters::erp::recipe::values::Vars;

/// A request that is ready to be sent.
pub struct Request {
    pub method: Method,
    pub url: Url,
    /// Headers of the step and the recipe; those of the session are added when it is sent.
    pub headers: Vec<(HeaderName, String)>,
    pub body: Option<String>,
}

fn internal(code: &str, detail: &str) -> Failure {
    Failure::new(ErrorClass::Internal, code, detail, Stage::Before)
}

/// The order cannot be rendered: where, and why.
fn unrendered(recipe: &Recipe, fault: &RecipeFault) -> Failure {
    internal("template", &told(recipe, fault))
}

/// Renders a template of `recipe`.
pub fn render(recipe: &Recipe, template: &Template, vars: &Vars) -> Result<String, Failure> {
    try_render(recipe, template, vars).map_err(|fault| unrendered(recipe, &fault))
}

fn try_render(recipe: &Recipe, template: &Template, vars: &Vars) -> Result<String, RecipeFault> {
    let rendered = recipe.templates.render(&template.value, vars);
    rendered.map_err(|error| Blame { recipe, vars }.template(template, &error))
}

/// The request of `step` below `base`.
pub fn build(recipe: &Recipe, base: &Url, step: &Step, vars: &Vars) -> Result<Request, Failure> {
    try_build(recipe, base, step, vars).map_err(|fault| unrendered(recipe, &fault))
}

/// The same with the place of a fault.
pub fn try_build(
    recipe: &Recipe,
    base: &Url,
    step: &Step,
    vars: &Vars,
) -> Result<Request, RecipeFault> {
    let mut headers = Vec::new();
    for (name, value) in recipe.http.headers.iter().chain(&step.headers) {
        let value = try_render(recipe, value, vars)?;
        headers.retain(|(own, _)| own != name);
        headers.push((name.clone(), value));
    }
    let (body, kind) = body(recipe, step, vars)?;
    if let Some(kind) = kind
        && headers.iter().all(|(name, _)| *name != CONTENT_TYPE)
    {
        headers.push((CONTENT_TYPE, kind.to_owned()));
    }
    let url = address(recipe, base, step, vars)?;
    Ok(Request { method: step.method.clone(), url, headers, body })
}

type Written = (Option<String>, Option<&'static str>);

fn body(recipe: &Recipe, step: &Step, vars: &Vars) -> Result<Written, RecipeFault> {
    match &step.body {
        Body::None => Ok((None, None)),
        Body::Form(fields) => {
            let mut form = Form::default();
            for (name, value) in fields {
                form.append(name, &try_render(recipe, value, vars)?);
            }
            Ok((Some(form.finish()), Some("application/x-www-form-urlencoded")))
        }
        Body::Text(template) => {
            let text = try_render(recipe, template, vars)?;
            if recipe.is_xml {
                return Ok((Some(text), Some("text/xml; charset=utf-8")));
            }
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                return Err(template.fault(format!("what was rendered is not JSON: {error}")));
            }
            Ok((Some(text), Some("application/json")))
        }
    }
}

/// `application/x-www-form-urlencoded`, as browsers write it (WHATWG URL, 5.2).
pub(super) struct Form(Url);

impl Default for Form {
    fn default() -> Self {
        Self(Url::parse("http://form/").expect("it is an address"))
    }
}

impl Form {
    /// Adds a field.
    pub(super) fn append(&mut self, name: &str, value: &str) {
        self.0.query_pairs_mut().append_pair(name, value);
    }

    /// The body.
    pub(super) fn finish(&self) -> String {
        self.0.query().unwrap_or_default().to_owned()
    }
}

/// `base`, the step's path, its query. What orders bring can change neither host nor scheme.
fn address(recipe: &Recipe, base: &Url, step: &Step, vars: &Vars) -> Result<Url, RecipeFault> {
    let path = try_render(recipe, &step.path, vars)?;
    if !path.starts_with('/') {
        return Err(step.path.fault("a path begins with /"));
    }
    let below = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let mut url = Url::parse(&below).map_err(|error| step.path.fault(error.to_string()))?;
    if (url.host(), url.port(), url.scheme()) != (base.host(), base.port(), base.scheme()) {
        return Err(step.path.fault("leads to another host"));
    }
    for (name, value) in &step.query {
        let value = try_render(recipe, value, vars)?;
        url.query_pairs_mut().append_pair(name, &value);
    }
    Ok(url)
}

impl Request {
    /// The same for requests that ask the same, whoever is logged in.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        };
        add(self.method.as_str());
        add(self.url.as_str());
        add(self.body.as_deref().unwrap_or_default());
        for (name, value) in &self.headers {
            add(name.as_str());
            add(value);
        }
        digest.finalize().into()
    }

    /// Sends nothing: what is noted of this request, without secrets.
    pub fn noted(
        &self,
        step: &str,
        question: bool,
        mask: &Mask,
        hidden: &[HeaderName],
    ) -> Exchange {
        let mut lines = Vec::new();
        for (name, value) in &self.headers {
            lines.push(format!("{name}: {}", mask.clean(value)));
        }
        for name in hidden {
            lines.push(format!("{name}: {HIDDEN}"));
        }
        Exchange {
            step: step.to_owned(),
            question,
            method: self.method.to_string(),
            url: mask.clean(&shown(&self.url)),
            request_headers: lines.join("\n"),
            request_body: self.body.as_deref().map(|body| mask.clean(body)).unwrap_or_default(),
            status: None,
            stage: Stage::Before,
            meaning: "not sent".to_owned(),
            message: None,
            reply: String::new(),
            duration_ms: 0,
        }
    }

    /// Its headers with those of the session.
    pub fn all_headers(
        &self,
        session: &[(HeaderName, HeaderValue)],
    ) -> Result<reqwest::header::HeaderMap, Failure> {
        let own = self.headers.iter().map(|(name, value)| (name.clone(), value.as_str()));
        let mut map = header_map(own)?;
        for (name, value) in session {
            map.insert(name.clone(), value.clone());
        }
        Ok(map)
    }
}
