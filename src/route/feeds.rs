//! Grammar of the feeds host's REST, the paths below `_apis/packaging/Feeds/{feed}` (facts §5.4).
//!
//! Documents are the feed, its views and its packages. What the rest of the host has is passed through: lists of feeds,
//! which differ by caller, permissions, retention, the recycle bin, badges, and the changes that tell how fresh
//! the documents are.

use super::{
    Document, Format, Rest, Subject, api_version,
    canonical::view_segment,
    place::{Found, Place, Reading, Tree, Unread},
    value::required_guid,
};
use crate::ident::Name;

/// Questions that are sent with POST and change nothing.
const METRICS: [&str; 2] = ["packagemetricsbatch", "versionmetricsbatch"];

/// Reads what follows the feed.
pub(super) fn recognise(place: &Place<'_, '_>) -> Reading {
    if place.tree != Tree::Feeds && place.tree != Tree::FeedsOther {
        return Err(Unread::Unknown);
    }
    if place.feed.is_none() {
        // Lists of feeds, and a new one: no document of another feed changes.
        return Ok(Found::Other(Subject::Fixed));
    }
    if place.tree == Tree::FeedsOther {
        return Err(Unread::Unknown);
    }
    let texts: Vec<&str> = place.tail.iter().map(|segment| &*segment.text).collect();
    let (first, rest) = texts.split_first().unwrap_or((&"", &[]));
    match (first.to_ascii_lowercase().as_str(), rest) {
        ("", _) => Ok(document(place, String::new())),
        ("packages", rest) => packages(rest, place),
        ("views", []) => Ok(document(place, "views".to_owned())),
        ("views", [view]) => {
            let view = Name::parse(view).map_err(|error| Unread::Malformed(error.to_string()))?;
            Ok(document(place, format!("views/{}", view_segment(&view))))
        }
        (metrics, []) if METRICS.contains(&metrics) => Ok(Found::Other(Subject::Fixed)),
        _ => Err(Unread::Unknown),
    }
}

/// Reads what follows `packages`.
fn packages(rest: &[&str], place: &Place<'_, '_>) -> Reading {
    let package = |id: &str| required_guid("package id", id).map(|id| format!("packages/{id}"));
    let version = |id: &str, version: &str| {
        Ok(format!("{}/versions/{}", package(id)?, required_guid("version id", version)?))
    };
    let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
    let path = match *rest {
        [] => "packages".to_owned(),
        [id] => package(id)?,
        [id, versions] if is(versions, "versions") => format!("{}/versions", package(id)?),
        [id, versions, one] if is(versions, "versions") => version(id, one)?,
        [id, versions, one, provenance] if is(versions, "versions") && is(provenance, "provenance") => {
            format!("{}/provenance", version(id, one)?)
        }
        [_, metrics] if METRICS.iter().any(|word| is(metrics, word)) => {
            return Ok(Found::Other(Subject::Fixed));
        }
        _ => return Err(Unread::Unknown),
    };
    Ok(document(place, path))
}

fn document(place: &Place<'_, '_>, path: String) -> Found {
    let (query, api_version) = api_version::split(place.query);
    let subject = Subject::Feed;
    let rest = Rest { feeds_host: true, subject, path, query, api_version, format: Format::Json };
    Found::Document(Document::Rest(rest))
}
