//! Who may use the endpoints that are not open to everybody.
//!
//! Where a token is configured, it must come as `Authorization: Bearer TOKEN`, or as the password of Basic for browsers.
//! The unix socket needs none: its file is its owner's only. Two things protect a gate without a token from a web page
//! that a person on the same host looks at: what changes anything must not come from another origin, and `Host` must be
//! an address or `localhost`, which the name of a rebound DNS entry is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::Problem;
use crate::{
    access::{is_foreign, names_address},
    config::Credential,
};

/// The check at the door of one listener.
#[derive(Debug, Clone)]
pub enum Guard {
    /// Whoever reaches the listener; on loopback.
    Loopback,
    /// Whoever may open the socket's file.
    Socket,
    /// Whoever knows the token.
    Token(Credential),
}

// === impl Guard ===

impl Guard {
    /// Lets a request pass, or says why not.
    pub(super) async fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Socket => return Ok(()),
            Self::Loopback if !names_address(headers) => {
                let detail = "without a token the `Host` must be an IP address or localhost";
                return Err(Problem::new(StatusCode::FORBIDDEN, "host", detail));
            }
            Self::Loopback => {}
            Self::Token(token) => {
                let expected = token.read().await.map_err(|error| Problem::internal(&error))?;
                if !presented(headers).is_some_and(|given| is_same(&given, expected.reveal().as_bytes())) {
                    return Err(unauthorized());
                }
            }
        }
        if !matches!(*method, Method::GET | Method::HEAD) && is_foreign(headers) {
            let detail = "a page of another origin must not change anything here";
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
        }
        Ok(())
    }
}

fn unauthorized() -> Problem {
    let detail =
        "the token of `admin.token_env` or `admin.token_file` is required: `Authorization: Bearer TOKEN`";
    let schemes = HeaderValue::from_static("Bearer realm=\"feedgate\", Basic realm=\"feedgate\"");
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .with_header(header::WWW_AUTHENTICATE, schemes)
}

/// The token of a request: the bearer's, or the password of Basic (RFC 7617 §2).
fn presented(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    let pair = if scheme.eq_ignore_ascii_case("basic") { STANDARD.decode(rest).ok()? } else { return None };
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Compares digests, so that neither the time nor the length tells how much was right.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(expected)).into()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::Guard;
    use crate::{config::Credential, redact::Secret};

    type Headers<'a> = &'a [(&'static str, &'a str)];

    async fn status(guard: &Guard, method: Method, headers: Headers<'_>) -> u16 {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        guard.admit(&method, &headers).await.map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[tokio::test]
    async fn only_the_token_opens() {
        let guard = Guard::Token(Credential::Variable(Secret::new("right-token".to_owned())));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let rows = [
            ("Bearer right-token".to_owned(), 200),
            ("bearer  right-token ".to_owned(), 200),
            (basic("any:right-token"), 200),
            (basic(":right-token"), 200),
            ("Bearer right-toke".to_owned(), 401),
            ("Bearer right-token2".to_owned(), 401),
            ("Bearer ".to_owned(), 401),
            ("right-token".to_owned(), 401),
            (basic("right-token"), 401),
            (basic("right-token:"), 401),
            ("Basic !!".to_owned(), 401),
        ];
        for (value, expected) in rows {
            assert_eq!(status(&guard, Method::GET, &[("authorization", &value)]).await, expected, "{value}");
        }
        assert_eq!(status(&guard, Method::GET, &[]).await, 401);
    }

    #[tokio::test]
    async fn a_page_elsewhere_changes_nothing() {
        let here = ("host", "127.0.0.1:4874");
        let rows: [(Headers<'_>, Method, u16); 11] = [
            (&[here], Method::POST, 200),
            (&[here, ("sec-fetch-site", "same-origin")], Method::POST, 200),
            (&[here, ("sec-fetch-site", "cross-site")], Method::POST, 403),
            (&[here, ("sec-fetch-site", "same-site")], Method::DELETE, 403),
            (&[here, ("sec-fetch-site", "cross-site")], Method::GET, 200),
            (&[here, ("origin", "http://127.0.0.1:4874")], Method::POST, 200),
            (&[here, ("origin", "https://evil.example")], Method::POST, 403),
            (&[here, ("origin", "null")], Method::PUT, 403),
            (&[("host", "rebound.example:4874")], Method::GET, 403),
            (&[("host", "LOCALHOST:4874")], Method::GET, 200),
            (&[("host", "[::1]:4874")], Method::POST, 200),
        ];
        for (headers, method, expected) in rows {
            assert_eq!(status(&Guard::Loopback, method, headers).await, expected, "{headers:?}");
        }
        assert_eq!(status(&Guard::Socket, Method::POST, &[("host", "gate")]).await, 200);
    }
}
