//! The head of an answer with a package.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    super::{Reply, ReplyBody, Request},
    located::Found,
};
use crate::route::{Package, PackageRoute, Protocol};

/// Bytes of a version never change (facts §0.9), so clients may keep them; they are private all the same.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// The answer with what was found.
pub(in crate::handler) fn reply(request: &Request, route: &PackageRoute, found: Found) -> Reply {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(id) = found.id
        && let Ok(etag) = HeaderValue::from_str(&format!("\"{id}\""))
    {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(disposition) =
        HeaderValue::from_str(&format!("attachment; filename=\"{}\"", file_name(&route.package)))
    {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    if let Some(named_at) = found.named_at {
        let age = request.received_at.duration_since(named_at).unwrap_or_default();
        headers.insert(header::AGE, age.as_secs().into());
    }
    let body = ReplyBody::Package(found.body);
    Reply { status: StatusCode::OK, reason: None, headers, body, cache: found.cache }
}

fn file_name(package: &Package) -> String {
    let name = match package {
        Package::Npm { file, .. } => file.clone(),
        Package::Nuget { id, version } => format!("{id}.{version}.nupkg"),
        Package::ById { protocol: Protocol::Npm, package, version } => format!("{package}-{version}.tgz"),
        Package::ById { protocol: Protocol::Nuget, package, version } => format!("{package}.{version}.nupkg"),
    };
    name.replace(['"', '\\'], "_")
}
