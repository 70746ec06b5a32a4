//! What the service tells of changes in a feed: the three answers that a poll reads (facts §5.4).

use serde::Deserialize;
use serde_json::Value;

use super::DocumentError;
use crate::{
    ident::{NpmName, NugetId},
    route::Subject,
};

/// How far a feed's changes have been read. Tokens grow; between two of them lie the changes of the second's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

/// What `Feeds/{feed}` says of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedFacts {
    /// GUID of the project, for a project-scoped feed; lower case.
    pub project: Option<String>,
    /// GUID of the feed, lower case.
    pub id: String,
    /// Whether versions may come from elsewhere, which are not reported as changes. Where the answer does not say: yes.
    pub upstream_sources: bool,
}

/// What `feedchanges/{feed}` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The token of the latest change of a package.
    pub token: Token,
    /// GUID of the feed, lower case, if the answer has it: a name may mean another feed by now.
    pub feed: Option<String>,
}

/// What `packagechanges` says: changes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where to go on.
    pub next: Token,
    /// The changes, without those of protocols that are not cached.
    pub changes: Vec<Change>,
    /// How many there were.
    pub count: usize,
}

/// A change of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The package; [`Subject::Feed`] where it cannot be told.
    pub subject: Subject,
    /// Whether a version may be gone.
    pub removes: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenFeed {
    id: String,
    project: Option<WrittenProject>,
    upstream_enabled: Option<bool>,
    upstream_sources: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct WrittenProject {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenLatest {
    latest_package_continuation_token: i64,
    feed: Option<WrittenProject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenBatch {
    next_package_continuation_token: i64,
    package_changes: Vec<WrittenChange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenChange {
    package: WrittenPackage,
    package_version_change: WrittenVersionChange,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPackage {
    name: String,
    protocol_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenVersionChange {
    change_type: String,
}

// === impl FeedFacts ===

impl FeedFacts {
    /// Reads `Feeds/{feed}`.
    ///
    /// # Errors
    /// [`DocumentError::Shape`] for anything else.
    pub fn read(body: &[u8]) -> Result<Self, DocumentError> {
        let written: WrittenFeed = parse(body)?;
        let live = |source: &Value| source.get("deletedDate").is_none_or(Value::is_null);
        let any = written.upstream_sources.is_none_or(|sources| sources.iter().any(live));
        Ok(Self {
            id: guid(&written.id)?,
            project: written.project.map(|project| guid(&project.id)).transpose()?,
            upstream_sources: written.upstream_enabled != Some(false) && any,
        })
    }
}

// === impl Latest ===

impl Latest {
    /// Reads `feedchanges/{feed}`.
    ///
    /// # Errors
    /// [`DocumentError::Shape`] for anything else.
    pub fn read(body: &[u8]) -> Result<Self, DocumentError> {
        let written: WrittenLatest = parse(body)?;
        let feed = written.feed.map(|feed| guid(&feed.id)).transpose()?;
        Ok(Self { token: Token(written.latest_package_continuation_token), feed })
    }
}

// === impl Batch ===

impl Batch {
    /// Reads `packagechanges`.
    ///
    /// # Errors
    /// [`DocumentError::Shape`] for anything else.
    pub fn read(body: &[u8]) -> Result<Self, DocumentError> {
        let written: WrittenBatch = parse(body)?;
        let count = written.package_changes.len();
        let changes = written.package_changes.iter().filter_map(Change::of).collect();
        Ok(Self { next: Token(written.next_package_continuation_token), changes, count })
    }
}

// === impl Change ===

impl Change {
    /// `None` for a package of a protocol that is not cached.
    fn of(written: &WrittenChange) -> Option<Self> {
        let name = &written.package.name;
        let subject = match written.package.protocol_type.to_ascii_lowercase().as_str() {
            "npm" => NpmName::parse(name).ok().map(Subject::Npm),
            "nuget" => NugetId::parse(name).ok().map(Subject::Nuget),
            _ => return None,
        };
        // A kind of change that is not known may be one that takes away.
        let adds = written.package_version_change.change_type.eq_ignore_ascii_case("addOrUpdate");
        Some(Self { removes: !adds || subject.is_none(), subject: subject.unwrap_or(Subject::Feed) })
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(body).map_err(|error| DocumentError::Shape(error.to_string()))
}

fn guid(text: &str) -> Result<String, DocumentError> {
    let guid =
        uuid::Uuid::try_parse(text).map_err(|_| DocumentError::Shape("an id is no GUID".to_owned()))?;
    Ok(guid.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Batch, Change, FeedFacts, Latest, Token};
    use crate::{
        ident::{NpmName, NugetId},
        route::Subject,
    };

    const GUID: &str = "0F1D6E4A-5B3C-4D2E-9A8B-7C6D5E4F3A2B";

    fn bytes(value: &Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[test]
    fn a_feed_has_upstream_sources_unless_it_says_otherwise() {
        let rows = [
            (json!({}), true),
            (json!({ "upstreamEnabled": true }), true),
            (json!({ "upstreamEnabled": false, "upstreamSources": [{ "name": "npmjs" }] }), false),
            (json!({ "upstreamEnabled": true, "upstreamSources": [] }), false),
            (json!({ "upstreamEnabled": true, "upstreamSources": [{ "deletedDate": null }] }), true),
            (json!({ "upstreamSources": [{ "deletedDate": "2024-01-01T00:00:00Z" }] }), false),
        ];
        for (mut feed, expected) in rows {
            feed["id"] = json!(GUID);
            feed["project"] = json!({ "id": GUID, "name": "web" });
            let facts = FeedFacts::read(&bytes(&feed)).unwrap();
            assert_eq!(facts.upstream_sources, expected, "{feed}");
            assert_eq!(
                (facts.id.as_str(), facts.project.as_deref()),
                (&*GUID.to_lowercase(), Some(&*GUID.to_lowercase()))
            );
        }
        assert!(FeedFacts::read(b"{\"id\":\"main\"}").is_err());
    }

    #[test]
    fn the_latest_token_is_read_with_the_feed_it_is_of() {
        let answer = json!({ "latestPackageContinuationToken": 7, "feed": { "id": GUID }, "changeType": "addOrUpdate" });
        let expected = Latest { token: Token(7), feed: Some(GUID.to_lowercase()) };
        assert_eq!(Latest::read(&bytes(&answer)), Ok(expected));
        assert!(Latest::read(b"{\"feed\":null}").is_err());
        assert!(Latest::read(b"<html>").is_err());
    }

    #[test]
    fn a_batch_names_packages_and_whether_something_went() {
        let change = |protocol: &str, name: &str, kind: &str| json!({ "package": { "name": name, "protocolType": protocol }, "packageVersionChange": { "changeType": kind, "continuationToken": 3 } });
        let answer = json!({ "count": 6, "nextPackageContinuationToken": 9, "packageChanges": [
            change("Npm", "@scope/a", "addOrUpdate"),
            change("NuGet", "Contoso.Utility", "delete"),
            change("Npm", "b", "permanentDelete"),
            change("PyPi", "c", "addOrUpdate"),
            change("npm", "../x", "addOrUpdate"),
            change("Npm", "d", "somethingNew"),
        ]});
        let npm = |name: &str| Subject::Npm(NpmName::parse(name).unwrap());
        let expected = [
            (npm("@scope/a"), false),
            (Subject::Nuget(NugetId::parse("contoso.utility").unwrap()), true),
            (npm("b"), true),
            (Subject::Feed, true),
            (npm("d"), true),
        ];
        let changes = expected.map(|(subject, removes)| Change { subject, removes }).to_vec();
        assert_eq!(Batch::read(&bytes(&answer)), Ok(Batch { next: Token(9), changes, count: 6 }));
        assert!(Batch::read(b"{\"value\":[]}").is_err());
    }
}
