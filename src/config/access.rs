//! `[access]`: how long the service's word on callers is trusted, and who may use the gate's own credentials.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{keys::Keys, text_enum::text_enum};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What `open` must say: an operator who types this knows what it means.
pub const OPEN: &str = "everybody who reaches the gate may use its credentials";

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// A permission; 60–300 s is what the facts suggest (§6).
    pub verdict_ttl: Duration,
    /// A refusal of a credential: short, since rights are granted while a user waits.
    pub denied_ttl: Duration,
    /// A refusal of anonymous callers: NuGet asks for every URL without a credential first.
    pub anonymous_denied_ttl: Duration,
    /// A permission while the service cannot be asked.
    pub grace: Duration,
    /// Which feed a name means: names can be re-pointed, so they are asked about again (facts §2).
    pub identity_ttl: Duration,
    /// Refusals of credentials that one address, or one credential, may cause at the service within a minute.
    pub denied_per_minute: usize,
    /// The file of gate tokens; `None`: there are none.
    pub tokens: Option<PathBuf>,
    /// Networks whose callers need no token.
    pub networks: Vec<IpNet>,
    /// What callers without a token may do, where they need none.
    pub network_rights: Rights,
    /// Whether the operator said in words that everybody may use the gate's credentials.
    pub open: bool,
}

text_enum! {
    /// What a caller may do.
    pub enum Rights {
        /// GET and HEAD, and the questions in bodies that change nothing.
        Read = "read",
        /// Everything.
        Write = "write",
    }
}

/// The sentence, or nothing.
struct Sentence;

// === impl Access ===

impl Default for Access {
    fn default() -> Self {
        Self {
            verdict_ttl: 5 * MINUTE,
            denied_ttl: 10 * SECOND,
            anonymous_denied_ttl: MINUTE,
            grace: 7 * DAY,
            identity_ttl: 10 * MINUTE,
            denied_per_minute: 60,
            tokens: None,
            networks: Vec::new(),
            network_rights: Rights::Read,
            open: false,
        }
    }
}

impl Access {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let zero = Duration::ZERO;
        let tokens: Option<String> = keys.optional("tokens", None);
        let section = Self {
            verdict_ttl: keys.span("verdict_ttl", default.verdict_ttl, zero),
            denied_ttl: keys.span("denied_ttl", default.denied_ttl, zero),
            anonymous_denied_ttl: keys.span("anonymous_denied_ttl", default.anonymous_denied_ttl, zero),
            grace: keys.span("grace", default.grace, zero),
            identity_ttl: keys.span("identity_ttl", default.identity_ttl, SECOND),
            denied_per_minute: keys.count("denied_per_minute", default.denied_per_minute, 1..=1_000_000),
            tokens: tokens.map(PathBuf::from),
            networks: keys.list("networks", default.networks),
            network_rights: keys.parsed("network_rights", default.network_rights),
            open: keys.optional::<Sentence>("open", None).is_some(),
        };
        keys.finish();
        section
    }
}

// === impl Sentence ===

impl std::str::FromStr for Sentence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OPEN { Ok(Self) } else { Err(format!("must be empty or \"{OPEN}\"")) }
    }
}

impl std::fmt::Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(OPEN)
    }
}
