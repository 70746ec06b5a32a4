//! From a stored document to what is sent: URLs rewritten, abbreviated where asked, compressed, tagged. Text for people
//! (a readme) is sent as it is: what looks like a URL there is the author's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};

use super::{Handler, HandlerError, Request, document::form, guard::Sieve};
use crate::{
    cache::{Entry, Landing, RepresentationKey, Respelling},
    document::{
        DocumentError,
        packument::abbreviate,
        representation::{Encoding, Form, Representation, Variant, joined, negotiate_encoding},
        rewrite::{PublicBase, Rewriter, Rewritten},
        validate_json, validate_xml, without_bom,
    },
    guard::Unreadable,
    lanes,
    route::{DocumentRoute, Format},
    throttle::Priority,
    upstream::Expect,
};

/// Everything that building a representation needs, to be moved to another thread.
struct Order {
    body: Bytes,
    rewriter: Rewriter,
    form: Form,
    encoding: Encoding,
    format: Format,
    /// The `Content-Type` of the service, where it is kept.
    content_type: Option<HeaderValue>,
    /// What leaves versions out.
    sieve: Option<Sieve>,
}

/// A representation, and how many URLs of the service were left in it.
struct Built {
    representation: Representation,
    leaked: usize,
}

// === impl Handler ===

impl Handler {
    /// The representation of a stored document that `request` asks for; `None` when its body is lost.
    /// `body` is the document, when it is at hand.
    ///
    /// # Errors
    /// A guard is to leave something out of the document, and cannot read it.
    pub(super) async fn represent(
        &self,
        request: &Request,
        route: &DocumentRoute,
        entry: &Arc<Entry>,
        body: Option<Bytes>,
    ) -> Result<Option<Arc<Representation>>, HandlerError> {
        let (sieve, guard) = self.sieve(route).await.unzip();
        let key = representation_key(request, route, entry, guard);
        if let Some(ready) = self.parts.documents.representation(&key) {
            return Ok(Some(ready));
        }
        let Ok(mut rewriter) = Rewriter::new(Arc::clone(&self.parts.hosts), &request.base) else {
            return Ok(None);
        };
        if let Some(Respelling { from, to }) = &key.respelling {
            rewriter = rewriter.respell(from, to);
        }
        let (flight, handler, entry) = (format!("{key:?}"), self.clone(), Arc::clone(entry));
        let work = |_| async move { Landing::now(handler.building(key, entry, body, rewriter, sieve).await) };
        let built = self.builds.run(&flight, Priority::Document, work).await.0.transpose();
        built.map(Option::flatten).map_err(|why| self.unreadable(route.key(), why))
    }

    async fn building(
        &self,
        key: RepresentationKey,
        entry: Arc<Entry>,
        body: Option<Bytes>,
        rewriter: Rewriter,
        sieve: Option<Sieve>,
    ) -> Result<Option<Arc<Representation>>, Unreadable> {
        let _room = self.room(entry.length).await;
        let body = match body {
            Some(body) => body,
            None => match self.parts.documents.body(&entry).await {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        let content_type = HeaderValue::from_str(&key.content_type).ok().filter(|kind| !kind.is_empty());
        let RepresentationKey { form, encoding, format, .. } = key;
        let order = Order { body, rewriter, form, encoding, format, content_type, sieve };
        let Some(built) = lanes::compute(order.body.len(), move || build(order)).await else {
            return Ok(None);
        };
        let built = built?;
        if built.leaked > 0 {
            self.parts.metrics.leaked(built.leaked as u64);
            tracing::error!(
                leaked = built.leaked,
                digest = ?key.digest,
                "a document still has URLs of the service"
            );
        }
        let representation = Arc::new(built.representation);
        self.parts.documents.insert_representation(key, Arc::clone(&representation));
        Ok(Some(representation))
    }
}

/// Which bytes of a document `request` asks for. `guard` are the rules by which versions are left out.
pub(super) fn representation_key(
    request: &Request,
    route: &DocumentRoute,
    entry: &Entry,
    guard: Option<u64>,
) -> RepresentationKey {
    let accepted = joined(&request.headers, &header::ACCEPT_ENCODING);
    RepresentationKey {
        digest: entry.digest,
        form: form(route.class(), &request.headers),
        encoding: negotiate_encoding(accepted.as_deref()),
        base: base_text(&request.base).into(),
        respelling: respelling(route, &entry.origin.spelling),
        format: route.document.format(),
        content_type: entry.origin.content_type.as_str().into(),
        guard,
    }
}

/// Checks that a body is the whole document that was due; a byte order mark goes.
pub(super) async fn checked(expect: Expect, body: Bytes) -> Result<Bytes, DocumentError> {
    let body = without_bom(body);
    let held = body.clone();
    let check = move || match expect {
        Expect::Json => validate_json(&held),
        Expect::Xml => validate_xml(&held),
        Expect::Bytes | Expect::Any => Ok(()),
    };
    let died = || Err(DocumentError::Json("the check did not end".to_owned()));
    lanes::compute(body.len(), check).await.unwrap_or_else(died)?;
    Ok(body)
}

/// Rewrites a JSON or XML body that is passed through and not kept.
pub(super) fn rewrite_once(rewriter: &Rewriter, content_type: &str, body: &Bytes) -> Bytes {
    if content_type.contains("xml") {
        rewriter.rewrite_xml(body).body
    } else {
        rewriter.rewrite_json(body).body
    }
}

/// Abbreviates first: what is left out is a few times what is kept, and needs no rewriting.
fn build(order: Order) -> Result<Built, Unreadable> {
    let sieved = order.sieve.as_ref().map_or(Ok(None), |sieve| sieve.filter(&order.body))?;
    let whole = sieved.map_or(order.body, Bytes::from);
    let short = match order.form {
        Form::Full => None,
        Form::Abbreviated => abbreviate(&whole)
            .inspect_err(
                |error| tracing::warn!(%error, "a packument that cannot be abbreviated is sent whole"),
            )
            .ok(),
    };
    let (form, body) = short.map_or((Form::Full, whole), |short| (Form::Abbreviated, short.into()));
    let rewritten = match order.format {
        Format::Json => order.rewriter.rewrite_json(&body),
        Format::Xml => order.rewriter.rewrite_xml(&body),
        Format::Text => Rewritten { body, replaced: 0, leaked: 0 },
    };
    let content_type = order.content_type.clone().unwrap_or_else(|| content_type(order.format, form));
    let variant = Variant::new(rewritten.body, form, content_type);
    Ok(Built { representation: variant.build(order.encoding), leaked: rewritten.leaked })
}

fn content_type(format: Format, form: Form) -> HeaderValue {
    HeaderValue::from_static(match (format, form) {
        (Format::Xml, _) => "application/xml; charset=utf-8",
        (Format::Text, _) => "text/plain; charset=utf-8",
        (_, Form::Abbreviated) => "application/vnd.npm.install-v1+json; charset=utf-8",
        (_, Form::Full) => "application/json; charset=utf-8",
    })
}

/// The client's spelling of the feed for the one that a document was fetched with, of which its URLs tell.
fn respelling(route: &DocumentRoute, from: &str) -> Option<Respelling> {
    if from.is_empty() {
        return None;
    }
    let to = format!("{}{}", route.feed.org, route.feed_path());
    (from != to).then(|| Respelling { from: from.into(), to: to.into() })
}

fn base_text(base: &PublicBase) -> &str {
    match base {
        PublicBase::Path { origin } | PublicBase::Subdomain { origin } => origin,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Order, build};
    use crate::{
        document::{
            representation::{Encoding, Form},
            rewrite::{PublicBase, Rewriter, ServiceHosts},
        },
        route::Format,
    };

    fn built(format: Format, kept: Option<&'static str>, body: &'static str) -> (String, String, usize) {
        let hosts = Arc::new(ServiceHosts::new::<&str>(&[]).unwrap());
        let base = PublicBase::Path { origin: "http://gate".to_owned() };
        let order = Order {
            body: Bytes::from_static(body.as_bytes()),
            rewriter: Rewriter::new(hosts, &base).unwrap(),
            form: Form::Full,
            encoding: Encoding::Identity,
            format,
            content_type: kept.map(http::HeaderValue::from_static),
            sieve: None,
        };
        let built = build(order).unwrap();
        let representation = built.representation;
        let body = String::from_utf8(representation.body.to_vec()).unwrap();
        (representation.content_type.to_str().unwrap().to_owned(), body, built.leaked)
    }

    #[test]
    fn json_and_xml_are_rewritten_and_text_never() {
        let (json, xml) = (r#"["https://pkgs.dev.azure.com/o"]"#, "<a>https://pkgs.dev.azure.com/o</a>");
        let rows = [
            (Format::Json, None, json, "application/json; charset=utf-8", r#"["http://gate/o"]"#),
            (Format::Xml, None, xml, "application/xml; charset=utf-8", "<a>http://gate/o</a>"),
            (Format::Xml, Some("application/atom+xml"), xml, "application/atom+xml", "<a>http://gate/o</a>"),
            (Format::Text, None, json, "text/plain; charset=utf-8", json),
            (Format::Text, Some("application/json"), json, "application/json", json),
            (Format::Text, Some("text/xml"), xml, "text/xml", xml),
        ];
        for (format, kept, body, kind, expected) in rows {
            let expected = (kind.to_owned(), expected.to_owned(), 0);
            assert_eq!(built(format, kept, body), expected, "{format:?} {kept:?}");
        }
    }
}
