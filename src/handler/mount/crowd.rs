//! Requests for the same response wait for one fetch (collapsed forwarding, RFC 9111 §4).
//!
//! Whether one response may serve all is known only when it came. So the first request for a URL leads: it asks the
//! origin, and those that come meanwhile wait until its response is stored, at most for [`PATIENCE`], since its client
//! sets the pace. Then they use what is stored as far as that may be, and else ask for themselves. A URL whose response
//! was of no use to others, or never came, is remembered for [`MEMORY`], and nobody waits for it: what cannot be stored
//! is not asked for one after the other.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderName, Method, header};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Cause, FOR_THE_ORIGIN, OWN_CONDITIONS, Usable, Work};
use crate::{
    cache::ResponseKey,
    handler::{HandlerError, Reply},
    policy::{Reuse, Stored, reuse},
};

/// Longest wait for another request's response.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a URL is asked for by each request on its own.
const MEMORY: Duration = Duration::from_secs(60);
/// Most URLs that are known at once.
const MOST: usize = 10_000;
/// What makes a response one request's own, or asks for more than what is stored, besides conditions and ranges.
const OF_ONE_REQUEST: [HeaderName; 3] = [header::AUTHORIZATION, header::CACHE_CONTROL, header::PRAGMA];

/// The URLs of mounts that are being asked for, or that everybody asks for alone. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub(super) struct Crowds {
    urls: Arc<Mutex<HashMap<ResponseKey, Crowd>>>,
}

/// What is known of a URL.
enum Crowd {
    /// Somebody asks; the channel closes when that is over.
    Led(watch::Receiver<()>),
    /// Nobody waits for anybody.
    Scattered { until: Instant },
}

/// The place of a request among those for its URL.
pub(super) enum Place {
    /// It asks for all.
    Leads(Lead),
    /// It waits until this closes.
    Follows(watch::Receiver<()>),
    /// It asks for itself.
    Alone,
}

/// The right to ask for all. Dropped before [`Lead::stored`], it has brought nothing for the others.
pub(super) struct Lead {
    crowds: Crowds,
    key: ResponseKey,
    is_stored: bool,
    _over: watch::Sender<()>,
}

// === impl Work ===

impl Work<'_> {
    /// Asks the origin, or waits for who does that already. `stale` is what is stored, and to be validated.
    pub(super) async fn ask_together(&self, stale: Option<Usable>) -> Result<Reply, HandlerError> {
        let cause = if stale.is_some() { Cause::Stale } else { Cause::Miss };
        let place = if self.may_share() { self.mounts.crowds.join(&self.key) } else { Place::Alone };
        let lead = match place {
            Place::Leads(lead) => Some(lead),
            Place::Alone => None,
            Place::Follows(mut over) => {
                // An error is what is waited for: the other end is gone.
                let _ = tokio::time::timeout(PATIENCE, over.changed()).await;
                let usable = self.usable().await;
                if let Some(usable) = usable.filter(|usable| self.is_fresh(&usable.head)) {
                    return Ok(self.show(usable, cause.stored(true)));
                }
                None
            }
        };
        match stale {
            Some(usable) => self.validate(usable, cause, lead).await,
            None => self.miss(lead).await,
        }
    }

    /// Whether a response answers the request as it is.
    pub(super) fn is_fresh(&self, head: &Stored) -> bool {
        let found = reuse(head, &self.request.headers, self.mount.ttl, self.mounts.now());
        matches!(found, Reuse::Fresh { .. })
    }

    /// Whether the response may be of use to others, as far as the request tells.
    fn may_share(&self) -> bool {
        let own = OWN_CONDITIONS.iter().chain(&FOR_THE_ORIGIN).chain(&OF_ONE_REQUEST);
        self.request.method == Method::GET
            && own.into_iter().all(|name| !self.request.headers.contains_key(name))
    }
}

// === impl Crowds ===

impl Crowds {
    fn join(&self, key: &ResponseKey) -> Place {
        let (mut urls, now) = (self.urls.lock(), Instant::now());
        match urls.get(key) {
            Some(Crowd::Led(over)) => return Place::Follows(over.clone()),
            Some(Crowd::Scattered { until }) if now < *until => return Place::Alone,
            Some(Crowd::Scattered { .. }) | None => {}
        }
        if urls.len() >= MOST {
            urls.retain(|_, crowd| !matches!(crowd, Crowd::Scattered { until } if *until <= now));
        }
        if urls.len() >= MOST {
            return Place::Alone;
        }
        let (leader, followers) = watch::channel(());
        urls.insert(key.clone(), Crowd::Led(followers));
        Place::Leads(Lead { crowds: self.clone(), key: key.clone(), is_stored: false, _over: leader })
    }
}

// === impl Lead ===

impl Lead {
    /// The response is there for those who wait.
    pub(super) fn stored(mut self) {
        self.is_stored = true;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut urls = self.crowds.urls.lock();
        if self.is_stored {
            urls.remove(&self.key);
        } else {
            let scattered = Crowd::Scattered { until: Instant::now() + MEMORY };
            urls.insert(self.key.clone(), scattered);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{Crowds, MEMORY, MOST, Place, ResponseKey};
    use crate::cache::Owner;

    fn key(url: &str) -> ResponseKey {
        ResponseKey { owner: Owner::new(&[]), url: url.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_leads_until_its_response_is_stored_or_known_to_be_of_no_use() {
        let crowds = Crowds::default();
        let Place::Leads(lead) = crowds.join(&key("a")) else { panic!("nobody led") };
        let Place::Follows(mut over) = crowds.join(&key("a")) else { panic!("it is led") };
        assert!(matches!(crowds.join(&key("b")), Place::Leads(_)));
        lead.stored();
        assert!(over.changed().await.is_err());
        let Place::Leads(lead) = crowds.join(&key("a")) else { panic!("that was over") };
        drop(lead);
        assert!(matches!(crowds.join(&key("a")), Place::Alone));
        advance(MEMORY).await;
        assert!(matches!(crowds.join(&key("a")), Place::Leads(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let crowds = Crowds::default();
        for url in 0..2 * MOST {
            drop(crowds.join(&key(&url.to_string())));
        }
        assert_eq!(crowds.urls.lock().len(), MOST);
        advance(MEMORY).await;
        assert!(matches!(crowds.join(&key("new")), Place::Leads(_)));
    }
}
