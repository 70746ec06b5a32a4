//! How many refusals of the service one address may cause, and one credential: who tries many credentials, or one at many
//! feeds from many addresses, must not become a burst.
//!
//! Each question about a credential of which nothing is known takes a place of its address, few at a time, so that
//! questions under way cannot pass the limit by much; one that ends in a refusal counts for a minute. An address that
//! has used its refusals up is told to come back. Many good credentials behind one address only wait for each other.

use std::{net::IpAddr, sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::CallerId;
use crate::listener::client_of;

/// What the limit is counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// Questions of one address at a time.
const AT_ONCE: usize = 8;
/// Addresses that are remembered, and credentials; each takes some hundred bytes. Those asked about longest ago go first.
const REMEMBERED: u64 = 65_536;

/// The refusals that addresses and credentials caused.
pub struct Attempts {
    addresses: Cache<IpAddr, Arc<Address>>,
    /// Those of which the service refused something lately.
    credentials: Cache<CallerId, Arc<Mutex<Refusals>>>,
    limit: f64,
}

/// A caller of whom nothing is known where it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// From where it asks.
    pub address: IpAddr,
    /// What it shows.
    pub caller: CallerId,
}

/// A question of an address, until its end.
pub struct Attempt {
    _place: Option<OwnedSemaphorePermit>,
}

struct Address {
    places: Arc<Semaphore>,
    refusals: Mutex<Refusals>,
}

/// A bucket that leaks `limit` in a [`WINDOW`].
struct Refusals {
    level: f64,
    at: Instant,
}

// === impl Attempts ===

impl Attempts {
    /// At most `limit` refusals a minute for each address, and for each credential.
    pub fn new(limit: usize) -> Self {
        let addresses = Cache::builder().max_capacity(REMEMBERED).time_to_idle(2 * WINDOW).build();
        let credentials = Cache::builder().max_capacity(REMEMBERED).time_to_idle(2 * WINDOW).build();
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let limit = limit as f64;
        Self { addresses, credentials, limit }
    }

    /// Takes a place for a question of `who`; the error is how long it is to stay away.
    pub async fn begin(&self, who: &Unknown) -> Result<Attempt, Duration> {
        self.check(who)?;
        let place = Arc::clone(&self.address(who.address).places).acquire_owned().await.ok();
        // Those that went before may have used it up.
        self.check(who)?;
        Ok(Attempt { _place: place })
    }

    /// Whether `who` may cause one more; the error is how long it is to stay away.
    pub fn check(&self, who: &Unknown) -> Result<(), Duration> {
        if let Some(refusals) = self.credentials.get(&who.caller) {
            refusals.lock().check(self.limit)?;
        }
        self.address(who.address).refusals.lock().check(self.limit)
    }

    /// The service refused `who`.
    pub fn refused(&self, who: &Unknown) {
        let fresh = || Arc::new(Mutex::new(Refusals::none()));
        // Many may have waited for one refusal: a credential that is good again is not kept waiting for theirs.
        self.credentials.get_with(who.caller, fresh).lock().add(self.limit, self.limit);
        self.address(who.address).refusals.lock().add(self.limit, f64::INFINITY);
    }

    fn address(&self, address: IpAddr) -> Arc<Address> {
        let fresh = || {
            let refusals = Mutex::new(Refusals::none());
            Arc::new(Address { places: Arc::new(Semaphore::new(AT_ONCE)), refusals })
        };
        self.addresses.get_with(client_of(address), fresh)
    }
}

// === impl Refusals ===

impl Refusals {
    fn none() -> Self {
        Self { level: 0.0, at: Instant::now() }
    }

    /// One more, up to `most`.
    fn add(&mut self, limit: f64, most: f64) {
        self.level = (self.level_at(Instant::now(), limit) + 1.0).min(most);
    }

    fn check(&mut self, limit: f64) -> Result<(), Duration> {
        let level = self.level_at(Instant::now(), limit);
        if level + 1.0 <= limit {
            return Ok(());
        }
        Err(WINDOW.mul_f64((level + 1.0 - limit) / limit))
    }

    fn level_at(&mut self, now: Instant, limit: f64) -> f64 {
        let leaked = now.duration_since(self.at).as_secs_f64() / WINDOW.as_secs_f64() * limit;
        (self.level, self.at) = ((self.level - leaked).max(0.0), now);
        self.level
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::{AT_ONCE, Attempts, Unknown};
    use crate::access::CallerKey;

    /// Somebody with a credential that nobody else has.
    fn at(address: &str) -> Unknown {
        let caller = *CallerKey::random().caller(Some(&HeaderValue::from_static("x"))).id();
        Unknown { address: address.parse().unwrap(), caller }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_no_more_refusals_than_its_limit() {
        let attempts = Attempts::new(3);
        for _ in 0..3 {
            let one = at("10.0.0.1");
            attempts.begin(&one).await.ok().unwrap();
            attempts.refused(&one);
        }
        let one = at("10.0.0.1");
        let wait = attempts.begin(&one).await.err().unwrap();
        assert_eq!(attempts.check(&one), Err(wait));
        assert!((19..=20).contains(&wait.as_secs()), "{wait:?}");
        attempts.begin(&at("10.0.0.2")).await.ok().unwrap();
        attempts.begin(&at("::ffff:10.0.0.1")).await.err().unwrap();
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        attempts.begin(&one).await.ok().unwrap();
        attempts.refused(&one);
        attempts.begin(&one).await.err().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_gets_no_more_refusals_than_its_limit_wherever_it_is_shown() {
        let attempts = Attempts::new(3);
        let Unknown { caller, .. } = at("10.0.0.1");
        let from = |host: u32| Unknown { address: std::net::Ipv4Addr::from_bits(host).into(), caller };
        for host in 0..100 {
            // Many had waited for one refusal.
            attempts.refused(&from(host));
        }
        let wait = attempts.begin(&from(1000)).await.err().unwrap();
        assert!((19..=20).contains(&wait.as_secs()), "{wait:?}");
        attempts.begin(&at("10.0.0.1")).await.ok().unwrap();
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        attempts.begin(&from(1000)).await.ok().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn good_credentials_behind_one_address_wait_for_each_other() {
        let attempts = Attempts::new(1);
        let six = |host: u32| at(&format!("fd00::{host:x}"));
        let mut held = Vec::new();
        for host in 0..u32::try_from(AT_ONCE).unwrap() {
            held.push(attempts.begin(&six(host)).await.ok().unwrap());
        }
        let last = six(999);
        let waiting = attempts.begin(&last);
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        held.pop();
        waiting.await.ok().unwrap();
        attempts.refused(&six(999));
        attempts.begin(&six(7)).await.err().unwrap();
    }
}
