//! What the gate thinks of the service and of callers, and how to overrule it: breakers, throttle, verdicts.
//!
//! `GET /admin/v1/breakers`, `POST /admin/v1/breakers/reset` (`{"host": "…"}`, or all), `GET /admin/v1/throttle`,
//! `POST /admin/v1/verdicts/drop` (`{"feed": "org/feed", "caller": "…"}`, at least one of them; the caller as the log
//! shows it).

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    exchange::{Answer, Request},
    objects::feed,
    problem::Problem,
    router::Route,
};
use crate::{
    disk::off_thread,
    handler::Handler,
    throttle::{Class, Priority, ShedReason, SignalKind, budget::BudgetFigures},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    host: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dropped {
    feed: Option<String>,
    caller: Option<String>,
}

/// The routes of all that.
pub(super) fn routes(handler: &Handler) -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/admin/v1/breakers", handler, |handler, _| {
            Answer::json(&json!({ "hosts": breakers(&handler) }))
        }),
        Route::new(Method::POST, "/admin/v1/breakers/reset", handler, |handler, request| {
            let Reset { host } = request.json()?;
            let reset = handler.parts().breaks.reset(host.as_deref());
            Answer::json(&json!({ "reset": reset, "hosts": breakers(&handler) }))
        }),
        Route::new(Method::GET, "/admin/v1/throttle", handler, |handler, _| {
            Answer::json(&throttle(&handler))
        }),
        Route::waiting(Method::POST, "/admin/v1/verdicts/drop", handler, drop_verdicts),
    ]
}

/// Every host that was asked, and whether it still is.
pub(super) fn breakers(handler: &Handler) -> Vec<Value> {
    let shown = |host: crate::upstream::HostState| {
        json!({
            "host": host.host,
            "class": host.class.as_str(),
            "state": host.state.as_str(),
            "seconds_left": host.barred.map(|barred| barred.as_secs_f64()),
        })
    };
    handler.parts().breaks.list().into_iter().map(shown).collect()
}

/// What may be sent to each class of hosts, who waits, and what happened so far.
pub(super) fn throttle(handler: &Handler) -> Value {
    let snapshot = handler.parts().throttle.snapshot();
    let classes = Class::ALL.map(|class| {
        let index = class as usize;
        let (counters, queued) = (&snapshot.counters, snapshot.queued[index]);
        let tightest = (snapshot.known[index] > 0).then(|| budget(&snapshot.tightest[index]));
        let one = json!({
            "gate": budget(&snapshot.gate[index]),
            "tightest_identity": tightest,
            "identities": snapshot.known[index],
            "paused_identities": snapshot.paused[index],
            "queued": named(Priority::ALL.map(|one| (one.as_str(), json!(queued[one as usize])))),
            "granted": counters.granted[index].iter().sum::<u64>(),
            "shed": named(ShedReason::ALL.map(|one| (one.as_str(), json!(counters.shed_for[index][one as usize])))),
            "signals": named(SignalKind::ALL.map(|one| (one.as_str(), json!(counters.signals[index][one as usize])))),
            "pauses": counters.pauses[index],
            "absorbed_seconds": counters.absorbed[index].as_secs_f64(),
        });
        (class.as_str(), one)
    });
    named(classes)
}

fn budget(figures: &BudgetFigures) -> Value {
    json!({
        "in_flight": figures.in_flight,
        "in_flight_limit": figures.in_flight_limit,
        "requests_per_second": figures.rate_limit,
        "remaining": figures.remaining.map(|(left, _)| left),
        "pause_seconds": figures.pause_left.as_secs_f64(),
    })
}

fn named<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Object(Map::from_iter(pairs.map(|(name, value)| (name.to_owned(), value))))
}

async fn drop_verdicts(handler: Handler, request: Request) -> Result<Answer, Problem> {
    let Dropped { feed: wanted, caller } = request.json()?;
    let wanted = wanted.as_deref().map(feed).transpose()?;
    if wanted.is_none() && caller.is_none() {
        return Err(Problem::invalid("`feed` or `caller` must say whose verdicts are dropped"));
    }
    let work = move || handler.drop_verdicts(wanted.as_ref(), caller.as_deref());
    let dropped = off_thread("drop verdicts", work).await.map_err(|error| Problem::internal(&error))?;
    Answer::json(&json!({ "dropped": dropped.map_err(|error| Problem::internal(&error))? }))
}
