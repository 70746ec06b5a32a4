//! `nuget push` (facts §4.3): a multipart PUT with the nupkg as its first part.

use bytes::Bytes;

use super::error::Refusal;
use super::reply::Reply;
use super::visit::{Place, Visit};
use crate::world::NugetRelease;

/// Adds the version; one that exists is a conflict.
pub(crate) async fn push(visit: &Visit<'_>, place: &Place) -> Result<Reply, Refusal> {
    visit.admit_writer()?;
    let content_type = visit.request.header("content-type").map(str::to_owned);
    let body = visit.request.body.clone();
    // Hundreds of megabytes take their time: not on an async thread.
    let read = move || read(content_type.as_deref(), &body);
    let release = tokio::task::spawn_blocking(read).await.expect("reading a push does not panic")?;
    let (id, version) = (release.nuspec.id.clone(), release.version.clone());
    visit.change(place, |feed| {
        if feed.nuget_package(&id).is_some_and(|package| package.release(&version, None).is_some()) {
            return Err(already(&place.own.name, &id, &version));
        }
        feed.put_nuget(release);
        Ok(Reply::empty(202))
    })
}

fn read(content_type: Option<&str>, body: &Bytes) -> Result<NugetRelease, Refusal> {
    let nupkg = first_part(content_type, body);
    let nupkg = nupkg.ok_or_else(|| malformed("the body has no part with a package"))?;
    NugetRelease::pushed(nupkg).map_err(|_| malformed("the package can't be read"))
}

/// The body of the first part of a `multipart/form-data` body (RFC 2046 §5.1); a body of another type is the part.
fn first_part(content_type: Option<&str>, body: &Bytes) -> Option<Bytes> {
    let content_type = content_type.unwrap_or_default();
    if !content_type.starts_with("multipart/") {
        return (!body.is_empty()).then(|| body.clone());
    }
    let boundary = content_type.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let part_at = find(body, delimiter.as_bytes())?;
    let start = part_at + find(&body[part_at..], b"\r\n\r\n")? + 4;
    let length = find(&body[start..], format!("\r\n{delimiter}").as_bytes())?;
    Some(body.slice(start..start + length))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn already(feed: &str, id: &str, version: &str) -> Refusal {
    let message = format!(
        "The feed '{feed}' already contains file '{id}.{version}.nupkg' in package '{id} {version}'."
    );
    Refusal::Refused { status: 409, message, type_key: "PackageAlreadyExistsException" }
}

fn malformed(message: &str) -> Refusal {
    Refusal::Refused { status: 400, message: message.to_owned(), type_key: "InvalidPackageException" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_is_cut_out() {
        let body = "--b\r\nContent-Type: application/octet-stream\r\n\r\nPK\r\nrest\r\n--b--\r\n";
        let body = Bytes::from_static(body.as_bytes());
        let rows = [
            (Some("multipart/form-data; boundary=\"b\""), Some("PK\r\nrest")),
            (Some("multipart/form-data; boundary=b"), Some("PK\r\nrest")),
            (Some("multipart/form-data; boundary=other"), None),
            (Some("multipart/form-data"), None),
        ];
        for (content_type, expected) in rows {
            let part = first_part(content_type, &body);
            assert_eq!(part.as_deref(), expected.map(str::as_bytes), "{content_type:?}");
        }
        assert_eq!(first_part(None, &body), Some(body));
    }
}
