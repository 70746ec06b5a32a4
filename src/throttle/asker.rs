//! Who is behind a request to the service: what the queue goes by, and nothing of what is asked.

use tokio::time::Instant;

use super::{Client, Interest, Priority};

/// Who asks, how much it is wanted, and until when it may wait for its turn.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Whose turn it takes: [`super::Throttle::client`].
    pub client: Client,
    /// Who waits for the answer, and how urgently.
    pub interest: Interest,
    /// When a permit is of no use any more; `None` is the configured wait from the moment it is asked for.
    pub deadline: Option<Instant>,
}

// === impl Asker ===

impl Asker {
    /// One who waits as long as the request lasts, and as long as is configured.
    pub fn always(client: Client, priority: Priority) -> Self {
        Self { client, interest: Interest::always(priority), deadline: None }
    }

    /// The same one for what is needed to end a download that has begun: it goes on without its clients.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self::always(self.client, Priority::Package)
    }
}
