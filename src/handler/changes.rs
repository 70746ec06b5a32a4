//! Following the changes of feeds, so that what is stored of them may be fresh for longer.
//!
//! For each feed of the configuration a task asks the service at an interval whether anything changed, and which
//! packages (facts §5.4). A change makes what is stored of its package old, as a write through the gate does. While
//! that works, the feed's documents have a freshness of their own; when it does not (outage, credential), the usual
//! one holds again at once.
//!
//! How far was read is kept on disk. A feed of which that is not known, or that cannot be gone on with, is made old as a
//! whole once. Changes to views are taken to be reported with their versions, which name their views; versions that are
//! new in an upstream source are not reported, so a feed that has sources keeps the usual freshness unless the
//! operator says otherwise.
//!
//! UNCERTAIN: whether dist-tags that were moved are reported, and whether a feed's documents always show a change by the
//! time it is reported. What is missed so is seen when `fresh` is over.

mod metrics;
mod plan;
mod poller;

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::{task::JoinSet, time::Instant};

use self::{
    metrics::{Metrics, Outcome},
    poller::Poller,
};
use super::Handler;
use crate::{
    cache::ChangeTokens,
    config::{Changes, Freshness},
    disk::Database,
    ident::FeedRef,
    route::{DocumentClass, DocumentRoute},
};

/// The feeds whose changes are followed.
pub struct Following {
    feeds: Vec<Followed>,
    tokens: ChangeTokens,
    metrics: Metrics,
}

/// One of them.
struct Followed {
    settings: Changes,
    /// Its name in metrics and logs.
    label: String,
    state: Mutex<State>,
}

/// How following a feed goes.
struct State {
    /// When the service last told of changes; at first, when following began.
    told_at: Instant,
    /// The feed whose documents are fresh for longer, by its key, and until when that is so unless a poll renews it.
    longer: Option<(String, Instant)>,
}

// === impl Following ===

impl Following {
    /// Prepares following; registers its metrics.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(
        settings: &[Changes],
        database: &Database,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let labels: Vec<String> = settings.iter().map(|one| one.feed.to_string()).collect();
        let metrics = Metrics::new(registry, &labels)?;
        let state = || Mutex::new(State { told_at: Instant::now(), longer: None });
        let followed = |(settings, label): (&Changes, String)| Followed {
            settings: settings.clone(),
            label,
            state: state(),
        };
        let feeds = settings.iter().zip(labels).map(followed).collect();
        Ok(Self { feeds, tokens: ChangeTokens::new(database), metrics })
    }

    /// How long a document of `feed` is fresh, if its changes are followed now.
    fn fresh(&self, feed: &FeedRef, class: DocumentClass) -> Option<Duration> {
        if self.feeds.is_empty() || !is_reported(class) {
            return None;
        }
        let (key, now) = (feed.whole_key(), Instant::now());
        let is_it = |followed: &&Followed| {
            followed.state.lock().longer.as_ref().is_some_and(|(own, until)| *own == key && now < *until)
        };
        self.feeds.iter().find(is_it).map(|followed| followed.settings.fresh)
    }
}

/// Whether what changes a document is reported. Searches and REST answers tell of more than packages.
fn is_reported(class: DocumentClass) -> bool {
    use DocumentClass as C;
    match class {
        C::Packument | C::VersionList | C::Registration | C::Odata => true,
        C::ServiceIndex | C::Nuspec | C::Search | C::Vulnerabilities | C::Rest | C::Feeds => false,
    }
}

// === impl Handler ===

impl Handler {
    /// Starts following; ends when the set is dropped.
    pub fn follow_changes(&self) -> JoinSet<()> {
        let count = self.parts.changes.feeds.len();
        (0..count).map(|index| Poller::new(self.clone(), index).run()).collect()
    }

    /// Brings the metrics of following up to date.
    pub fn refresh_figures(&self) {
        let Following { feeds, metrics, .. } = &self.parts.changes;
        for followed in feeds {
            metrics.age(&followed.label, followed.state.lock().told_at.elapsed());
        }
    }

    /// How long a document is used: as the configuration says of its kind, or longer where changes are followed.
    pub(super) fn freshness(&self, route: &DocumentRoute) -> Freshness {
        let usual = *self.policy(route.class());
        let followed = self.parts.changes.fresh(&route.feed, route.class());
        followed.map_or(usual, |fresh| Freshness { fresh, ..usual })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use prometheus::Registry;
    use tokio::time::{Instant, advance};

    use super::Following;
    use crate::{
        config::Config,
        disk::{Database, DatabaseSettings, StoreDirectory},
        ident::{FeedRef, Name},
        route::DocumentClass,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn only_reported_documents_of_a_followed_feed_and_its_views_are_fresh_for_longer() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
        let database = Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap();
        let config =
            Config::parse("[[changes]]\nfeed = \"contoso/main\"\n", &BTreeMap::new()).unwrap().config;
        let following = Following::new(&config.changes, &database.database, &Registry::new()).unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let feed =
            |identity: &str| FeedRef::new(name("contoso"), None, name("main"), None).identified(identity);
        let fresh = |identity: &str, class| following.fresh(&feed(identity), class);
        assert_eq!(fresh("contoso/-/guid", DocumentClass::Packument), None);
        let until = Instant::now() + Duration::from_secs(60);
        following.feeds[0].state.lock().longer = Some(("contoso/-/guid".to_owned(), until));
        for identity in ["contoso/-/guid", "contoso/-/guid@view"] {
            assert_eq!(fresh(identity, DocumentClass::Packument), Some(HOUR));
        }
        for class in DocumentClass::ALL {
            let longer = ["packument", "version_list", "registration", "odata"].contains(&class.as_str());
            assert_eq!(fresh("contoso/-/guid", class).is_some(), longer, "{}", class.as_str());
        }
        assert_eq!(fresh("contoso/-/other", DocumentClass::Packument), None);
        // A poll that hangs, or a task that is gone, must not keep documents fresh.
        advance(Duration::from_secs(60)).await;
        assert_eq!(fresh("contoso/-/guid", DocumentClass::Packument), None);
    }
}
