//! A PostgreSQL of a test's own, for what must not be done to one that others use: being killed.

use std::process::Stdio;

use tokio::process::Command;

/// A database of this test's own, gone with it.
pub struct PrivatePostgres(tempfile::TempDir);

impl PrivatePostgres {
    /// One that is not started yet.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// `start` (prints its address), `restart`, `kill`.
    pub async fn run(&self, verb: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-postgres");
        let mut command = Command::new(script);
        command.arg(verb).arg(self.0.path()).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().await.expect("the script can be run");
        assert!(output.status.success(), "private-postgres {verb} failed");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-postgres");
        drop(std::process::Command::new(script).arg("kill").arg(self.0.path()).status());
    }
}
