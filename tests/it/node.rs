//! A RabbitMQ node of our own, for what must not be done to one that others use: policies, users,
//! alarms, restarts. `scripts/private-rabbitmq` does the work.
//!
//! A watchdog ends each node and clears its folder as soon as nobody holds the other end of its
//! standard input any more: when the node is dropped, and when this process is gone in whatever way.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tokio::process::Command;
use tokio::sync::OnceCell;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-rabbitmq");
/// Waits for the end of its input; then nothing of the node may be left.
const WATCHDOG: &str = r#"trap '' INT TERM; cat >/dev/null; "$1" kill "$2"; rm -rf "$2""#;

/// A node that this process started.
pub struct Node {
    folder: PathBuf,
    /// Its address, for its administrator.
    pub url: String,
    watchdog: Child,
}

impl Node {
    /// A fresh one; takes some seconds.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let watchdog = watch(&folder);
        let url = run(&folder, &["start"]).await.trim().to_owned();
        Self { folder, url, watchdog }
    }

    /// `rabbitmqctl`.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        run(&self.folder, &[&["ctl"], arguments, &["--quiet"]].concat()).await
    }

    /// Ends it in good order and starts it again, with the same messages.
    pub async fn restart(&self) {
        run(&self.folder, &["restart"]).await;
    }

    /// A policy for every queue whose name begins with `prefix`; it stands before all others.
    pub async fn set_policy(&self, prefix: &str, definition: &str) {
        let pattern = format!("^{prefix}\\.");
        let policy = ["--priority", "100", "--apply-to", "queues", prefix, &pattern, definition];
        self.ctl(&[&["set_policy"], policy.as_slice()].concat()).await;
    }

    /// A user who may write and read, and configure what `configure` matches; the address to come in.
    pub async fn add_user(&self, name: &str, configure: &str) -> String {
        self.ctl(&["add_user", name, "secret"]).await;
        self.ctl(&["set_permissions", name, configure, ".*", ".*"]).await;
        self.url.replace("guest:guest@", &format!("{name}:secret@"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().expect("the watchdog can be waited for");
    }
}

/// The one that tests share which change nothing but what is theirs.
pub async fn shared_node() -> &'static Node {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    NODE.get_or_init(Node::start).await
}

/// In a process group of its own: Ctrl-C is for the tests, not for who clears up after them.
fn watch(folder: &Path) -> Child {
    let mut command = std::process::Command::new("bash");
    command.args(["-c", WATCHDOG, "watchdog", SCRIPT]).arg(folder).process_group(0);
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("bash is there")
}

/// Runs the script: first its verb, then the folder, then the rest.
async fn run(folder: &Path, arguments: &[&str]) -> String {
    let (verb, rest) = arguments.split_first().expect("a verb");
    let output = Command::new(SCRIPT).arg(verb).arg(folder).args(rest).output().await;
    let output = output.expect("the script is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "private-rabbitmq {arguments:?}: {out}{err}");
    out
}
