//! What a NuGet service index tells of its feed: the GUIDs behind the names that it was asked by (facts §4.1).

use serde::Deserialize;
use serde_json::Value;

/// The resources that name the feed.
const FEED: &str = "VssFeedId";
const PROJECT: &str = "AzureDevOpsProjectId";
const CONTENT: &str = "PackageBaseAddress/3.0.0";
/// How GUIDs are written as ids.
const URN: &str = "urn:uuid:";

/// The GUIDs of a feed, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedGuids {
    /// Of the project, for project-scoped feeds.
    pub project: Option<String>,
    /// Of the feed.
    pub feed: String,
    /// Of the view, when the index is a view's and says so. UNCERTAIN: that its URLs name the view by GUID (facts §4.1).
    pub view: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    /// Whatever is one; of the others nothing need be known.
    resources: Vec<Value>,
}

/// Reads the GUIDs off a service index; `None` when it does not name its feed, or is no index.
pub fn feed_guids(body: &[u8]) -> Option<FeedGuids> {
    let index: Index = serde_json::from_slice(body).ok()?;
    let id = |kind| index.resources.iter().find(|resource| is_of(resource, kind))?.get("@id")?.as_str();
    let feed = guid(id(FEED)?)?;
    let view = id(CONTENT).and_then(|url| guid(url.split_once(&format!("{feed}@"))?.1.split('/').next()?));
    Some(FeedGuids { project: id(PROJECT).and_then(guid), feed, view })
}

/// A resource has one type or several (JSON-LD 1.1 §3.5).
fn is_of(resource: &Value, kind: &str) -> bool {
    match resource.get("@type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|own| own == kind),
        own => own.is_some_and(|own| own == kind),
    }
}

fn guid(text: &str) -> Option<String> {
    let urn = text.split_at_checked(URN.len()).filter(|(start, _)| start.eq_ignore_ascii_case(URN));
    let text = urn.map_or(text, |(_, guid)| guid);
    uuid::Uuid::try_parse(text).ok().map(|guid| guid.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use super::{FeedGuids, feed_guids};

    const FEED: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";
    const PROJECT: &str = "1f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";
    const VIEW: &str = "2f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

    fn index(resources: &[(&str, String)]) -> Vec<u8> {
        let resource = |(kind, id): &(&str, String)| serde_json::json!({ "@type": kind, "@id": id });
        let resources: Vec<_> = resources.iter().map(resource).collect();
        serde_json::json!({ "resources": resources }).to_string().into_bytes()
    }

    #[test]
    fn the_guids_of_feed_project_and_view_are_read() {
        let feed = ("VssFeedId", format!("urn:uuid:{}", FEED.to_uppercase()));
        let project = ("AzureDevOpsProjectId", format!("urn:uuid:{PROJECT}"));
        let plain = ("PackageBaseAddress/3.0.0", format!("http://h/o/_packaging/{FEED}/nuget/v3/flat2/"));
        let viewed =
            ("PackageBaseAddress/3.0.0", format!("http://h/o/_packaging/{FEED}@{VIEW}/nuget/v3/flat2/"));
        let guids = |project: Option<&str>, view: Option<&str>| {
            let owned = |text: &str| text.to_owned();
            Some(FeedGuids { project: project.map(owned), feed: owned(FEED), view: view.map(owned) })
        };
        let rows = [
            (vec![feed.clone(), plain.clone()], guids(None, None)),
            (vec![feed.clone(), project, plain.clone()], guids(Some(PROJECT), None)),
            (vec![feed.clone(), viewed], guids(None, Some(VIEW))),
            (vec![feed], guids(None, None)),
            (vec![plain], None),
            (vec![("VssFeedId", "urn:uuid:main".to_owned())], None),
        ];
        for (resources, expected) in rows {
            assert_eq!(feed_guids(&index(&resources)), expected);
        }
        assert_eq!(feed_guids(b"[]"), None);
    }
}
