//! A reply as recipes see it: parsed at most once.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value as Json;

use super::super::http::Reply;
use super::super::page::is_page;

/// A reply that was read whole.
#[derive(Debug)]
pub struct Read {
    pub status: u16,
    headers: Vec<(String, String)>,
    text: String,
    json: OnceLock<Option<Json>>,
    /// What the recipe says of it instead of the ERP's words.
    told: OnceLock<String>,
    /// How long the ERP wants us to wait.
    pub retry_after: Option<Duration>,
}

impl Read {
    /// A reply of these parts; names of headers in small letters.
    pub fn new(status: u16, headers: &[(&str, &str)], text: &str) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = headers.iter().map(own).collect();
        let (text, json, told) = (text.to_owned(), OnceLock::new(), OnceLock::new());
        Self { status, headers, text, json, told, retry_after: None }
    }

    /// The raw bytes.
    pub fn of(reply: Reply) -> Self {
        let headers = reply.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let (status, retry_after) = (reply.status, reply.retry_after);
        let (json, told) = (OnceLock::new(), OnceLock::new());
        Self { status, headers, text: reply.text, json, told, retry_after }
    }

    /// JSON that is part of another reply, treated like one.
    pub fn of_json(json: Json) -> Self {
        let json = OnceLock::from(Some(json));
        let (headers, text, told) = (Vec::new(), String::new(), OnceLock::new());
        Self { status: 200, headers, text, json, told, retry_after: None }
    }

    /// Has `text` told instead of the ERP's words.
    pub fn tell(&self, text: String) {
        self.told.get_or_init(|| text);
    }

    /// What is told instead of the ERP's words.
    pub fn told(&self) -> Option<&str> {
        self.told.get().map(String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The body as JSON, if it is that.
    pub fn json(&self) -> Option<&Json> {
        self.json.get_or_init(|| serde_json::from_str(&self.text).ok()).as_ref()
    }

    /// The first header of that name, in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All headers of that name.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether this is a page for people.
    pub fn is_page(&self) -> bool {
        is_page(&self.text)
    }
}
