//! Who may use the gate's own credentials, and for which feeds they are used.
//!
//! The decision comes before anything is looked up, so it takes the same steps whatever is stored. It knows nothing of
//! the service: what the gate itself may read is a verdict like any other.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::SystemTime};

use futures::FutureExt as _;
use http::HeaderMap;
use ipnet::IpNet;
use prometheus::{IntCounterVec, Opts, Registry};

use super::{
    Caller, CallerId, CallerKey, Same, TokenError,
    pages::{is_foreign, names_gate},
    same_feed,
    tokens::Tokens,
};
use crate::{
    config::{self, AccessMode, FeedSettings, PublicUrl, access::Rights},
    ident::{FeedRef, Name},
    redact::Secret,
    upstream::Credential,
};

/// The gate's credentials, and who may use them.
pub struct Gateway {
    organisations: HashMap<String, Organisation>,
    feeds: Vec<FeedSettings>,
    tokens: Option<Arc<Tokens>>,
    networks: Vec<IpNet>,
    network_rights: Rights,
    /// By the operator's word.
    open: bool,
    /// Whether callers on this machine are let in: nothing else says who may.
    local: bool,
    /// The host of the gate's own URL, if that is configured.
    host: Option<String>,
    checks: IntCounterVec,
}

/// An organisation with settings of its own.
struct Organisation {
    access: AccessMode,
    /// The gate there, and its credential.
    gate: Option<(CallerId, Credential)>,
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// From where.
    pub address: Option<IpAddr>,
    /// Of which organisation.
    pub org: &'a Name,
    /// Of which feed, if it is for one.
    pub feed: Option<&'a FeedRef>,
    /// What is needed for it.
    pub needs: Rights,
    /// What else it says of where it comes from.
    pub headers: &'a HeaderMap,
}

/// By what a caller is let in: a token, its network, or neither where it shows a credential of the service.
#[derive(Debug, Clone, Copy)]
pub struct By(Option<&'static str>);

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stranger {
    /// No gate token, and not from a network whose callers need none.
    #[error("a gate token is needed: as the password of Basic with any user, or as Bearer")]
    Missing,
    /// Looks like a gate token and is none, or none any more.
    #[error("the gate token is not known, or was revoked")]
    Unknown,
    /// A token whose time is over.
    #[error("the gate token `{0}` has expired")]
    Expired(String),
    /// A token for another place.
    #[error("the gate token `{0}` is not for this feed: none of its scopes covers it")]
    Scope(String),
    /// A write with a token that may only read.
    #[error("the gate token `{0}` may only read (its rights are `read`)")]
    ReadOnly(String),
    /// A write from a network whose callers may only read.
    #[error("without a gate token callers may only read here (`access.network_rights` is `read`)")]
    NetworkReadOnly,
    /// A gate token where the service wants a credential of its own.
    #[error(
        "a gate token is of no use for this feed: it takes a credential of the service (access `passthrough`)"
    )]
    Misplaced,
    /// Only callers on the gate's own machine need no token, and a page of a stranger can make a browser there ask so.
    #[error(
        "without a gate token the gate must be asked by an address, localhost or the host of `listen.public_url` here"
    )]
    Name,
    /// A write of a web page of another origin.
    #[error("a web page of another origin must not change anything here without a gate token")]
    Page,
    /// A feed by a GUID, and the access of some feeds is set by names.
    #[error("this feed must be asked for by its name: the access of feeds is set by name here")]
    Spelling,
}

// === impl Gateway ===

impl Gateway {
    /// Reads the tokens; registers `feedgate_token_checks_total`. `credentials` has the gate's own by organisation.
    ///
    /// # Errors
    /// When the tokens cannot be read.
    pub fn new(
        settings: &config::Access,
        (organisations, feeds, public_url): (&[config::Organisation], &[FeedSettings], Option<&PublicUrl>),
        credentials: &HashMap<String, Credential>,
        key: &CallerKey,
        registry: &Registry,
    ) -> Result<Self, GatewayError> {
        let checks = IntCounterVec::new(
            Opts::new("feedgate_token_checks_total", "Callers who asked to use the gate's own credentials"),
            &["outcome"],
        )?;
        registry.register(Box::new(checks.clone()))?;
        for outcome in Stranger::OUTCOMES.into_iter().chain(["token", "network"]) {
            checks.with_label_values(&[outcome]).inc_by(0);
        }
        let organisation = |one: &config::Organisation| {
            let name = one.name.folded().to_owned();
            let credential = credentials.get(&name).cloned();
            let gate = credential.map(|credential| (key.gate(&name), credential));
            (name, Organisation { access: one.access, gate })
        };
        Ok(Self {
            organisations: organisations.iter().map(organisation).collect(),
            feeds: feeds.iter().filter(|feed| feed.access.is_some()).cloned().collect(),
            tokens: settings.tokens.as_deref().map(Tokens::open).transpose()?.map(Arc::new),
            networks: settings.networks.clone(),
            network_rights: settings.network_rights,
            open: settings.open,
            // The configuration only holds on a loopback address then, or by the operator's word.
            local: settings.tokens.is_none() && settings.networks.is_empty(),
            host: public_url.map(|url| url.host().to_ascii_lowercase()),
            checks,
        })
    }

    /// The gate's own credentials.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        self.organisations
            .values()
            .filter_map(|own| own.gate.as_ref().map(|(_, credential)| credential.clone()))
    }

    /// Keeps the gate tokens as their file has them, for as long as it runs; `None` where there is no file.
    pub fn keep_tokens(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.tokens.clone().map(Tokens::keep)
    }

    /// The caller as whom the service is asked, at `now`; `None` is the caller as it is. `identity` tells what is known
    /// of a spelling.
    ///
    /// # Errors
    /// When the caller is not let in.
    pub async fn admit(
        &self,
        asking: Asking<'_>,
        identity: impl Fn(&FeedRef) -> Option<String>,
        now: SystemTime,
    ) -> Result<Option<Caller>, Stranger> {
        let mode = self.mode(asking.org, asking.feed, &identity)?;
        let token = asking.caller.token();
        if mode == AccessMode::Passthrough {
            // What opens the gate must not reach the service.
            return if token.is_some() { Err(Stranger::Misplaced) } else { Ok(None) };
        }
        let by_token = self.checked(token.as_ref(), asking, &identity, now)? == "token";
        // The configuration holds only if there is one.
        let (id, credential) = self.gate(asking.org).ok_or(Stranger::Missing)?;
        let turn = asking.caller.turn().filter(|_| by_token).copied();
        Ok(Some(Caller::of_gate(*id, turn, credential.header().await)))
    }

    /// As whom the service is asked for `feed`, as far as that is told without waiting: `Some(None)` is the caller itself.
    pub fn stand_in(
        &self,
        org: &Name,
        feed: &FeedRef,
        identity: impl Fn(&FeedRef) -> Option<String>,
    ) -> Option<Option<Caller>> {
        if self.mode(org, Some(feed), &identity).ok()? == AccessMode::Passthrough {
            return Some(None);
        }
        let (id, credential) = self.gate(org)?;
        Some(Some(Caller::of_gate(*id, None, credential.header().now_or_never()?)))
    }

    /// By what the caller, who shows `token`, is let in as before, with the gate standing in for it or not; none if it
    /// is not. To be [counted](Self::count) when the caller is answered.
    pub fn lets_in(
        &self,
        (asking, token): (Asking<'_>, Option<&Secret<String>>),
        by_gate: bool,
        identity: impl Fn(&FeedRef) -> Option<String>,
        now: SystemTime,
    ) -> Option<By> {
        match self.mode(asking.org, asking.feed, &identity).ok()? {
            AccessMode::Passthrough => (!by_gate && token.is_none()).then_some(By(None)),
            AccessMode::Gateway if by_gate => {
                self.judged(token, asking, &identity, now).ok().map(|by| By(Some(by)))
            }
            AccessMode::Gateway => None,
        }
    }

    /// Counts a caller who was let in.
    pub fn count(&self, by: By) {
        if let By(Some(by)) = by {
            self.checks.with_label_values(&[by]).inc();
        }
    }

    /// Lets a caller into a mount, whose place stands where an organisation does.
    ///
    /// # Errors
    /// When the caller is not let in.
    pub fn admit_mounted(&self, asking: Asking<'_>, now: SystemTime) -> Result<(), Stranger> {
        let token = asking.caller.token();
        self.checked(token.as_ref(), asking, &|_: &FeedRef| None, now).map(drop)
    }

    /// Lets a caller at `address` use a mount that asks nobody for a token, and whose credential is the gate's own.
    ///
    /// # Errors
    /// When the caller is elsewhere, or a web page, and the operator did not say that everybody may.
    pub fn admit_here(
        &self,
        address: Option<IpAddr>,
        headers: &HeaderMap,
        needs: Rights,
    ) -> Result<(), Stranger> {
        if !self.open {
            self.is_here(address, headers)?;
        }
        not_of_a_page(headers, needs)
    }

    /// The gate at an organisation, and its credential.
    fn gate(&self, org: &Name) -> Option<&(CallerId, Credential)> {
        self.organisations.get(org.folded())?.gate.as_ref()
    }

    /// By what the caller is let in; counted.
    fn checked(
        &self,
        token: Option<&Secret<String>>,
        asking: Asking<'_>,
        identity: &impl Fn(&FeedRef) -> Option<String>,
        now: SystemTime,
    ) -> Result<&'static str, Stranger> {
        let checked = self.judged(token, asking, identity, now);
        let outcome = checked.as_ref().copied().unwrap_or_else(|stranger| stranger.outcome());
        self.checks.with_label_values(&[outcome]).inc();
        checked
    }

    /// The same, not counted.
    fn judged(
        &self,
        token: Option<&Secret<String>>,
        asking: Asking<'_>,
        identity: &impl Fn(&FeedRef) -> Option<String>,
        now: SystemTime,
    ) -> Result<&'static str, Stranger> {
        match token {
            Some(token) => self.check(token.reveal(), asking, identity, now).map(|()| "token"),
            None => self.check_network(asking).map(|()| "network"),
        }
    }

    /// With whose credential the service is asked.
    fn mode(
        &self,
        org: &Name,
        feed: Option<&FeedRef>,
        identity: &impl Fn(&FeedRef) -> Option<String>,
    ) -> Result<AccessMode, Stranger> {
        let own = self.organisations.get(org.folded()).map_or(AccessMode::Passthrough, |own| own.access);
        let Some(feed) = feed else { return Ok(own) };
        let mut unknown = false;
        for rule in &self.feeds {
            match (same_feed(rule.name.feed(), feed, identity), rule.access) {
                (Same::Yes, Some(access)) => return Ok(access),
                (Same::Unknown, Some(access)) => unknown |= access != own,
                (Same::Yes | Same::Unknown, None) | (Same::No, _) => {}
            }
        }
        if unknown { Err(Stranger::Spelling) } else { Ok(own) }
    }

    fn check(
        &self,
        text: &str,
        asking: Asking<'_>,
        identity: &impl Fn(&FeedRef) -> Option<String>,
        now: SystemTime,
    ) -> Result<(), Stranger> {
        let found = self.tokens.as_ref().and_then(|tokens| tokens.find(text));
        let token = found.ok_or(Stranger::Unknown)?;
        if token.has_expired(now) {
            return Err(Stranger::Expired(token.id));
        }
        if !token.scopes.iter().any(|scope| scope.covers(asking.org, asking.feed, identity)) {
            return Err(Stranger::Scope(token.id));
        }
        if asking.needs == Rights::Write && token.rights == Rights::Read {
            return Err(Stranger::ReadOnly(token.id));
        }
        tracing::debug!(token = token.id, name = token.name, "gate token");
        Ok(())
    }

    /// Whether the caller needs no token. What it shows that is none is nobody's business here.
    fn check_network(&self, asking: Asking<'_>) -> Result<(), Stranger> {
        let address = asking.address.map(|address| address.to_canonical());
        let listed = address.is_some_and(|own| self.networks.iter().any(|network| network.contains(&own)));
        if !listed && !self.open {
            if !self.local {
                return Err(Stranger::Missing);
            }
            self.is_here(address, asking.headers)?;
        }
        if asking.needs == Rights::Write && self.network_rights == Rights::Read {
            return Err(Stranger::NetworkReadOnly);
        }
        not_of_a_page(asking.headers, asking.needs)
    }

    /// Whether the caller is on this machine, or the gate itself, and no page that has had its name pointed here.
    fn is_here(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Stranger> {
        if address.is_some_and(|address| !address.to_canonical().is_loopback()) {
            return Err(Stranger::Missing);
        }
        if names_gate(headers, self.host.as_deref()) { Ok(()) } else { Err(Stranger::Name) }
    }
}

/// Whoever shows nothing may be a browser that a page makes ask.
fn not_of_a_page(headers: &HeaderMap, needs: Rights) -> Result<(), Stranger> {
    if needs == Rights::Write && is_foreign(headers) { Err(Stranger::Page) } else { Ok(()) }
}

// === impl Stranger ===

impl Stranger {
    /// Every label of the kind.
    const OUTCOMES: [&'static str; 5] = ["missing", "unknown", "expired", "scope", "read_only"];

    /// Whether another credential may help: 401, else 403.
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::Missing | Self::Unknown | Self::Expired(_) | Self::Misplaced => true,
            Self::Scope(_)
            | Self::ReadOnly(_)
            | Self::NetworkReadOnly
            | Self::Name
            | Self::Page
            | Self::Spelling => false,
        }
    }

    /// The code of the error table.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Unknown => "token_unknown",
            Self::Expired(_) => "token_expired",
            Self::Scope(_) => "token_scope",
            Self::ReadOnly(_) | Self::NetworkReadOnly => "read_only",
            Self::Misplaced => "token_misplaced",
            Self::Name => "foreign_host",
            Self::Page => "foreign_page",
            Self::Spelling => "feed_by_name",
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Missing | Self::Name | Self::Page => "missing",
            // The others never come to a check.
            Self::Unknown | Self::Misplaced | Self::Spelling => "unknown",
            Self::Expired(_) => "expired",
            Self::Scope(_) => "scope",
            Self::ReadOnly(_) | Self::NetworkReadOnly => "read_only",
        }
    }
}

/// Why the gateway cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The tokens.
    #[error("access.tokens: {0}")]
    Tokens(#[from] TokenError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

#[cfg(test)]
mod tests;
