//! A real browser: Debian's chromium, driven over WebDriver (W3C), as far as the tests need it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use order_relay::ports::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a page may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window.
pub struct Browser {
    client: reqwest::Client,
    session: String,
    driver: Child,
}

/// A driver and its port. It looks for a free port and then opens it: somebody may be faster, and then it ends.
async fn start_driver() -> (Child, String) {
    for _ in 0..5 {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0"]).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let started = command.spawn();
        let mut driver = started.expect("chromedriver is there; `scripts/test` installs it");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        while let Some(line) = lines.next_line().await.expect("chromedriver speaks") {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return (driver, port.trim_end_matches('.').to_owned());
            }
        }
    }
    panic!("chromedriver tells its port");
}

impl Browser {
    /// Starts a browser without a window to see.
    pub async fn start() -> Self {
        let (driver, port) = start_driver().await;
        order_relay::app::commands::install_tls();
        let client = reqwest::Client::new();
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                "--lang=en-US", "--window-size=1440,900",
            ],
        });
        let wish = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let address = format!("http://127.0.0.1:{port}/session");
        let answer = client.post(&address).body(wish.to_string()).send().await.expect("it answers");
        let answer: Value =
            serde_json::from_str(&answer.text().await.expect("text")).expect("JSON");
        let id = answer["value"]["sessionId"].as_str();
        let id = id.unwrap_or_else(|| panic!("no session: {answer}"));
        Self { client, session: format!("{address}/{id}"), driver }
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, String> {
        let address = format!("{}/{path}", self.session);
        let sent = self.client.post(address).body(body.to_string()).send().await;
        self.read(sent).await
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        self.read(self.client.get(format!("{}/{path}", self.session)).send().await).await
    }

    async fn read(&self, answer: reqwest::Result<reqwest::Response>) -> Result<Value, String> {
        let answer = answer.map_err(|error| format!("the browser is gone: {error}"))?;
        let is_good = answer.status().is_success();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match is_good {
            true => Ok(value["value"].clone()),
            false => Err(value["value"]["message"].as_str().unwrap_or("?").to_owned()),
        }
    }

    /// Opens an address.
    pub async fn go(&self, address: &str) {
        self.call("url", json!({ "url": address })).await.expect("the page opens");
    }

    /// Where it is.
    pub async fn address(&self) -> String {
        self.ask("url").await.expect("an address").as_str().unwrap_or_default().to_owned()
    }

    async fn find(&self, css: &str) -> Result<String, String> {
        let found = self.call("element", json!({ "using": "css selector", "value": css })).await?;
        found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| format!("{css}: {found}"))
    }

    /// Waits until something succeeds.
    pub async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        let watch = Stopwatch::start();
        loop {
            match look().await {
                Ok(found) => return found,
                Err(last) if watch.elapsed() > PATIENCE => {
                    let page = self.script("return document.body.innerText").await;
                    panic!(
                        "{what}: {last}\nat {}:\n{}",
                        self.address().await,
                        page.as_str().unwrap_or("?")
                    );
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Types into whatever has the focus.
    pub async fn keys(&self, keys: &str) {
        let presses: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keys = json!({ "actions": [{ "type": "key", "id": "keys", "actions": presses }] });
        self.call("actions", keys).await.expect("keys can be pressed");
    }

    /// Presses what a selector finds, once it can be pressed.
    pub async fn click(&self, css: &str) {
        self.until(&format!("{css} can be pressed"), async || {
            let element = self.find(css).await?;
            self.call(&format!("element/{element}/click"), json!({})).await
        })
        .await;
    }

    /// Replaces what stands in a field.
    pub async fn fill(&self, css: &str, text: &str) {
        self.until(&format!("{css} can be filled in"), async || {
            let element = self.find(css).await?;
            self.call(&format!("element/{element}/clear"), json!({})).await?;
            self.call(&format!("element/{element}/value"), json!({ "text": text })).await
        })
        .await;
    }

    /// Chooses an entry of a list by its value.
    pub async fn choose(&self, css: &str, value: &str) {
        self.click(&format!("{css} option[value=\"{value}\"]")).await;
    }

    /// Waits until the page says something; all that it says.
    pub async fn sees(&self, text: &str) -> String {
        self.until(&format!("the page says {text:?}"), async || {
            let page = self.script("return document.body.innerText").await;
            let page = page.as_str().unwrap_or_default().to_owned();
            if page.contains(text) { Ok(page) } else { Err("it does not".to_owned()) }
        })
        .await
    }

    /// What a script returns; nothing while a page is just being left.
    pub async fn script(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.call("execute/sync", body).await.unwrap_or(Value::Null)
    }

    async fn devtools(&self, command: &str, params: Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.call("goog/cdp/execute", body).await.expect("the browser obeys")
    }

    /// As on a screen of that width, light or dark.
    pub async fn on_screen(&self, width: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Reads pages without scripts from now on, or with them again.
    pub async fn without_scripts(&self, without: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": without })).await;
    }

    /// A picture of the whole page.
    pub async fn picture(&self, file: &Path) {
        let wish = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.devtools("Page.captureScreenshot", wish).await;
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap_or_default());
        std::fs::write(file, bytes.expect("a picture")).expect("it can be kept");
    }

    /// Stops it normally, so that it deletes its profile.
    pub async fn end(self) {
        drop(self.client.delete(&self.session).send().await);
    }
}

impl Drop for Browser {
    /// With every process that it has started, also when a test fails.
    fn drop(&mut self) {
        if let Some(id) = self.driver.id() {
            // The shell's own kill: that of procps 4.0.2 takes `-1234` for `-1`, which is everybody.
            let kill = ["-c", "kill -KILL -- \"-$1\"", "kill", &id.to_string()];
            drop(std::process::Command::new("bash").args(kill).status());
        }
    }
}
