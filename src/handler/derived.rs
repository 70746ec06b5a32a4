//! What npm's registry answers and the service does not (facts §3, §9.17): made from the packument, or of the verdict.
//!
//! `{name}/{version}` and the dist-tags are parts of the packument. They come from the same stored copy, under the
//! same rules of freshness, permission and outage, and are cut out of it after its URLs were rewritten. Ranges are
//! not resolved: `{name}/^1.0.0` is no version and no tag. `whoami` is answered from the verdict: the service knows the
//! names of its users, the gate knows only that it let this one in. `ping` asks nobody and tells nothing of the feed.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::{
    CacheStatus, Handler, HandlerError, Reply, Request,
    document::{Represented, document_reply},
    permission::Permission,
};
use crate::{
    access::{Audience, Caller},
    cache::RepresentationKey,
    document::{
        DocumentError,
        packument::{dist_tag_of, dist_tags_of, manifest_of},
        representation::{Encoding, Form, Representation, Variant, joined, negotiate_encoding},
    },
    ident::NpmName,
    lanes,
    route::{Derived, DerivedRoute, Document, DocumentRoute, Format, PassthroughRoute, Subject},
    upstream::Refusal,
};

/// What `whoami` says of a caller whose name is not known, or looks as if it were a secret.
const SOMEBODY: &str = "authenticated";
/// Longest user name that is shown, in bytes: mail addresses fit, tokens don't.
const LONGEST_NAME: usize = 64;
/// Letters and digits in a row from which on a text with both is taken for a token. The service's own have 52 or 84.
const TOKEN_RUN: usize = 20;

/// What is cut out of a packument.
#[derive(Debug, Clone)]
enum Part {
    /// The manifest of a version or tag.
    Manifest(String),
    /// All dist-tags.
    Tags,
    /// The version of one dist-tag, as a JSON string.
    Tag(String),
}

/// The answer of `ping`.
pub(super) fn pong() -> Reply {
    own(StatusCode::OK, &serde_json::json!({}), CacheStatus::Local)
}

// === impl Handler ===

impl Handler {
    /// Answers GET and HEAD of a derived route.
    pub(super) async fn derived(
        &self,
        request: &Request,
        route: &DerivedRoute,
    ) -> Result<Reply, HandlerError> {
        let (name, part) = match &route.derived {
            Derived::Manifest(name, spec) => (name, Part::Manifest(spec.clone())),
            Derived::DistTags(name) => (name, Part::Tags),
            Derived::DistTag(name, tag) => (name, Part::Tag(tag.clone())),
            Derived::Ping => return Ok(pong()),
            Derived::Whoami => return self.whoami(request, route).await,
        };
        self.part(request, route, name, part).await
    }

    async fn part(
        &self,
        request: &Request,
        route: &DerivedRoute,
        name: &NpmName,
        part: Part,
    ) -> Result<Reply, HandlerError> {
        let packument =
            DocumentRoute { feed: route.feed.clone(), document: Document::Packument(name.clone()) };
        let whole = self.represented(&plainly(request), &packument).await?;
        let accepted = joined(&request.headers, &header::ACCEPT_ENCODING);
        let encoding = negotiate_encoding(accepted.as_deref());
        let made = self.cut(&whole, &part, encoding).await?;
        if made.is_none() {
            self.guard_manifest(route).await?;
        }
        Ok(match made {
            Some(representation) => document_reply(request, &whole.entry, &representation, whole.cache),
            None => own(StatusCode::NOT_FOUND, &part.missing(), whole.cache),
        })
    }

    /// The part of `whole`, from memory or made now; `None` if there is no such version or tag.
    async fn cut(
        &self,
        whole: &Represented,
        part: &Part,
        encoding: Encoding,
    ) -> Result<Option<std::sync::Arc<Representation>>, HandlerError> {
        let key = part.key(&whole.representation, encoding);
        if let Some(ready) = self.parts.documents.representation(&key) {
            return Ok(Some(ready));
        }
        let (body, part) = (whole.representation.body.clone(), part.clone());
        let _room = self.room(body.len() as u64).await;
        let made = lanes::compute(body.len(), move || part.of(&body)).await;
        let made = made.unwrap_or_else(|| Err(DocumentError::Shape("the work did not end".to_owned())));
        let Some(made) = made.map_err(|error| HandlerError::Integrity(error.to_string()))? else {
            return Ok(None);
        };
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        let representation = std::sync::Arc::new(Variant::new(made, Form::Full, kind).build(encoding));
        self.parts.documents.insert_representation(key, std::sync::Arc::clone(&representation));
        Ok(Some(representation))
    }

    async fn whoami(&self, request: &Request, route: &DerivedRoute) -> Result<Reply, HandlerError> {
        let permission = self.permission(request, &route.feed).await?;
        if request.caller.audience() == Audience::Anonymous {
            return Err(HandlerError::Refused(Refusal::challenge("This feed does not know you.").into()));
        }
        match permission {
            Permission::Granted => {
                let name = serde_json::json!({ "username": name_of(&request.caller) });
                Ok(own(StatusCode::OK, &name, CacheStatus::Local))
            }
            // No such feed, as far as the service tells: its own answer says so.
            Permission::Undecided => {
                let route = PassthroughRoute {
                    feed: Some(route.feed.clone()),
                    feeds_host: false,
                    path: route.upstream_path(),
                    subject: Subject::Feed,
                    protocol: None,
                };
                self.passthrough(request, &route).await
            }
        }
    }
}

// === impl Part ===

impl Part {
    /// Cuts the part out of a packument.
    fn of(&self, packument: &[u8]) -> Result<Option<Bytes>, DocumentError> {
        // Copies: a slice would keep the whole packument in memory.
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Ok(match self {
            Self::Manifest(spec) => manifest_of(packument, spec)?.map(copy),
            Self::Tags => Some(copy(dist_tags_of(packument)?)),
            Self::Tag(tag) => dist_tag_of(packument, tag)?
                .map(|version| serde_json::Value::from(version.as_ref()).to_string().into()),
        })
    }

    /// The key of the part in memory: the entity tag is a hash of all that the part depends on.
    fn key(&self, whole: &Representation, encoding: Encoding) -> RepresentationKey {
        let mut hasher = Sha256::new_with_prefix(whole.etag.as_bytes());
        hasher.update(format!("\n{self:?}"));
        RepresentationKey {
            digest: hasher.finalize().into(),
            form: Form::Full,
            encoding,
            base: "".into(),
            respelling: None,
            format: Format::Json,
            content_type: "".into(),
            guard: None,
        }
    }

    /// The body of a 404, in the form that npm shows.
    fn missing(&self) -> serde_json::Value {
        let (what, name) = match self {
            Self::Manifest(spec) => ("version", spec.as_str()),
            Self::Tags => ("dist-tags", ""),
            Self::Tag(tag) => ("dist-tag", tag.as_str()),
        };
        serde_json::json!({ "error": format!("{what} not found: {name}") })
    }
}

/// The same request for the whole packument, not encoded.
fn plainly(request: &Request) -> Request {
    let mut request = request.clone();
    request.headers.remove(header::ACCEPT);
    request.headers.remove(header::ACCEPT_ENCODING);
    request
}

fn own(status: StatusCode, body: &serde_json::Value, cache: CacheStatus) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Reply::bytes(status, headers, Bytes::from(body.to_string()), cache)
}

/// The name that a caller gives itself.
fn name_of(caller: &Caller) -> Cow<'static, str> {
    let text = caller.own().and_then(|value| value.to_str().ok());
    let user = text.and_then(user_of).filter(|user| is_shown(user));
    user.map_or(Cow::Borrowed(SOMEBODY), Cow::Owned)
}

/// The user part of Basic authentication (RFC 7617 §2). Without a password it may well be a token.
fn user_of(authorization: &str) -> Option<String> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let credentials =
        scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()))?.ok()?;
    let (user, password) = std::str::from_utf8(&credentials).ok()?.split_once(':')?;
    (!password.is_empty()).then(|| user.to_owned())
}

fn is_shown(user: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || " ._-+@\\".contains(c);
    let token = |run: &str| {
        let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
        run.len() >= TOKEN_RUN && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
    };
    let runs = || user.split(|c: char| !c.is_ascii_alphanumeric());
    !user.is_empty() && user.len() <= LONGEST_NAME && user.chars().all(plain) && !runs().any(token)
}

#[cfg(test)]
mod tests {
    use super::{Part, SOMEBODY, name_of};
    use crate::access::CallerKey;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use http::HeaderValue;

    const PACKUMENT: &[u8] =
        br#"{"name":"a","dist-tags":{"latest":"2.0.0","ol\u0064":"1.0.0","lost":"3.0.0"},
        "versions":{"1.0.0":{"version":"1.0.0", "x":[1]},"2.0.0":{"version":"2.0.0"},"2.1.0":null}}"#;

    fn check(part: &Part, packument: &[u8], expected: Option<&str>) {
        let made = part.of(packument).unwrap();
        assert_eq!(made.as_deref(), expected.map(str::as_bytes), "{part:?}");
    }

    #[test]
    fn a_part_of_a_packument_is_cut_out_byte_for_byte() {
        let manifest = |spec: &str| Part::Manifest(spec.to_owned());
        let tag = |tag: &str| Part::Tag(tag.to_owned());
        check(&manifest("1.0.0"), PACKUMENT, Some(r#"{"version":"1.0.0", "x":[1]}"#));
        check(&manifest("old"), PACKUMENT, Some(r#"{"version":"1.0.0", "x":[1]}"#));
        check(&manifest("latest"), PACKUMENT, Some(r#"{"version":"2.0.0"}"#));
        for spec in ["lost", "2.1.0", "^1.0.0", "9.9.9", "", "v1.0.0"] {
            check(&manifest(spec), PACKUMENT, None);
        }
        check(&Part::Tags, PACKUMENT, Some(r#"{"latest":"2.0.0","ol\u0064":"1.0.0","lost":"3.0.0"}"#));
        check(&tag("old"), PACKUMENT, Some("\"1.0.0\""));
        check(&tag("beta"), PACKUMENT, None);
        let bare = br#"{"versions":null,"dist-tags":null}"#;
        check(&manifest("latest"), bare, None);
        check(&Part::Tags, bare, Some("{}"));
        check(&Part::Tags, b"{}", Some("{}"));
        assert!(Part::Tags.of(b"[]").is_err());
        assert!(manifest("1.0.0").of(br#"{"versions":7}"#).is_err());
    }

    #[test]
    fn a_name_is_shown_unless_it_may_be_a_secret() {
        let key = CallerKey::random();
        let rows = [
            ("jane@contoso.com:token", "jane@contoso.com"),
            ("VssSessionToken:x", "VssSessionToken"),
            ("CONTOSO\\jane doe:x", "CONTOSO\\jane doe"),
            ("6f7c1a52-9d43-4a9e-8d49-5f0f0f0f0f0f:x", "6f7c1a52-9d43-4a9e-8d49-5f0f0f0f0f0f"),
            (":token", SOMEBODY),
            ("token:", SOMEBODY),
            ("token", SOMEBODY),
            ("wdqvgs2ifcc7ryl5vvzkllxwpqs5rjbc4yzvwyhv6obmyjgmw4ta:x", SOMEBODY),
            ("abcdefghij0123456789:x", SOMEBODY),
            ("<script>:x", SOMEBODY),
            ("a\nb:x", SOMEBODY),
        ];
        for (credentials, expected) in rows {
            let value = format!("Basic {}", STANDARD.encode(credentials));
            let caller = key.caller(Some(&HeaderValue::from_str(&value).unwrap()));
            assert_eq!(name_of(&caller), expected, "{credentials}");
        }
        for value in ["Bearer eyJ0eXAi.eyJhdWQi.c2ln", "Basic ???", "Basic"] {
            assert_eq!(name_of(&key.caller(Some(&HeaderValue::from_static(value)))), SOMEBODY, "{value}");
        }
    }
}
