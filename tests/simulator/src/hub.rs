//! What all connections of a simulator share.

use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::fault::Faults;
use crate::log::{Listener, Log, Ticket};
use crate::pace::Pace;
use crate::service::Service;
use crate::service::reply::Reply;
use crate::throttle::Throttles;
use crate::wire::request::Request;
use crate::wire::transmit::{Form, Outcome};

/// The service and everything around it.
pub(crate) struct Hub {
    pub(crate) service: Service,
    pub(crate) log: Log,
    pub(crate) faults: Faults,
    pub(crate) throttles: Throttles,
    pub(crate) paces: RwLock<[Pace; 3]>,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Documents are compressed for clients that accept it.
    pub(crate) gzip: bool,
    /// Ends connections; every connection holds a receiver while it lives.
    pub(crate) ended: Mutex<watch::Sender<()>>,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn pace(&self, listener: Listener) -> Pace {
        self.paces.read()[listener as usize]
    }

    pub(crate) fn set_pace(&self, listener: Listener, pace: Pace) {
        self.paces.write()[listener as usize] = pace;
    }

    pub(crate) fn form(&self, request: &Request) -> Form {
        let accepts = request.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
        Form {
            head_only: request.method == "HEAD",
            keep_alive: request.keep_alive,
            gzip: self.gzip && accepts,
        }
    }

    /// `Basic alice`: the kind of an `Authorization` header and the label of its token, `?` if nobody has it.
    pub(crate) fn name_credential(&self, request: &Request, value: &str) -> String {
        let kind = value.split(' ').next().unwrap_or_default();
        let world = self.service.world.read();
        let label =
            request.credential().and_then(|credential| world.label_of(&credential).map(str::to_owned));
        format!("{kind} {}", label.unwrap_or_else(|| "?".to_owned()))
    }

    /// Enters into the log what became of a request.
    pub(crate) fn finish(&self, ticket: Option<Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            self.log.finish(ticket, outcome.status, outcome.bytes_sent, outcome.completed);
        }
    }

    /// Enters into the log for how long a reply wants to be left alone.
    pub(crate) fn ask_to_wait(&self, ticket: Option<Ticket>, reply: &Reply) {
        let named = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        if let (Some(ticket), Some(seconds)) = (ticket, named.and_then(|(_, value)| value.parse().ok())) {
            self.log.ask_to_wait(ticket, Duration::from_secs(seconds));
        }
    }

    /// Resets every open connection and returns when all are gone.
    pub(crate) async fn end_connections(&self) {
        let ended = std::mem::replace(&mut *self.ended.lock(), watch::Sender::new(()));
        // Without a connection there is no receiver, and nothing to end.
        let _ = ended.send(());
        ended.closed().await;
    }

    /// Resets every open connection, without waiting.
    pub(crate) fn abandon_connections(&self) {
        let _ = self.ended.lock().send(());
    }
}
