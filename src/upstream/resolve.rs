//! Host names to addresses, remembered for a short time.
//!
//! The pool of connections is keyed by address, so a name that resolves in another order each time would
//! hardly ever find its own connection again; that, not the cost of the lookup, is why answers are kept.
//! What is kept has been checked: connections are made to these addresses and no others.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::reach::Reach;
use crate::config::upstream::Origin;

/// How long an answer is used. The service moves hosts between addresses within minutes.
const KEEP: Duration = Duration::from_secs(30);
/// Most names that are remembered: blob shards are many (facts §3.5), but few are in use at a time.
const MAX_NAMES: usize = 256;

/// Resolves host names with the system's resolver.
#[derive(Default)]
pub(super) struct Resolver {
    reach: Reach,
    known: Mutex<HashMap<(String, u16), Known>>,
}

struct Known {
    since: Instant,
    addresses: Arc<[SocketAddr]>,
}

// === impl Resolver ===

impl Resolver {
    /// Takes answers that are in `reach`.
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, known: Mutex::default() }
    }

    /// The addresses of `origin` that may be connected to, in the system's order of preference (RFC 6724); never an
    /// empty list. The error is fit for a log, and names what is wrong with the answer but not the host.
    pub(super) async fn addresses(&self, origin: &Origin) -> Result<Arc<[SocketAddr]>, String> {
        let key = (origin.host.clone(), origin.port);
        if let Some(addresses) = self.recall(&key) {
            return Ok(addresses);
        }
        let found = tokio::net::lookup_host((key.0.as_str(), key.1)).await;
        let found = found.map_err(|error| format!("name lookup failed: {error}"))?;
        let mut refused = "the name has no address".to_owned();
        let mut addresses = Vec::new();
        for address in found {
            match self.reach.objection(&origin.host, address.ip()) {
                None => addresses.push(address),
                Some(kind) => {
                    let ip = address.ip();
                    refused = format!("its address {ip} is {kind}, and not in `upstream.private_networks`");
                }
            }
        }
        if addresses.is_empty() {
            return Err(refused);
        }
        let addresses: Arc<[_]> = addresses.into();
        self.remember(key, Arc::clone(&addresses));
        Ok(addresses)
    }

    /// Drops what is known of `origin`: none of its addresses takes connections.
    pub(super) fn forget(&self, origin: &Origin) {
        self.known.lock().remove(&(origin.host.clone(), origin.port));
    }

    /// Sets the answer for `key`.
    pub(super) fn remember(&self, key: (String, u16), addresses: Arc<[SocketAddr]>) {
        let mut known = self.known.lock();
        if known.len() >= MAX_NAMES {
            known.retain(|_, known| known.since.elapsed() < KEEP);
        }
        if known.len() < MAX_NAMES {
            known.insert(key, Known { since: Instant::now(), addresses });
        }
    }

    fn recall(&self, key: &(String, u16)) -> Option<Arc<[SocketAddr]>> {
        let known = self.known.lock();
        let known = known.get(key).filter(|known| known.since.elapsed() < KEEP)?;
        Some(Arc::clone(&known.addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::upstream::Scheme;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_a_while_and_then_asked_for_again() {
        let resolver = Resolver::default();
        let origin = Origin { scheme: Scheme::Http, host: "127.0.0.1".into(), port: 7 };
        let other: Arc<[SocketAddr]> = Arc::from(["127.0.0.2:7".parse().unwrap()]);
        resolver.remember((origin.host.clone(), origin.port), Arc::clone(&other));
        assert_eq!(resolver.addresses(&origin).await.unwrap(), other);
        tokio::time::advance(KEEP).await;
        let fresh: Arc<[SocketAddr]> = Arc::from(["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(resolver.addresses(&origin).await.unwrap(), fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_names_is_bounded() {
        let resolver = Resolver::default();
        let address: Arc<[SocketAddr]> = Arc::from(["127.0.0.1:7".parse().unwrap()]);
        for n in 0..=MAX_NAMES {
            resolver.remember((format!("host{n}"), 7), Arc::clone(&address));
        }
        assert_eq!(resolver.known.lock().len(), MAX_NAMES);
        tokio::time::advance(KEEP).await;
        resolver.remember(("late".into(), 7), address);
        assert_eq!(resolver.known.lock().len(), 1);
    }
}
