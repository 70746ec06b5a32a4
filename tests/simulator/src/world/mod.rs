//! The service's state: organisations, feeds, views, packages. Names and GUIDs meet here; HTTP doesn't reach here.
//!
//! Organisations and feeds are never removed (a deleted feed is only marked), so an index into them stays good.
//! Packages are shared by `Arc` and copied on change: a document can be rendered from one while the feed moves on.
//! Deleted versions lie beside the others, out of the readers' sight, see `recycle`.

mod catalogue;
mod changes;
mod edit;
mod npm;
mod nuget;
mod operation;
mod recycle;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use catalogue::{PackageEntry, Protocol, Release, VersionEntry, VersionKey};
pub(crate) use changes::{Change, ChangeLog};
pub(crate) use npm::{Npm, NpmRelease, PackumentForm};
pub(crate) use nuget::{Nuget, NugetRelease};
pub(crate) use operation::Operation;

use crate::content::organisation::{Feed, Organisation, Scope, Token};
use crate::content::seed::Seed;

/// Ingestion stamps start here (2024-01-01T00:00:00Z) and go up by an hour per version.
pub(crate) const FIRST_INGESTION: u64 = 1_704_067_200;

/// Everything the service knows.
pub(crate) struct World {
    pub(crate) seed: Seed,
    pub(crate) organisations: Vec<OrganisationState>,
    /// Goes up with every change; rendered documents of an older revision are void.
    pub(crate) revision: u64,
}

/// An organisation.
pub(crate) struct OrganisationState {
    pub(crate) own: Named,
    pub(crate) tenant: Uuid,
    pub(crate) tokens: Vec<Token>,
    pub(crate) feeds: Vec<FeedState>,
    /// The token of the latest change of any feed's own properties.
    pub(crate) feed_token: u64,
}

/// A feed.
#[derive(Clone)]
pub(crate) struct FeedState {
    pub(crate) seed: Seed,
    pub(crate) own: Named,
    pub(crate) project: Option<Named>,
    pub(crate) public: bool,
    pub(crate) views: Vec<Named>,
    pub(crate) npm: BTreeMap<String, Arc<Npm>>,
    /// By lower-case id.
    pub(crate) nuget: BTreeMap<String, Arc<Nuget>>,
    pub(crate) description: Option<String>,
    /// Deleted through REST: it answers to nothing any more.
    pub(crate) deleted: bool,
    /// The token of the latest change of the feed's own properties.
    pub(crate) token: u64,
    /// Packages, by key, whose versions may come from public registries too.
    pub(crate) external: BTreeSet<(Protocol, String)>,
    pub(crate) changes: Arc<ChangeLog>,
}

/// A thing with a name and a GUID that answers to both, in any letter case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) guid: Uuid,
}

/// In which version sets a version appears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// Views beside `local` that it was promoted to, by name.
    pub(crate) views: Vec<String>,
    /// Known from an upstream source only.
    pub(crate) unsaved: bool,
    /// When it was deleted (npm says unpublished), in seconds since the epoch: it lies in the recycle bin.
    pub(crate) deleted: Option<u64>,
    /// When it was taken out of the recycle bin for good. Its number stays taken.
    pub(crate) purged: Option<u64>,
}

/// Who a credential belongs to, from one organisation's point of view.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    /// A credential that this organisation does not know.
    Unknown,
    Known(Token),
}

/// The secret of an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) bearer: bool,
    pub(crate) secret: String,
}

// === impl World ===

impl World {
    pub(crate) fn build(seed: Seed, organisations: &[Organisation]) -> io::Result<Self> {
        let build = |organisation| OrganisationState::build(seed, organisation);
        let organisations = organisations.iter().map(build).collect::<io::Result<_>>()?;
        Ok(Self { seed, organisations, revision: 1 })
    }

    pub(crate) fn organisation(&self, spelling: &str) -> Option<(usize, &OrganisationState)> {
        self.organisations.iter().enumerate().find(|(_, organisation)| organisation.own.answers_to(spelling))
    }

    /// The label under which a credential is known anywhere; for the log.
    pub(crate) fn label_of(&self, credential: &Credential) -> Option<&str> {
        let mut tokens = self.organisations.iter().flat_map(|organisation| &organisation.tokens);
        tokens.find(|token| credential.opens(token)).map(|token| token.label.as_str())
    }
}

// === impl OrganisationState ===

impl OrganisationState {
    fn build(seed: Seed, organisation: &Organisation) -> io::Result<Self> {
        let name = &organisation.name;
        let build = |feed| FeedState::build(seed, name, feed);
        let mut feeds: Vec<FeedState> = organisation.feeds.iter().map(build).collect::<io::Result<_>>()?;
        let mut feed_token = 0;
        for feed in &mut feeds {
            feed_token += 1;
            feed.token = feed_token;
        }
        Ok(Self {
            own: Named::new(seed, "organisation", name, name),
            tenant: seed.guid(&format!("tenant/{name}")),
            tokens: organisation.tokens.clone(),
            feeds,
            feed_token,
        })
    }

    /// A project-scoped feed is found only with its project, an organisation-scoped one only without.
    pub(crate) fn feed(&self, project: Option<&str>, spelling: &str) -> Option<(usize, &FeedState)> {
        self.feeds.iter().enumerate().find(|(_, feed)| {
            let same_project = match (&feed.project, project) {
                (None, None) => true,
                (Some(own), Some(asked)) => own.answers_to(asked),
                (None, Some(_)) | (Some(_), None) => false,
            };
            same_project && !feed.deleted && feed.own.answers_to(spelling)
        })
    }

    pub(crate) fn caller(&self, credential: Option<&Credential>) -> Caller {
        let Some(credential) = credential else { return Caller::Anonymous };
        let known = self.tokens.iter().find(|token| credential.opens(token));
        known.map_or(Caller::Unknown, |token| Caller::Known(token.clone()))
    }
}

// === impl FeedState ===

impl FeedState {
    pub(crate) fn build(seed: Seed, organisation: &str, feed: &Feed) -> io::Result<Self> {
        let name = &feed.name;
        let project = feed.project.as_deref();
        let place = format!("{organisation}/{}", project.unwrap_or_default());
        let view = |view: &String| Named::new(seed, "view", &format!("{place}/{name}/{view}"), view);
        let mut state = Self {
            seed,
            own: Named::new(seed, "feed", &format!("{place}/{name}"), name),
            project: project.map(|project| Named::new(seed, "project", &place, project)),
            public: feed.public,
            views: feed.views.iter().map(view).collect(),
            npm: BTreeMap::new(),
            nuget: BTreeMap::new(),
            description: None,
            deleted: false,
            token: 0,
            external: BTreeSet::new(),
            changes: Arc::default(),
        };
        state.fill(seed, feed)?;
        state.settle();
        Ok(state)
    }

    fn fill(&mut self, seed: Seed, feed: &Feed) -> io::Result<()> {
        feed.npm.iter().for_each(|package| self.add_npm(seed, package));
        feed.nuget.iter().for_each(|package| self.add_nuget(seed, package));
        feed.npm_folders.iter().try_for_each(|folder| self.add_npm_folder(folder))?;
        feed.nuget_folders.iter().try_for_each(|folder| self.add_nuget_folder(folder))
    }

    /// Renames a view; versions that were promoted to it stay in it.
    pub(crate) fn rename_view(&mut self, old: &str, new: &str) {
        let is_old = |name: &String| name.eq_ignore_ascii_case(old);
        self.views
            .iter_mut()
            .filter(|view| is_old(&view.name))
            .for_each(|view| new.clone_into(&mut view.name));
        let npm = self.npm.values_mut().flat_map(|package| &mut Arc::make_mut(package).releases);
        let npm = npm.flat_map(|release| &mut release.presence.views);
        npm.filter(|view| is_old(view)).for_each(|view| new.clone_into(view));
        let nuget = self.nuget.values_mut().flat_map(|package| &mut Arc::make_mut(package).releases);
        let nuget = nuget.flat_map(|release| &mut release.presence.views);
        nuget.filter(|view| is_old(view)).for_each(|view| new.clone_into(view));
    }

    pub(crate) fn view(&self, spelling: &str) -> Option<&Named> {
        self.views.iter().find(|view| view.answers_to(spelling))
    }
}

// === impl Named ===

impl Named {
    fn new(seed: Seed, kind: &str, path: &str, name: &str) -> Self {
        Self { name: name.to_owned(), guid: seed.guid(&format!("{kind}/{path}")) }
    }

    pub(crate) fn answers_to(&self, spelling: &str) -> bool {
        let is_guid =
            || spelling.len() == 36 && Uuid::parse_str(spelling).is_ok_and(|guid| guid == self.guid);
        self.name.eq_ignore_ascii_case(spelling) || is_guid()
    }
}

// === impl Presence ===

impl Presence {
    /// No view: all versions. `@local`: what the feed has saved (facts §2). Others: what was promoted to them.
    pub(crate) fn shows_in(&self, view: Option<&Named>) -> bool {
        match view {
            None => true,
            Some(view) if view.name.eq_ignore_ascii_case("local") => !self.unsaved,
            Some(view) => self.is_in(&view.name),
        }
    }

    /// Whether it was promoted to the view of that name.
    pub(crate) fn is_in(&self, view: &str) -> bool {
        self.views.iter().any(|own| own.eq_ignore_ascii_case(view))
    }

    /// Whether it lies in the recycle bin or has been taken out of it for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.deleted.is_some() || self.purged.is_some()
    }
}

// === impl Caller ===

impl Caller {
    pub(crate) fn is_valid(&self) -> bool {
        matches!(self, Self::Known(token) if token.scope != Scope::Expired)
    }

    pub(crate) fn may_write(&self) -> bool {
        matches!(self, Self::Known(token) if token.scope == Scope::ReadWrite)
    }
}

// === impl Credential ===

impl Credential {
    fn opens(&self, token: &Token) -> bool {
        token.bearer == self.bearer && token.secret == self.secret
    }
}
