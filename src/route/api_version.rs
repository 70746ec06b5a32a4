//! The version of the API that a REST request asks for, in its query or its `Accept` header (facts §5.1).
//!
//! Which versions there are is the service's to say. One that is not made of letters, digits, dots and hyphens, or
//! that is named twice, stays in the query, so that it is part of the key and the service refuses it in its own words.
//!
//! UNCERTAIN: the service's own client libraries are known to ask with further parameters of the media type
//! (`excludeUrls`, `enumsAsNumbers`, `noArrayWrap`) for another form of the answer; the fact sheet has none of them.
//! Such a request is passed through, never stored.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Document, PassthroughRoute, Rest, Target, query};

/// The parameter's name, in a query and in `Accept`.
const API_VERSION: &str = "api-version";
/// Parameters of a media range that leave the answer's form as it is.
const WITHOUT_EFFECT: [&str; 3] = [API_VERSION, "q", "charset"];

/// What an `Accept` header says besides types.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accept<'h> {
    version: Option<&'h str>,
    /// Whether JSON is asked for in another form.
    another_form: bool,
}

/// Takes the version out of a query: what is left, canonical, and the version, lower case.
pub(super) fn split(query: &str) -> (String, Option<String>) {
    let parameters = query::parameters(query);
    let (versions, others): (Vec<_>, Vec<_>) = parameters.iter().partition(|parameter| is_version(parameter));
    let version = match versions.as_slice() {
        [one] => Some(query::split(one).1).filter(|version| is_plain(version)),
        _ => None,
    };
    match version {
        Some(version) => (joined(&others), Some(version.to_ascii_lowercase())),
        None => (joined(&parameters.iter().collect::<Vec<_>>()), None),
    }
}

fn joined(parameters: &[&String]) -> String {
    parameters.iter().map(|parameter| parameter.as_str()).collect::<Vec<_>>().join("&")
}

fn is_version(parameter: &str) -> bool {
    query::split(parameter).0 == API_VERSION
}

fn is_plain(version: &str) -> bool {
    !version.is_empty() && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

/// Reads `application/json;api-version=7.1-preview.1`; the first range with a version decides.
fn read(accept: &str) -> Accept<'_> {
    let mut found = Accept::default();
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let is_json = parts.next().is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
        for (name, value) in parts.map(query::split) {
            if name.trim() == API_VERSION {
                found.version = found.version.or(Some(value.trim().trim_matches('"')));
            }
            let known = name.is_empty() || WITHOUT_EFFECT.contains(&name.trim());
            found.another_form |= is_json && !known;
        }
    }
    found
}

// === impl Target ===

impl Target {
    /// Takes what a REST document's request says in its `Accept` header into the route: the version of the API, when
    /// its query names none. What no stored document can answer becomes a request that is passed through.
    pub fn negotiate(&mut self, accept: Option<&str>) {
        let Self::Document(route) = self else { return };
        let Document::Rest(rest) = &mut route.document else { return };
        let accept = accept.map(read).unwrap_or_default();
        if let Some(version) = accept.version {
            rest.ask_for(version);
        }
        if accept.another_form {
            let (feeds_host, subject) = (rest.feeds_host, rest.subject.clone());
            let (feed, path) = (Some(route.feed.clone()), route.upstream_path());
            *self = Self::Passthrough(PassthroughRoute { feed, feeds_host, path, subject, protocol: None });
        }
    }
}

// === impl Rest ===

impl Rest {
    fn ask_for(&mut self, version: &str) {
        let is_named =
            self.api_version.is_some() || query::parameters(&self.query).iter().any(|one| is_version(one));
        if is_named || version.contains(char::is_control) {
            return;
        }
        if is_plain(version) {
            self.api_version = Some(version.to_ascii_lowercase());
            return;
        }
        let mark = if self.query.is_empty() { "" } else { "&" };
        let parameter = format!("{mark}{API_VERSION}={}", utf8_percent_encode(version, NON_ALPHANUMERIC));
        self.query = query::canonical(&format!("{}{parameter}", self.query));
    }
}

#[cfg(test)]
mod tests {
    use super::{Accept, read, split};
    use crate::route::{Target, parse};

    #[test]
    fn a_version_is_taken_out_of_a_query_when_it_is_one() {
        let rows = [
            ("", "", None),
            ("api-version=7.1-preview.1", "", Some("7.1-preview.1")),
            ("API-Version=5.0-PREVIEW&$top=5", "$top=5", Some("5.0-preview")),
            ("a=1&&api%2Dversion=7%2e1&b=%62&", "a=1&b=b", Some("7.1")),
            ("api-version=", "api-version=", None),
            ("api-version", "api-version", None),
            ("api-version=a/b&x=1", "api-version=a/b&x=1", None),
            ("api-version=7.1%20", "api-version=7.1%20", None),
            ("api-version=1&api-version=2", "api-version=1&api-version=2", None),
        ];
        for (query, rest, version) in rows {
            assert_eq!(split(query), (rest.to_owned(), version.map(str::to_owned)), "{query}");
        }
    }

    #[test]
    fn an_accept_header_is_read_in_the_forms_that_clients_send() {
        let rows = [
            ("", None, false),
            ("*/*", None, false),
            ("application/json", None, false),
            ("application/json;api-version=7.1-preview.1", Some("7.1-preview.1"), false),
            ("Application/JSON ; Api-Version=\"5.0\" ; charset=utf-8;q=0.9;", Some("5.0"), false),
            ("text/plain, application/json; api-version=6.0, */*;api-version=1.0", Some("6.0"), false),
            ("application/json;api-version=7.1;excludeUrls=true", Some("7.1"), true),
            ("application/json;enumsAsNumbers=true", None, true),
            ("text/html,application/signed-exchange;v=b3;q=0.7,*/*;q=0.8", None, false),
            (";;,;=,;api-version", Some(""), false),
        ];
        for (header, version, another_form) in rows {
            assert_eq!(read(header), Accept { version, another_form }, "{header}");
        }
    }

    /// The path that goes upstream for a query and an `Accept` header.
    fn asked(query: &str, accept: &str) -> String {
        let target = format!("/o/_apis/packaging/feeds/f/npm/n/versions/1.0.0{query}");
        let mut target = parse(None, &target).unwrap().target;
        target.negotiate(Some(accept));
        let kind = if matches!(target, Target::Document(_)) { "" } else { "passed " };
        format!("{kind}{}", target.upstream_path().rsplit('/').next().unwrap())
    }

    #[test]
    fn the_query_is_heard_before_the_accept_header() {
        let json = |rest: &str| format!("application/json;{rest}");
        let rows = [
            ("", "*/*", "1.0.0"),
            ("", &json("api-version=7.1-Preview.1"), "1.0.0?api-version=7.1-preview.1"),
            ("?a=1", &json("api-version=7.1"), "1.0.0?a=1&api-version=7.1"),
            ("?api-version=5.0", &json("api-version=7.1"), "1.0.0?api-version=5.0"),
            ("?api-version=", &json("api-version=7.1"), "1.0.0?api-version="),
            ("", &json("api-version=7 1&x#é"), "1.0.0?api-version=7%201%26x%23%C3%A9"),
            ("?a", &json("api-version="), "1.0.0?a&api-version="),
            ("", &json("api-version=7\t.1"), "1.0.0"),
            ("", &json("api-version=7.1;noArrayWrap=true"), "passed 1.0.0?api-version=7.1"),
            ("?a=1", &json("noArrayWrap=true"), "passed 1.0.0?a=1"),
        ];
        for (query, accept, expected) in rows {
            assert_eq!(asked(query, accept), expected, "{query} {accept}");
        }
    }

    #[test]
    fn only_rest_documents_heed_the_accept_header() {
        for path in
            ["/o/_packaging/f/npm/registry/a", "/o/_apis/packaging/feeds", "/o/_packaging/f/nuget/v2/"]
        {
            let before = parse(None, path).unwrap().target;
            let mut target = before.clone();
            target.negotiate(Some("application/json;api-version=7.1;noArrayWrap=true"));
            assert_eq!(target, before);
        }
    }
}
