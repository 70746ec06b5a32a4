//! What may be stored (RFC 9111 §3).

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    Directives,
    lifetime::{is_explicit, may_guess},
    vary::selecting,
};

/// Statuses that are about the conditions or the range of one request (RFC 9110 §13, §14): what others are told depends
/// on theirs.
const OF_ONE_REQUEST: [u16; 4] = [206, 304, 412, 416];
/// Statuses whose caching rules this cache knows, for `must-understand` (RFC 9110 §15), of those that it stores.
const UNDERSTOOD: [u16; 40] = [
    200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407,
    408, 409, 410, 411, 413, 414, 415, 417, 421, 422, 426, 500, 501, 502, 503, 504, 505, 451, 429,
];

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request's method.
    Method,
    /// Partial content, or the answer to a condition or a range.
    Status,
    /// The request or the response says `no-store`.
    NoStore,
    /// It is for one user.
    Private,
    /// The request had a credential, and the response does not say that it is for others too.
    Authorization,
    /// `must-understand`, with a status that is not understood.
    NotUnderstood,
    /// `Vary` is such that it would never be reused.
    Vary,
    /// Nothing says how long it is fresh, nothing allows a guess, and it cannot be validated.
    Unusable,
}

/// Whether the response to a request may be stored, and would be of use.
///
/// # Errors
/// The first rule that forbids it.
pub fn may_store(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
) -> Result<(), Refusal> {
    let directives = Directives::of_response(response);
    let when = |forbidden: bool, refusal| if forbidden { Err(refusal) } else { Ok(()) };
    // A POST's response is for GETs of the same URL, if it says so (RFC 9110 §9.3.3); the caller checks that.
    when(*method != Method::GET && *method != Method::POST, Refusal::Method)?;
    when(OF_ONE_REQUEST.contains(&status.as_u16()) || status.is_informational(), Refusal::Status)?;
    when(Directives::of_request(request).has("no-store"), Refusal::NoStore)?;
    if directives.has("must-understand") {
        when(!UNDERSTOOD.contains(&status.as_u16()), Refusal::NotUnderstood)?;
    } else {
        when(directives.has("no-store"), Refusal::NoStore)?;
    }
    when(directives.has_whole("private"), Refusal::Private)?;
    let for_others = ["public", "must-revalidate", "s-maxage"].iter().any(|name| directives.has(name));
    when(request.contains_key(header::AUTHORIZATION) && !for_others, Refusal::Authorization)?;
    when(selecting(request, response).is_none(), Refusal::Vary)?;
    let explicit = is_explicit(response, &directives);
    when(*method == Method::POST && !explicit, Refusal::Method)?;
    let validator = response.contains_key(header::ETAG) || response.contains_key(header::LAST_MODIFIED);
    let usable = explicit || validator && (may_guess(status, &directives) || directives.has("no-cache"));
    when(!usable, Refusal::Unusable)
}
