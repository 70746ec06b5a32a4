//! What a client wants of the cache: `Cache-Control` and `Pragma` of a request (RFC 9111 §5.2.1, §5.4).
//!
//! Three wishes are heard, for documents:
//!
//! - `no-cache` and `max-age=0` (npm sends the first for `--prefer-online`): the service is asked before the answer,
//!   and the stored copy stands in when it cannot answer. All who ask meanwhile share that one question, and a
//!   document has an [allowance](Revalidations) of such questions: beyond it the fresh copy is served as ever.
//! - `only-if-cached`: the answer is a stored one or 504, and nothing is asked of the service, not even whether the
//!   caller may read the feed. So only a caller who is allowed *now* gets a stored copy.
//!
//! For the bytes of packages only the last is: they never change (facts §0.9), so asking again would bring the same.
//! What is never stored (writes, routes that are passed through, audits) has no copy to speak of: nothing is heard there.
//! `no-store` is not heard: it would have each caller fetch anew what others have stored already, and protects
//! nothing, since the answer is the feed's and not the caller's. The rest (`max-age` above 0, `max-stale`, `min-fresh`)
//! would only shift the operator's own freshness, which is short.

use std::{collections::HashMap, time::Duration};

use http::{HeaderMap, HeaderName, header};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Questions that a document's clients may have put to the service at once, after a rest.
const BURST: u32 = 10;
/// How long it takes until one more is allowed.
const PAUSE: Duration = Duration::from_secs(1);
/// Most documents whose allowance is partly used up; beyond, nothing more is granted.
const MOST: usize = 4096;

/// What a request's headers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    /// Not without asking the service.
    pub(super) revalidate: bool,
    /// Not by asking the service.
    pub(super) only_if_cached: bool,
}

/// How often each document is asked for anew because clients want it.
///
/// A document has [`BURST`] tokens; the time at which they are all back stands for how many there are:
///
/// ```text
///   now ├───┬───┬───┤ full        three tokens of BURST are out
///        PAUSE each
/// ```
#[derive(Default)]
pub(super) struct Revalidations(Mutex<HashMap<String, Instant>>);

// === impl Wishes ===

impl Wishes {
    /// Reads the headers. Directives that are not known, or badly written, count for nothing.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        for directive in directives(headers, &header::CACHE_CONTROL) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let zero = || value.trim().trim_matches('"').parse() == Ok(0_u64);
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" => wishes.revalidate = true,
                "max-age" => wishes.revalidate |= zero(),
                "only-if-cached" => wishes.only_if_cached = true,
                _ => {}
            }
        }
        // "When the Cache-Control header field is also present and understood in a request, Pragma is ignored."
        // (RFC 7234 §5.4, to which RFC 9111 §5.4 refers.)
        if !headers.contains_key(header::CACHE_CONTROL) {
            let mut pragmas = directives(headers, &header::PRAGMA);
            wishes.revalidate = pragmas.any(|pragma| pragma.trim().eq_ignore_ascii_case("no-cache"));
        }
        wishes
    }
}

fn directives<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(','))
}

// === impl Revalidations ===

impl Revalidations {
    /// The allowances as they are now, for one who must not use them up.
    pub(super) fn copied(&self) -> Self {
        Self(Mutex::new(self.0.lock().clone()))
    }

    /// Takes a token of `document`, if there is one.
    pub(super) fn take(&self, document: &str) -> bool {
        let now = Instant::now();
        let mut full = self.0.lock();
        let at = full.get(document).copied().unwrap_or(now).max(now) + PAUSE;
        if at > now + PAUSE * BURST {
            return false;
        }
        if full.len() >= MOST && !full.contains_key(document) {
            full.retain(|_, at| *at > now);
            if full.len() >= MOST {
                return false;
            }
        }
        full.insert(document.to_owned(), at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, MOST, PAUSE, Revalidations, Wishes};
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn check(headers: &[(&'static str, &'static str)], revalidate: bool, only_if_cached: bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(Wishes::of(&map), Wishes { revalidate, only_if_cached }, "{headers:?}");
    }

    #[test]
    fn the_directives_are_read_from_every_line_and_in_any_case() {
        check(&[], false, false);
        check(&[("cache-control", "no-cache")], true, false);
        check(&[("cache-control", "No-Cache , foo")], true, false);
        check(&[("cache-control", "max-age=0")], true, false);
        check(&[("cache-control", "max-age=00")], true, false);
        check(&[("cache-control", "max-age=\"0\"")], true, false);
        check(&[("cache-control", "max-age=1")], false, false);
        check(&[("cache-control", "max-age")], false, false);
        check(&[("cache-control", "no-cached, x-no-cache")], false, false);
        check(&[("cache-control", "no-store")], false, false);
        check(&[("cache-control", "only-if-cached")], false, true);
        check(&[("cache-control", "max-stale=5"), ("cache-control", "only-if-cached, no-cache")], true, true);
        check(&[("pragma", "no-cache")], true, false);
        check(&[("pragma", "foo, No-Cache")], true, false);
        check(&[("pragma", "foo")], false, false);
        check(&[("pragma", "no-cache"), ("cache-control", "max-age=60")], false, false);
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_has_a_burst_and_then_one_question_a_second() {
        let revalidations = Revalidations::default();
        let taken = || (0..BURST * 3).filter(|_| revalidations.take("one")).count();
        assert_eq!(taken(), 10);
        tokio::time::advance(PAUSE).await;
        assert_eq!(taken(), 1);
        assert!(revalidations.take("other"));
        tokio::time::advance(PAUSE * BURST * 2).await;
        assert_eq!(taken(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_documents_is_bounded_and_rested_ones_make_room() {
        let revalidations = Revalidations::default();
        for number in 0..MOST {
            assert!(revalidations.take(&number.to_string()));
        }
        assert!(!revalidations.take("one too many"));
        assert!(revalidations.take("0"));
        tokio::time::advance(PAUSE).await;
        assert!(revalidations.take("one too many"));
        assert_eq!(revalidations.0.lock().len(), 2);
    }
}
