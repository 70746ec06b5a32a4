//! Grammar of NuGet v2 (`OData`), the paths below `_packaging/{feed}/nuget/v2` (facts §4.3).
//!
//! Only what names a package is taken apart; filters and the other options are kept as they are, since the service
//! alone knows what they select. A package's bytes have three spellings here (`v2?id=&version=`, the gallery's
//! `v2/package/{id}/{version}`, which the service lacks, and v3's), all one package.

use super::{
    Document, Odata, OdataResource, Package, Subject,
    place::{Found, Place, Reading, Unread},
    query,
    value::{nuget_id, nuget_version},
};
use crate::ident::{NugetId, NugetVersion};

/// Reads the segments below `v2`.
pub(super) fn recognise(texts: &[&str], place: &Place<'_, '_>) -> Reading {
    let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
    match *texts {
        [] => root(place.query),
        [metadata] if is(metadata, "$metadata") => Ok(document(OdataResource::Metadata, place.query)),
        // Where clients of the public gallery push to.
        [package] if is(package, "package") => Ok(Found::Other(Subject::Nugets)),
        [package, id, version] if is(package, "package") => {
            let (id, version) = (nuget_id(id)?, nuget_version(version)?);
            if !place.is_read() {
                return Ok(Found::Other(Subject::Nuget(id)));
            }
            Ok(Found::Package(Package::Nuget { id, version }))
        }
        [call] => called(call, false, place.query),
        [call, count] if is(count, "$count") => called(call, true, place.query),
        // What `nuget delete` sends its DELETE to.
        [id, version] if NugetVersion::parse(version).is_ok() => {
            NugetId::parse(id).map(|id| Found::Other(Subject::Nuget(id))).map_err(|_| Unread::Unknown)
        }
        _ => Err(Unread::Unknown),
    }
}

/// `v2`, with or without a slash: the service document, or a download when its query names a version.
fn root(query: &str) -> Reading {
    let parameters = query::parameters(query);
    let named = |name: &str| -> Vec<String> {
        let values = parameters.iter().map(|parameter| query::split(parameter));
        values.filter(|(found, _)| found == name).map(|(_, value)| query::decoded(value)).collect()
    };
    match (named("id").as_slice(), named("version").as_slice()) {
        ([], []) => Ok(document(OdataResource::Service, query)),
        ([id], [version]) => {
            Ok(Found::Package(Package::Nuget { id: nuget_id(id)?, version: nuget_version(version)? }))
        }
        _ => Ok(Found::Other(Subject::Nugets)),
    }
}

/// An entity set or a function, with or without arguments, or the number of what it has (`/$count`).
fn called(call: &str, count: bool, query: &str) -> Reading {
    let (name, written) = call.split_once('(').unwrap_or((call, ")"));
    let written = written.trim_end().strip_suffix(')').ok_or(Unread::Unknown)?;
    let arguments = arguments(written).ok_or(Unread::Unknown)?;
    match (name.trim().to_ascii_lowercase().as_str(), arguments.as_slice()) {
        ("packages", []) => Ok(document(OdataResource::Packages { count }, query)),
        ("search", []) => Ok(document(OdataResource::Search { count }, query)),
        ("findpackagesbyid", []) if !count => versions(query),
        ("packages", [(one, id), (other, version)] | [(other, version), (one, id)])
            if !count && one == "id" && other == "version" =>
        {
            Ok(document(OdataResource::Entry(nuget_id(id)?, nuget_version(version)?), query))
        }
        _ => Err(Unread::Unknown),
    }
}

/// `FindPackagesById()`, its argument in the query.
fn versions(query: &str) -> Reading {
    let is_id = |parameter: &&String| query::split(parameter).0 == "id";
    let parameters = query::parameters(query);
    let (ids, others): (Vec<&String>, Vec<&String>) = parameters.iter().partition(is_id);
    let [id] = ids.as_slice() else { return Err(Unread::Unknown) };
    let id = query::decoded(query::split(id).1);
    let Some((id, "")) = quoted(id.trim()) else { return Err(Unread::Unknown) };
    let others: Vec<&str> = others.into_iter().map(String::as_str).collect();
    Ok(document(OdataResource::Versions(nuget_id(&id)?), &others.join("&")))
}

/// `Id='X', Version='1.2'`: names in lower case, values without their quotes.
fn arguments(text: &str) -> Option<Vec<(String, String)>> {
    let mut arguments = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        arguments.push((name.trim().to_ascii_lowercase(), value));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(arguments)
}

/// The text between single quotes, where a doubled one stands for one, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

fn document(resource: OdataResource, query: &str) -> Found {
    Found::Document(Document::Odata(Odata { resource, query: query::parameters(query).join("&") }))
}
