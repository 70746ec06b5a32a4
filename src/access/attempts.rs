//! How many refusals of the service one address may cause: who tries many credentials must not become a burst.
//!
//! Each question about a credential of which nothing is known takes a place of its address, few at a time, so that
//! questions under way cannot pass the limit by much; one that ends in a refusal counts for a minute. An address that
//! has used its refusals up is told to come back. Many good credentials behind one address only wait for each other.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// What the limit is counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// Questions of one address at a time.
const AT_ONCE: usize = 8;
/// Addresses that are remembered; each takes some hundred bytes. Those asked about longest ago go first.
const ADDRESSES: u64 = 65_536;

/// The refusals that addresses caused.
pub struct Attempts {
    addresses: Cache<IpAddr, Arc<Address>>,
    limit: f64,
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
    /// At most `limit` refusals a minute for each address.
    pub fn new(limit: usize) -> Self {
        let addresses = Cache::builder().max_capacity(ADDRESSES).time_to_idle(2 * WINDOW).build();
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let limit = limit as f64;
        Self { addresses, limit }
    }

    /// Takes a place for a question from `address`; the error is how long it is to stay away.
    pub async fn begin(&self, address: IpAddr) -> Result<Attempt, Duration> {
        let address = self.address(address);
        address.check(self.limit)?;
        let place = Arc::clone(&address.places).acquire_owned().await.ok();
        // Those that went before may have used it up.
        address.check(self.limit)?;
        Ok(Attempt { _place: place })
    }

    /// Whether `address` may cause one more; the error is how long it is to stay away.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        self.address(address).check(self.limit)
    }

    /// The service refused a credential that came from `address`.
    pub fn refused(&self, address: IpAddr) {
        let address = self.address(address);
        let mut refusals = address.refusals.lock();
        let level = refusals.level_at(Instant::now(), self.limit);
        refusals.level = level + 1.0;
    }

    fn address(&self, address: IpAddr) -> Arc<Address> {
        self.addresses.get_with(of(address), || Arc::new(Address::new()))
    }
}

// === impl Address ===

impl Address {
    fn new() -> Self {
        let refusals = Mutex::new(Refusals { level: 0.0, at: Instant::now() });
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), refusals }
    }

    fn check(&self, limit: f64) -> Result<(), Duration> {
        let level = self.refusals.lock().level_at(Instant::now(), limit);
        if level + 1.0 <= limit {
            return Ok(());
        }
        Err(WINDOW.mul_f64((level + 1.0 - limit) / limit))
    }
}

// === impl Refusals ===

impl Refusals {
    fn level_at(&mut self, now: Instant, limit: f64) -> f64 {
        let leaked = now.duration_since(self.at).as_secs_f64() / WINDOW.as_secs_f64() * limit;
        (self.level, self.at) = ((self.level - leaked).max(0.0), now);
        self.level
    }
}

/// A host has a whole /64 of IPv6 to choose addresses from.
fn of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AT_ONCE, Attempts};

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_no_more_refusals_than_its_limit() {
        let attempts = Attempts::new(3);
        let one = "10.0.0.1".parse().unwrap();
        for _ in 0..3 {
            attempts.begin(one).await.ok().unwrap();
            attempts.refused(one);
        }
        let wait = attempts.begin(one).await.err().unwrap();
        assert_eq!(attempts.check(one), Err(wait));
        assert!((19..=20).contains(&wait.as_secs()), "{wait:?}");
        attempts.begin("10.0.0.2".parse().unwrap()).await.ok().unwrap();
        attempts.begin("::ffff:10.0.0.1".parse().unwrap()).await.err().unwrap();
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        attempts.begin(one).await.ok().unwrap();
        attempts.refused(one);
        attempts.begin(one).await.err().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn good_credentials_behind_one_address_wait_for_each_other() {
        let attempts = Attempts::new(1);
        let six = |host: u32| format!("fd00::{host:x}").parse().unwrap();
        let mut held = Vec::new();
        for host in 0..u32::try_from(AT_ONCE).unwrap() {
            held.push(attempts.begin(six(host)).await.ok().unwrap());
        }
        let waiting = attempts.begin(six(999));
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        held.pop();
        waiting.await.ok().unwrap();
        attempts.refused(six(999));
        attempts.begin(six(7)).await.err().unwrap();
    }
}
