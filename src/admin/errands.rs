//! `POST /admin/v1/warm` and `POST /admin/v1/drill`: what builds need, fetched ahead of time or tried without the service.
//! `POST /admin/v1/refresh`: documents that are stored, asked for anew.
//!
//! A warm-up or a refresh is a [job](super::jobs) and its result the report; a drill takes no longer than reading what is stored, so that
//! its report is the answer. `POST /admin/v1/drill/enforce` has one caller answered as if the service were down.

use std::time::Duration;

use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    exchange::{Answer, Request},
    jobs::{Jobs, Progress},
    objects::{self, failed},
    problem::Problem,
    router::{Intake, Route},
};
use crate::{
    access::Caller,
    handler::{Errand, Errands, Fate, Refreshed, Report, Seen},
    lockfile::{Integrity, Need},
};

/// For bodies that name what builds need.
pub(super) const LARGE: Intake = Intake::Whole(64 << 20);
/// Most things that one request asks for.
const MOST_NEEDS: usize = 200_000;

#[derive(Clone)]
struct State {
    errands: Errands,
    jobs: Jobs,
}

/// What is needed, and on whose behalf.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The `Authorization` that the clients send; none for anonymous ones.
    authorization: Option<String>,
    needs: Vec<AskedNeed>,
}

/// One thing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedNeed {
    path: String,
    label: Option<String>,
    integrity: Option<String>,
    #[serde(default)]
    optional: bool,
}

/// Which documents are refreshed, and on whose behalf.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refreshing {
    authorization: Option<String>,
    feed: Option<String>,
    package: Option<String>,
    protocol: Option<String>,
}

/// Who is drilled, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enforced {
    authorization: String,
    seconds: u64,
}

// === impl AskedNeed ===

impl AskedNeed {
    /// Reads each of them.
    pub(super) fn read_all(asked: Vec<Self>) -> Result<Vec<Need>, Problem> {
        if asked.len() > MOST_NEEDS {
            return Err(Problem::invalid(format!(
                "`needs` has {} things, more than {MOST_NEEDS}",
                asked.len()
            )));
        }
        asked.into_iter().enumerate().map(|(index, need)| need.read(index)).collect()
    }

    fn read(self, index: usize) -> Result<Need, Problem> {
        let integrity = self.integrity.as_deref().map(Integrity::of_npm).transpose();
        let integrity =
            integrity.map_err(|rule| Problem::invalid(format!("`needs[{index}].integrity`: {rule}")))?;
        let label = self.label.unwrap_or_else(|| self.path.clone());
        Ok(Need { label, path: self.path, integrity: integrity.flatten(), optional: self.optional })
    }
}

/// The routes of errands.
pub(super) fn routes(errands: &Errands, jobs: &Jobs) -> Vec<Route> {
    let state = State { errands: errands.clone(), jobs: jobs.clone() };
    vec![
        Route::new(Method::POST, "/admin/v1/warm", &state, warm).taking(LARGE),
        Route::waiting(Method::POST, "/admin/v1/drill", &state, drill).taking(LARGE),
        Route::new(Method::POST, "/admin/v1/refresh", &state, refresh),
        Route::new(Method::POST, "/admin/v1/drill/enforce", &state, |state, request| {
            enforce(&state, request)
        }),
    ]
}

fn warm(state: State, request: &Request) -> Result<Answer, Problem> {
    let (caller, needs) = read(&state.errands, request)?;
    let jobs = state.jobs.clone();
    jobs.start("warm", move |progress| async move {
        progress.set_total(needs.len() as u64);
        Ok(report(&state.errands.run(Errand::WarmUp, needs, &caller, watched(&progress)).await))
    })
}

fn refresh(state: State, request: &Request) -> Result<Answer, Problem> {
    let Refreshing { authorization, feed, package, protocol } = request.json()?;
    let filter = objects::Asked { feed, package, protocol, ..objects::Asked::default() }.filter()?;
    if filter.is_empty() {
        return Err(Problem::invalid("a refresh needs `feed`, `package` or `protocol`"));
    }
    let caller = caller(&state.errands, authorization.as_deref())?;
    let jobs = state.jobs.clone();
    jobs.start("refresh", move |progress| async move {
        let total = |documents| progress.set_total(documents as u64);
        let refreshed = state.errands.refresh(&filter, &caller, total, watched(&progress)).await;
        refreshed.map(|refreshed| told(&refreshed)).map_err(failed)
    })
}

/// Counts what has been seen.
fn watched(progress: &Progress) -> impl Fn(&Seen) {
    |seen| {
        progress.add(1);
        progress.note(seen.label.clone());
    }
}

async fn drill(state: State, request: Request) -> Result<Answer, Problem> {
    let (caller, needs) = read(&state.errands, &request)?;
    Answer::json(&report(&state.errands.run(Errand::Drill, needs, &caller, |_| ()).await))
}

fn enforce(state: &State, request: &Request) -> Result<Answer, Problem> {
    let Enforced { authorization, seconds } = request.json()?;
    let caller = caller(&state.errands, Some(&authorization))?;
    let enforced = state.errands.enforce(&caller, Duration::from_secs(seconds));
    enforced.map_err(|rule| Problem::invalid(format!("`seconds` is {seconds}: {rule}")))?;
    Answer::json(&json!({ "caller": caller.id().to_string(), "seconds": seconds }))
}

fn read(errands: &Errands, request: &Request) -> Result<(Caller, Vec<Need>), Problem> {
    let Asked { authorization, needs } = request.json()?;
    Ok((caller(errands, authorization.as_deref())?, AskedNeed::read_all(needs)?))
}

/// The caller who shows `authorization`.
pub(super) fn caller(errands: &Errands, authorization: Option<&str>) -> Result<Caller, Problem> {
    let value = authorization.map(HeaderValue::from_str).transpose();
    // The value itself is a secret.
    let value = value.map_err(|_| Problem::invalid("`authorization` is not a value of a header"))?;
    Ok(errands.caller(value.as_ref()))
}

/// The report as JSON: the figures, how old the documents are, and what is wrong.
fn report(report: &Report) -> Value {
    let counts = Fate::ALL.map(|fate| (fate.as_str().to_owned(), json!(report.count(fate))));
    let seen = || report.seen.iter();
    let good = seen().filter(|seen| seen.fate.is_good()).count();
    let dated = |seen: &&Seen| seen.age.is_some();
    let document = |seen: &Seen| json!({ "label": seen.label, "age": seen.age, "good_for": seen.good_for });
    json!({
        "needed": report.seen.len(),
        "good": good,
        "counts": serde_json::Map::from_iter(counts),
        "bytes": seen().map(|seen| seen.bytes).sum::<u64>(),
        "checked": seen().filter(|seen| seen.is_checked).count(),
        "documents": seen().filter(dated).map(document).collect::<Vec<_>>(),
        "problems": problems(report),
    })
}

/// A refresh as JSON.
fn told(Refreshed { report, unaddressed }: &Refreshed) -> Value {
    json!({
        "documents": report.seen.len(),
        "changed": report.count(Fate::Fetched),
        "unchanged": report.count(Fate::Stored),
        "missing": report.count(Fate::Missing),
        "refused": report.count(Fate::Refused),
        "failed": report.count(Fate::Failed),
        "unaddressed": unaddressed,
        "problems": problems(report),
    })
}

/// What is not there, and why.
fn problems(report: &Report) -> Vec<Value> {
    let problem = |seen: &Seen| {
        json!({
            "label": seen.label,
            "path": seen.path,
            "outcome": seen.fate.as_str(),
            "reason": seen.reason,
            "optional": seen.optional,
        })
    };
    report.seen.iter().filter(|seen| !seen.fate.is_good()).map(problem).collect()
}
