//! Modes of feeds: whether the service is asked for them, and whether stored copies stand in. Switchable at run time.
//!
//! A feed is known by the name that the operator wrote and by what the table of identities says of it, so a mode
//! holds for every spelling that was ever seen. Where nothing is known of a spelling, the default holds.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::{Handler, HandlerError};
use crate::{
    cache::Known,
    config::{FeedMode, FeedSettings, Mode, Outage, changes::FeedName},
    ident::FeedRef,
    upstream::Service,
};

/// Which mode each feed has. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Modes {
    set: Arc<RwLock<Set>>,
    gauge: IntGaugeVec,
    feeds_gauge: IntGaugeVec,
}

struct Set {
    default: Mode,
    feeds: Vec<FeedMode>,
}

// === impl Modes ===

impl Modes {
    /// The modes of the configuration. Registers `feedgate_mode` and `feedgate_feed_modes`.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(
        outage: &Outage,
        feeds: &[FeedSettings],
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["mode"]);
        let own = feeds.iter().filter_map(FeedSettings::own_mode).collect();
        let modes = Self {
            set: Arc::new(RwLock::new(Set { default: outage.mode, feeds: own })),
            gauge: gauge("feedgate_mode", "1 for the mode of feeds that have none of their own")?,
            feeds_gauge: gauge("feedgate_feed_modes", "Feeds with a mode of their own")?,
        };
        registry.register(Box::new(modes.gauge.clone()))?;
        registry.register(Box::new(modes.feeds_gauge.clone()))?;
        modes.show();
        Ok(modes)
    }

    /// The mode of feeds that have none of their own.
    pub fn default_mode(&self) -> Mode {
        self.set.read().default
    }

    /// Feeds with a mode of their own.
    pub fn feeds(&self) -> Vec<FeedMode> {
        self.set.read().feeds.clone()
    }

    /// Switches the default, until the end of the gate.
    pub fn set_default(&self, mode: Mode) {
        self.set.write().default = mode;
        self.show();
        tracing::info!(mode = mode.as_str(), "mode switched for feeds that have none of their own");
    }

    /// Switches one feed, until the end of the gate; `None` gives it the default again.
    pub fn set_feed(&self, name: FeedName, mode: Option<Mode>) {
        let label = name.to_string();
        {
            let feeds = &mut self.set.write().feeds;
            feeds.retain(|one| one.name.feed().spelling() != name.feed().spelling());
            feeds.extend(mode.map(|mode| FeedMode { name, mode }));
        }
        self.show();
        tracing::info!(feed = label, mode = mode.map_or("default", Mode::as_str), "mode switched for a feed");
    }

    /// The mode of `feed`; `identity` tells what is known of a spelling.
    fn of(&self, feed: &FeedRef, identity: impl Fn(&FeedRef) -> Option<String>) -> Mode {
        let set = self.set.read();
        if set.feeds.is_empty() {
            return set.default;
        }
        set.feeds.iter().find(|one| means(&one.name, feed, &identity)).map_or(set.default, |one| one.mode)
    }

    fn show(&self) {
        let set = self.set.read();
        for mode in Mode::ALL {
            self.gauge.with_label_values(&[mode.as_str()]).set((mode == set.default).into());
            let feeds = set.feeds.iter().filter(|one| one.mode == mode).count();
            let feeds = i64::try_from(feeds).unwrap_or(i64::MAX);
            self.feeds_gauge.with_label_values(&[mode.as_str()]).set(feeds);
        }
    }
}

// === impl Handler ===

impl Handler {
    /// The mode in which requests for `feed` are answered.
    pub(super) fn mode(&self, feed: &FeedRef) -> Mode {
        let mode = self.parts.modes.of(feed, |feed| self.known_identity(feed));
        // A service that is down is as one that is not asked, but to who shows nothing in its place.
        if self.pretends && mode == Mode::Fallback { Mode::Offline } else { mode }
    }

    /// Whether `feed` has a mode of its own.
    pub(super) fn has_own_mode(&self, feed: &FeedRef) -> bool {
        let known = |feed: &FeedRef| self.known_identity(feed);
        self.parts.modes.set.read().feeds.iter().any(|one| means(&one.name, feed, known))
    }

    /// What is known of the identity that a spelling has, without its view.
    pub(super) fn known_identity(&self, feed: &FeedRef) -> Option<String> {
        match self.parts.identities.get(feed, self.now()) {
            Known::Identity(identity) | Known::Old(identity) => {
                Some(identity.split('@').next().unwrap_or_default().to_owned())
            }
            Known::Nothing | Known::Unknown => None,
        }
    }

    /// The same for a request that may be for no feed.
    pub(super) fn mode_of(&self, feed: Option<&FeedRef>) -> Mode {
        feed.map_or_else(|| self.parts.modes.default_mode(), |feed| self.mode(feed))
    }

    /// An error where the service must not be asked for `feed`.
    pub(super) fn online(&self, feed: Option<&FeedRef>) -> Result<(), HandlerError> {
        if self.pretends || self.mode_of(feed) == Mode::Offline { Err(HandlerError::Offline) } else { Ok(()) }
    }

    /// Whether a stored copy is served without asking `service` for `feed`.
    pub(super) fn suspects(&self, service: Service, feed: &FeedRef) -> bool {
        let org = &feed.org;
        match self.mode(feed) {
            Mode::Offline => true,
            Mode::Strict => false,
            Mode::Fallback => self.parts.breaks.is_dead(service, org) || self.outage.suspects(service, org),
        }
    }
}

/// Whether the operator's `name` means `feed`, through whatever view; `identity` tells what is known of a spelling.
fn means(name: &FeedName, feed: &FeedRef, identity: impl Fn(&FeedRef) -> Option<String>) -> bool {
    let FeedRef { org, project, feed: own_name, .. } = feed.clone();
    let whole = FeedRef::new(org, project, own_name, None);
    let spelling = whole.spelling();
    let learned = if feed.key() == feed.spelling() { identity(&whole) } else { None };
    let key = learned.as_deref().unwrap_or_else(|| feed.whole_key());
    let own = name.feed();
    let spelled = own.spelling();
    spelled == spelling || spelled == key || identity(own).as_deref() == Some(key)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::Modes;
    use crate::{
        config::{Mode, Outage},
        ident::{FeedRef, Name},
    };

    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

    fn feed(project: Option<&str>, feed: &str, view: Option<&str>) -> FeedRef {
        let name = |text: &str| Name::parse(text).unwrap();
        FeedRef::new(name("contoso"), project.map(name), name(feed), view.map(name))
    }

    /// `main` has an identity; nothing is known of other spellings.
    fn identity(feed: &FeedRef) -> Option<String> {
        let own = ["contoso/-/main", "contoso/-/renamed"].contains(&feed.spelling());
        own.then(|| format!("contoso/-/{GUID}"))
    }

    #[test]
    fn a_mode_holds_for_every_spelling_of_its_feed_and_for_no_other() {
        let key = format!("contoso/-/{GUID}");
        for set in ["contoso/main", &format!("contoso/{GUID}")] {
            let modes = Modes::new(&Outage::default(), &[], &Registry::new()).unwrap();
            modes.set_feed(set.parse().unwrap(), Some(Mode::Offline));
            for (asked, mode) in [
                (feed(None, "main", None).identified(&key), Mode::Offline),
                (feed(None, "Main", Some("Local")).identified(&format!("{key}@local")), Mode::Offline),
                (feed(None, GUID, None), Mode::Offline),
                (feed(None, GUID, Some("Local")), Mode::Offline),
                (feed(None, "renamed", None), Mode::Offline),
                (feed(None, "other", None), Mode::Fallback),
                (feed(Some("web"), "main", None), Mode::Fallback),
            ] {
                assert_eq!(modes.of(&asked, identity), mode, "{set}: {asked:?}");
            }
        }
    }

    #[test]
    fn modes_are_switched_and_shown() {
        let modes = Modes::new(&Outage::default(), &[], &Registry::new()).unwrap();
        modes.set_default(Mode::Offline);
        modes.set_feed("contoso/main".parse().unwrap(), Some(Mode::Strict));
        modes.set_feed("Contoso/Main".parse().unwrap(), Some(Mode::Fallback));
        let shown = |mode: Mode| modes.gauge.with_label_values(&[mode.as_str()]).get();
        let own = |mode: Mode| modes.feeds_gauge.with_label_values(&[mode.as_str()]).get();
        assert_eq!(Mode::ALL.map(shown), [0, 1, 0]);
        assert_eq!(Mode::ALL.map(own), [1, 0, 0]);
        assert_eq!(modes.of(&feed(None, "main", None), |_| None), Mode::Fallback);
        modes.set_feed("contoso/main".parse().unwrap(), None);
        assert_eq!(modes.of(&feed(None, "main", None), |_| None), Mode::Offline);
        assert_eq!(modes.feeds(), []);
    }
}
