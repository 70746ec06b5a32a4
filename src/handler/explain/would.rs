//! What would happen, in words: the action, what an answer would say of itself, and why.

use http::StatusCode;
use serde::Serialize;

use super::{
    super::{
        CacheStatus, Handler, Request,
        rehearsal::{End, Question, Rehearsed},
    },
    facts::ServiceFacts,
};
use crate::{cache::Known, guard::Objection, handler::HandlerError, route::Target};

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Would {
    /// `hit`, `stale_hit`, `fetch` (nothing is stored), `revalidate` (the stored copy is not used as it is), `pass` (asked
    /// of the service and never stored), `answer` (made by the gate alone), `forward` (a write), `body` (the question is in
    /// the request's body), or `refuse`.
    pub action: &'static str,
    /// The status, where it does not depend on what the service says.
    pub status: Option<u16>,
    /// The code of a refusal.
    pub code: Option<&'static str>,
    /// How the answer would come about, as the metrics' label `cache` has it. What is fetched may turn out to be stored
    /// under another name: `refreshed` in place of `miss`.
    pub cache: Option<&'static str>,
    /// What the service would be asked before the answer, in this order: `feed` (its service index: which feed it is, and
    /// whether the caller may read it), `document`, `package`, `request` (the request itself).
    pub asks: Vec<&'static str>,
    /// Whether a new copy would be fetched behind the answer.
    pub behind: bool,
    /// Whether it rests on something that only the service's answer tells: which feed it is, or how old a version is.
    pub open: bool,
    /// Why the request would wait for its turn, if it would.
    pub queue: Option<String>,
    /// Why.
    pub why: String,
}

/// Puts what a rehearsal of `request` came to into words.
pub(super) fn told(
    handler: &Handler,
    request: &Request,
    service: &ServiceFacts,
    rehearsed: &Rehearsed,
) -> Would {
    let asks: Vec<_> = rehearsed.questions.iter().map(|question| word(*question)).collect();
    let goes_out = !asks.is_empty() || matches!(rehearsed.end, End::Forwarded | End::Body);
    let (action, status, code, cache) = match &rehearsed.end {
        End::Reply(cache) => (action(*cache), status(*cache), None, Some(cache.label())),
        End::Refused(error) => ("refuse", Some(error.status().as_u16()), Some(error.code()), Some("local")),
        End::Forwarded => ("forward", None, None, Some(CacheStatus::Method.label())),
        End::Body => ("body", None, None, None),
    };
    Would {
        action,
        status,
        code,
        cache,
        asks,
        behind: rehearsed.behind,
        open: is_open(handler, request, rehearsed),
        queue: if goes_out { queue(service) } else { None },
        why: why(handler, request, service, rehearsed),
    }
}

fn word(question: Question) -> &'static str {
    match question {
        Question::Feed => "feed",
        Question::Document => "document",
        Question::Package => "package",
        Question::Request => "request",
    }
}

fn action(cache: CacheStatus) -> &'static str {
    match cache {
        CacheStatus::Hit { .. } => "hit",
        CacheStatus::StaleRefreshing { .. }
        | CacheStatus::StaleOnError { .. }
        | CacheStatus::Offline { .. } => "stale_hit",
        CacheStatus::Miss { .. } | CacheStatus::Unstored { stale: false } => "fetch",
        CacheStatus::Refreshed { .. }
        | CacheStatus::Demanded { .. }
        | CacheStatus::Unstored { stale: true } => "revalidate",
        CacheStatus::Bypass => "pass",
        CacheStatus::Method => "forward",
        CacheStatus::Local => "answer",
    }
}

/// What is stored, or made by the gate, is there; what is fetched is as the service says.
fn status(cache: CacheStatus) -> Option<u16> {
    (cache.is_hit() || cache == CacheStatus::Local).then_some(StatusCode::OK.as_u16())
}

/// Whether the service's answer to a first question may change the rest.
fn is_open(handler: &Handler, request: &Request, rehearsed: &Rehearsed) -> bool {
    let asks_feed = rehearsed.questions.contains(&Question::Feed);
    let unknown_feed = request.route.target.feed().is_some_and(|feed| {
        !feed.is_identified() && matches!(handler.parts.identities.get(feed, handler.now()), Known::Unknown)
    });
    // Whether a rule of another feed's name is for this one.
    let guarded = matches!(&rehearsed.end, End::Refused(HandlerError::Guarded(_)));
    let unknown_age =
        matches!(&rehearsed.end, End::Refused(HandlerError::Guarded(Objection::Unknown { .. })))
            && rehearsed.questions.contains(&Question::Document);
    asks_feed && (unknown_feed || guarded) || unknown_age
}

fn queue(service: &ServiceFacts) -> Option<String> {
    if service.pause > 0.0 {
        let seconds = service.pause.ceil();
        return Some(format!(
            "nothing is sent for this credential for {seconds} s: the service wants to be left alone"
        ));
    }
    let full = service.in_flight >= service.in_flight_limit;
    full.then(|| format!("{} requests are in flight, as many as there may be", service.in_flight))
}

fn why(handler: &Handler, request: &Request, service: &ServiceFacts, rehearsed: &Rehearsed) -> String {
    let first = match (rehearsed.questions.first(), rehearsed.questions.len()) {
        (Some(Question::Feed), 2..) => first_question(handler, request),
        _ => "",
    };
    let rest = match &rehearsed.end {
        End::Reply(cache) => of_reply(*cache, request, service, rehearsed),
        End::Refused(error) => of_refusal(error, service),
        End::Forwarded => format!("{} is never stored: it goes to the service as it is", request.method),
        End::Body => {
            "the question is in the body of the request, so it is read and put to the service".to_owned()
        }
    };
    format!("{first}{rest}")
}

/// Why the service index is asked for first.
fn first_question(handler: &Handler, request: &Request) -> &'static str {
    let feed = request.route.target.feed();
    match feed.map(|feed| handler.parts.identities.get(feed, handler.now())) {
        Some(Known::Unknown) => "which feed this spelling means is not known and asked first; then: ",
        Some(Known::Old(_)) => {
            "which feed this spelling means was learned long ago and is asked again; then: "
        }
        _ => "whether this caller may read the feed is asked first; then: ",
    }
}

fn of_reply(cache: CacheStatus, request: &Request, service: &ServiceFacts, rehearsed: &Rehearsed) -> String {
    let behind = if rehearsed.behind { "; a new one is fetched behind the answer" } else { "" };
    match cache {
        CacheStatus::Hit { ttl: Some(ttl) } => format!("the stored copy is fresh for {ttl} s{behind}"),
        CacheStatus::Hit { ttl: None } => {
            "the bytes are here, and those of a version never change".to_owned()
        }
        CacheStatus::StaleRefreshing { ttl } => {
            let left = if rehearsed.behind { "" } else { "; nothing is fetched behind it now" };
            format!("the stored copy went stale {} s ago and may still be served{behind}{left}", -ttl)
        }
        CacheStatus::Offline { ttl } => {
            format!(
                "the service is not asked (mode {}); the stored copy is {} s past its freshness",
                service.mode, -ttl
            )
        }
        CacheStatus::StaleOnError { ttl } => {
            format!("{}; the stored copy, {} s past its freshness, stands in", trouble(service), -ttl)
        }
        CacheStatus::Miss { collapsed: true } => "a download of it is under way and is followed".to_owned(),
        CacheStatus::Miss { .. } | CacheStatus::Unstored { stale: false } => {
            "nothing usable is stored, so it is fetched".to_owned()
        }
        CacheStatus::Demanded { .. } => "the client wants the service to be asked (Cache-Control)".to_owned(),
        CacheStatus::Refreshed { .. } | CacheStatus::Unstored { stale: true } => {
            "the stored copy is too old, or a write made it so: the service is asked first".to_owned()
        }
        CacheStatus::Bypass => "this kind of request is never stored".to_owned(),
        CacheStatus::Method => format!("{} is never stored", request.method),
        CacheStatus::Local if matches!(request.route.target, Target::Derived(_)) => {
            "the gate makes this answer itself".to_owned()
        }
        CacheStatus::Local => "the gate answers by itself".to_owned(),
    }
}

fn of_refusal(error: &HandlerError, service: &ServiceFacts) -> String {
    match error {
        HandlerError::Refused(refusal) => {
            format!("the service said {} to this caller a moment ago, or wants a credential", refusal.status)
        }
        HandlerError::Dead(_) => {
            format!("the breaker of the {} host is open, and nothing usable is stored", service.host)
        }
        HandlerError::Offline => {
            format!("the service is not asked (mode {}), and nothing usable is stored", service.mode)
        }
        HandlerError::Unavailable(_) => "nothing usable is stored that this caller may have".to_owned(),
        error => error.to_string(),
    }
}

fn trouble(service: &ServiceFacts) -> &'static str {
    if service.trouble.contains(&"dead") {
        "the breaker of the host is open"
    } else if service.trouble.contains(&"suspected") {
        "the service refused for load or was slow a moment ago"
    } else {
        "the service gives no answer"
    }
}
