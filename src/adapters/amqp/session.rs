//! A session with the broker: thrown away whole on any error, and built again.

use lapin::Connection;
use tokio_util::sync::CancellationToken;

/// One connection, and whether it is still good.
pub struct Session {
    pub(super) connection: Connection,
    pub(super) lost: CancellationToken,
}

impl Session {
    /// Discards the session; the first caller gives the reason.
    pub fn lose(&self, why: &str) {
        if !self.lost.is_cancelled() {
            tracing::warn!(why, "broker.session_lost");
            self.lost.cancel();
        }
    }

    /// Returns when it was discarded.
    pub async fn until_lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether it can be used.
    pub fn is_good(&self) -> bool {
        !self.lost.is_cancelled() && self.connection.status().connected()
    }
}
