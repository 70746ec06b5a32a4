//! What a client asks of a feed to install what is locked.
//!
//! | client | asks for |
//! |---|---|
//! | npm | each tarball, where the lockfile has it; without `resolved` the packument first |
//! | pnpm, Yarn, Bun | each tarball, where the lockfile has it or where registries have it |
//! | NuGet | the service index, each id's list of versions, each package |

use std::collections::HashSet;

use super::{Format, Integrity, Locked, LockedPackage, Lockfile, origin};
use crate::{
    ident::FeedRef,
    route::{self, Document, DocumentRoute, Package, PackageRoute, Target},
};

/// Something that a build will ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is called: `name@version`, or a document and whose it is.
    pub label: String,
    /// Its path at the gate, percent-encoded.
    pub path: String,
    /// What its bytes are checked against.
    pub integrity: Option<Integrity>,
    /// Whether some builds do without it.
    pub optional: bool,
}

/// A package of which the lockfile does not tell the feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is locked without a feed: the lockfile has no URL of a feed for it, so one must be given")]
pub struct NeedError(String);

/// What a build with `lockfile` asks of the gate; `feed` is where clients look for what has no URL of a feed.
///
/// # Errors
/// [`NeedError`], when such a package is locked and `feed` is `None`.
pub fn needs(lockfile: &Lockfile, feed: Option<&FeedRef>) -> Result<Vec<Need>, NeedError> {
    let mut needs = Vec::with_capacity(lockfile.packages.len());
    if lockfile.format.is_nuget() {
        needs.extend(
            feed.map(|feed| Need::document(feed, Document::ServiceIndex, "service index".to_owned())),
        );
    }
    for locked in &lockfile.packages {
        let own = locked.resolved.as_deref().and_then(origin::package_at);
        let route = own.or_else(|| Some(by_convention(locked, feed?.clone())));
        let route = route.ok_or_else(|| NeedError(locked.package.to_string()))?;
        needs.extend(documents(lockfile.format, locked, &route.feed));
        needs.push(Need {
            label: locked.package.to_string(),
            path: path(&route.feed, &Target::Package(route.clone())),
            integrity: locked.integrity.clone(),
            optional: locked.optional,
        });
    }
    let mut seen = HashSet::new();
    needs.retain(|need| seen.insert((need.path.clone(), need.integrity.clone())));
    Ok(needs)
}

/// Where a feed has a package.
fn by_convention(locked: &Locked, feed: FeedRef) -> PackageRoute {
    let package = match &locked.package {
        LockedPackage::Npm { name, version } => {
            let file = locked.resolved.as_deref().and_then(origin::tarball).map(|(_, file)| file);
            let written = file.map(|file| PackageRoute {
                feed: feed.clone(),
                package: Package::Npm { name: name.clone(), file },
            });
            // A URL may call the file what no registry does.
            if let Some(route) = written.filter(is_read_back) {
                return route;
            }
            Package::Npm { name: name.clone(), file: origin::file_of(name, version) }
        }
        LockedPackage::Nuget { id, version } => Package::Nuget { id: id.clone(), version: version.clone() },
    };
    PackageRoute { feed, package }
}

/// Whether the gate takes the package's path for what it is.
fn is_read_back(route: &PackageRoute) -> bool {
    let target = Target::Package(route.clone());
    route::parse(None, &path(&route.feed, &target)).is_ok_and(|read| read.target == target)
}

/// The documents that a client reads before the package.
fn documents(format: Format, locked: &Locked, feed: &FeedRef) -> Option<Need> {
    match &locked.package {
        LockedPackage::Npm { name, .. } if format == Format::Npm && locked.resolved.is_none() => {
            Some(Need::document(feed, Document::Packument(name.clone()), format!("packument of {name}")))
        }
        LockedPackage::Npm { .. } => None,
        LockedPackage::Nuget { id, .. } => {
            Some(Need::document(feed, Document::VersionList(id.clone()), format!("versions of {id}")))
        }
    }
}

fn path(feed: &FeedRef, target: &Target) -> String {
    format!("/{}{}", feed.org, target.upstream_path())
}

// === impl Need ===

impl Need {
    fn document(feed: &FeedRef, document: Document, label: String) -> Self {
        let path = path(feed, &Target::Document(DocumentRoute { feed: feed.clone(), document }));
        Self { label, path, integrity: None, optional: false }
    }
}
