//! `[throttle]`: what the service may be asked, with the reason of each default.

use std::{fmt, str::FromStr, time::Duration};

use super::keys::Keys;

const SECOND: Duration = Duration::from_secs(1);
/// Faster than that is no limit.
const FASTEST: u32 = 1_000_000;

/// `[throttle]`: what the service may be asked. Limits of the API hosts adapt; these are their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// Most requests in flight to the API hosts. The service blocks by concurrency per address at a number
    /// that it does not publish (facts §7.2); restores with 100–200 parallel requests met it.
    pub api_in_flight: usize,
    /// Most of one identity. As many by default: usually there is one, and what it may is found out.
    pub identity_in_flight: usize,
    /// Most downloads in flight from the blob hosts, which have no such limit.
    pub blob_in_flight: usize,
    /// Requests to the API hosts to begin with, and after the first refusal. No number is published. A little
    /// under 60/s (the 300 in 5 s that builds were seen to be held to), so that neither clocks nor a window that
    /// begins at another moment make it one too many; an unlimited service is at several hundred two seconds later.
    pub api_rate: PerSecond,
    /// Most that is ever asked of the API hosts: more than 32 in flight at 20 ms each can be.
    pub api_rate_most: PerSecond,
    /// Requests that may leave together after a rest, until the service refused for the first time: what an
    /// install of a few packages asks at once, and no more than the service is asked in flight at first.
    pub api_burst: usize,
    /// Fixed limit of metadata requests of one identity; none by default, since the adaptive one covers all.
    pub metadata_rate: PerSecond,
    /// Metadata requests that may leave together under that limit.
    pub metadata_burst: usize,
    /// Fixed limit of downloads of one identity; none by default, as above.
    pub download_rate: PerSecond,
    /// Downloads that may leave together under that limit.
    pub download_burst: usize,
    /// Bytes per second from the blob hosts, 0 for no limit: the line is the operator's.
    pub blob_bytes_per_second: u64,
    /// Most requests that wait, and twice what one client may have waiting: ten times the requests of an
    /// install of 500 packages, each a few hundred bytes of memory.
    pub queue_length: usize,
    /// Longest wait for a permit: below the 100 s after which NuGet gives a request up (facts §4.5).
    pub queue_timeout: Duration,
    /// Longest pause that is kept, whatever `Retry-After` says: the service's own window (facts §7.1).
    pub longest_pause: Duration,
    /// Identities whose limits are remembered: jobs with a token of their own make many. As many blob hosts.
    pub identities: usize,
}

/// A rate such as `55/s`; `0/s` is no limit where there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerSecond(pub u32);

// === impl Throttle ===

impl Default for Throttle {
    fn default() -> Self {
        Self {
            api_in_flight: 32,
            identity_in_flight: 32,
            blob_in_flight: 64,
            api_rate: PerSecond(55),
            api_rate_most: PerSecond(2000),
            api_burst: 8,
            metadata_rate: PerSecond(0),
            metadata_burst: 8,
            download_rate: PerSecond(0),
            download_burst: 8,
            blob_bytes_per_second: 0,
            queue_length: 10_000,
            queue_timeout: 60 * SECOND,
            longest_pause: 300 * SECOND,
            identities: 1024,
        }
    }
}

impl Throttle {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            api_in_flight: keys.count("api_in_flight", default.api_in_flight, 1..=10_000),
            identity_in_flight: keys.count("identity_in_flight", default.identity_in_flight, 1..=10_000),
            blob_in_flight: keys.count("blob_in_flight", default.blob_in_flight, 1..=10_000),
            api_rate: rate(&mut keys, "api_rate", default.api_rate, 1),
            api_rate_most: rate(&mut keys, "api_rate_most", default.api_rate_most, 1),
            api_burst: keys.count("api_burst", default.api_burst, 1..=10_000),
            metadata_rate: rate(&mut keys, "metadata_rate", default.metadata_rate, 0),
            metadata_burst: keys.count("metadata_burst", default.metadata_burst, 1..=10_000),
            download_rate: rate(&mut keys, "download_rate", default.download_rate, 0),
            download_burst: keys.count("download_burst", default.download_burst, 1..=10_000),
            blob_bytes_per_second: keys.size("blob_bytes_per_second", default.blob_bytes_per_second, 0),
            queue_length: keys.count("queue_length", default.queue_length, 1..=1_000_000),
            queue_timeout: keys.span("queue_timeout", default.queue_timeout, Duration::from_millis(1)),
            longest_pause: keys.span("longest_pause", default.longest_pause, SECOND),
            identities: keys.count("identities", default.identities, 1..=1_000_000),
        };
        keys.finish();
        section
    }
}

fn rate(keys: &mut Keys<'_>, key: &str, default: PerSecond, least: u32) -> PerSecond {
    let rate = keys.parsed(key, default);
    if rate.0 < least {
        keys.problem(key, format!("\"{rate}\""), format!("must be at least {least}/s"));
    }
    rate
}

// === impl PerSecond ===

impl PerSecond {
    /// The rate, if it is a limit.
    pub fn limit(self) -> Option<f64> {
        (self.0 > 0).then(|| f64::from(self.0))
    }
}

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix("/s").and_then(|number| number.parse().ok());
        let rule = || format!("must be a whole number per second up to {FASTEST}, such as 55/s");
        number.filter(|number| *number <= FASTEST).map(Self).ok_or_else(rule)
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::PerSecond;

    #[test]
    fn a_rate_is_a_whole_number_per_second() {
        for (text, rate) in [("55/s", Some(55)), ("0/s", Some(0)), ("1000000/s", Some(1_000_000))] {
            assert_eq!(text.parse().ok(), rate.map(PerSecond), "{text}");
            assert_eq!(rate.map(|rate| PerSecond(rate).to_string()).as_deref(), Some(text));
        }
        for text in ["55", "/s", "-1/s", "1.5/s", "55/m", "1000001/s", ""] {
            assert!(text.parse::<PerSecond>().is_err(), "{text}");
        }
    }
}
