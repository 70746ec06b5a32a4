//! Method and path to endpoint.
//!
//! A route is a method, a pattern such as `/admin/v1/jobs/{id}`, what it wants of the body, and an async function.
//! Modules of endpoints give lists of routes; [`Router::new`] joins them. HEAD is answered by GET's route. What no
//! pattern knows is a 404 that lists what there is; what has the path but not the method is a 405 with `Allow`.

use std::{collections::BTreeMap, future::Future};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::{
    exchange::{Answer, Request},
    problem::Problem,
};

/// Most bytes of a body that is read whole, unless the route says otherwise.
const MOST: usize = 64 << 10;

type Run = Box<dyn Fn(Request) -> BoxFuture<'static, Result<Answer, Problem>> + Send + Sync>;

/// One endpoint.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; `{name}` stands for one segment.
    pub pattern: &'static str,
    /// What it wants of the request's body.
    pub intake: Intake,
    /// Whether anybody may ask, also where a token is required.
    pub open: bool,
    run: Run,
}

/// What a route wants of the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// All of it, at most that many bytes.
    Whole(usize),
    /// Piece by piece, without a limit.
    Pieces,
}

/// All endpoints.
pub struct Router(Vec<Route>);

/// A route that was found, with what stands in the places of its pattern.
pub struct Match<'a> {
    /// The route.
    pub route: &'a Route,
    /// By name.
    pub parameters: BTreeMap<&'static str, String>,
}

// === impl Route ===

impl Route {
    /// A route that answers at once; its function gets a clone of `state`.
    pub fn new<S>(
        method: Method,
        pattern: &'static str,
        state: &S,
        run: impl Fn(S, &Request) -> Result<Answer, Problem> + Send + Sync + 'static,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        Self::waiting(method, pattern, state, move |state, request| std::future::ready(run(state, &request)))
    }

    /// A route that has to wait for something.
    pub fn waiting<S, F>(
        method: Method,
        pattern: &'static str,
        state: &S,
        run: impl Fn(S, Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
        F: Future<Output = Result<Answer, Problem>> + Send + 'static,
    {
        let state = state.clone();
        let run: Run = Box::new(move |request| Box::pin(run(state.clone(), request)));
        Self { method, pattern, intake: Intake::Whole(MOST), open: false, run }
    }

    /// The same, for everybody.
    #[must_use]
    pub fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// The same with another intake.
    #[must_use]
    pub fn taking(self, intake: Intake) -> Self {
        Self { intake, ..self }
    }

    /// Does what was asked for.
    pub fn run(&self, request: Request) -> BoxFuture<'static, Result<Answer, Problem>> {
        (self.run)(request)
    }

    /// What stands in the places of the pattern, when the path is one of its.
    fn parameters(&self, path: &str) -> Option<BTreeMap<&'static str, String>> {
        let (mut places, mut segments) = (self.pattern.split('/'), path.split('/'));
        let mut parameters = BTreeMap::new();
        loop {
            let (place, segment) = match (places.next(), segments.next()) {
                (None, None) => return Some(parameters),
                (Some(place), Some(segment)) => (place, segment),
                _ => return None,
            };
            match place.strip_prefix('{').and_then(|place| place.strip_suffix('}')) {
                Some(name) if !segment.is_empty() => {
                    parameters.insert(name, percent_decode_str(segment).decode_utf8().ok()?.into_owned());
                }
                None if place == segment => {}
                _ => return None,
            }
        }
    }
}

// === impl Router ===

impl Router {
    /// Joins lists of routes.
    pub fn new(routes: impl IntoIterator<Item = Vec<Route>>) -> Self {
        Self(routes.into_iter().flatten().collect())
    }

    /// Every route, in the order given.
    pub fn routes(&self) -> &[Route] {
        &self.0
    }

    /// The route for a request, or why there is none.
    pub fn find(&self, method: &Method, path: &str) -> Result<Match<'_>, Problem> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let mut allowed = Vec::new();
        for route in &self.0 {
            let Some(parameters) = route.parameters(path) else { continue };
            if route.method == wanted {
                return Ok(Match { route, parameters });
            }
            allowed.push(route.method.as_str());
            allowed.extend((route.method == Method::GET).then_some("HEAD"));
        }
        Err(if allowed.is_empty() { self.not_found(path) } else { not_allowed(method, &allowed.join(", ")) })
    }

    fn not_found(&self, path: &str) -> Problem {
        let known: Vec<_> =
            self.0.iter().map(|route| format!("{} {}", route.method, route.pattern)).collect();
        let detail = format!("there is no `{path}`; there are {}", known.join(", "));
        Problem::new(StatusCode::NOT_FOUND, "no_endpoint", detail)
    }
}

fn not_allowed(method: &Method, allowed: &str) -> Problem {
    let detail = format!("the method is {method}, which is not one of {allowed}");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail);
    match HeaderValue::from_str(allowed) {
        Ok(allowed) => problem.with_header(header::ALLOW, allowed),
        // Names of methods are always a value.
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::{Intake, Route, Router};
    use crate::admin::exchange::{Answer, Content};

    fn router() -> Router {
        let route = |method: Method, pattern| {
            Route::new(method, pattern, &(), |(), _| Answer::json(&serde_json::json!({})))
        };
        Router::new([
            vec![route(Method::GET, "/a"), route(Method::PUT, "/a").taking(Intake::Pieces)],
            vec![route(Method::DELETE, "/jobs/{id}").open(), route(Method::GET, "/jobs/{id}/log/{line}")],
        ])
    }

    #[test]
    fn a_path_finds_its_pattern_and_what_stands_in_its_places() {
        let router = router();
        let found = |method, path| {
            let found = router.find(&method, path).ok()?;
            let places: Vec<_> =
                found.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Some((found.route.pattern, places.join(" ")))
        };
        for (method, path, expected) in [
            (Method::GET, "/a", Some(("/a", ""))),
            (Method::HEAD, "/a", Some(("/a", ""))),
            (Method::DELETE, "/jobs/verify-1", Some(("/jobs/{id}", "id=verify-1"))),
            (Method::DELETE, "/jobs/a%2fb", Some(("/jobs/{id}", "id=a/b"))),
            (Method::GET, "/jobs/7/log/9", Some(("/jobs/{id}/log/{line}", "id=7 line=9"))),
            (Method::DELETE, "/jobs/", None),
            (Method::DELETE, "/jobs/%ff", None),
            (Method::GET, "/a/", None),
            (Method::GET, "", None),
        ] {
            let expected = expected.map(|(pattern, places)| (pattern, places.to_owned()));
            assert_eq!(found(method, path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let router = router();
        let told = |method: Method, path: &str| {
            let answer = Answer::from(router.find(&method, path).err().unwrap());
            let allow = answer.headers.get("allow").map(|value| value.to_str().unwrap().to_owned());
            let Content::Whole(body) = answer.body else { panic!("a stream") };
            (answer.status, allow, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, allow, text) = told(Method::POST, "/a");
        assert_eq!((status, allow.as_deref()), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, PUT")));
        assert!(text.contains("\"code\":\"method\""), "{text}");
        let (status, allow, text) = told(Method::GET, "/b");
        assert_eq!((status, allow), (StatusCode::NOT_FOUND, None));
        assert!(text.contains("no `/b`") && text.contains("DELETE /jobs/{id}"), "{text}");
    }
}
