//! Work that takes longer than a request: started by a POST, watched and cancelled here.
//!
//! `GET /admin/v1/jobs` lists the jobs, `GET /admin/v1/jobs/{id}` tells how far one is and what came of it, `DELETE` ends
//! it. A kind of job runs once at a time. What is over is remembered for a while, and not over a restart.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use super::{
    exchange::{Answer, Request},
    problem::Problem,
    router::Route,
};

/// Jobs that are over and still remembered.
const REMEMBERED: usize = 50;

/// The jobs of this gate. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct Jobs(Arc<Mutex<Table>>);

/// How far a job is; the work counts, the watchers read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress(Arc<Tally>);

#[derive(Default)]
struct Table {
    /// Oldest first.
    jobs: VecDeque<Job>,
    started: u64,
}

#[derive(Default)]
struct Tally {
    done: AtomicU64,
    total: AtomicU64,
    note: Mutex<String>,
}

struct Job {
    id: String,
    kind: &'static str,
    started: Instant,
    progress: Progress,
    state: State,
    /// What ends the work, and the task that sees it end.
    abort: AbortHandle,
    watch: Option<JoinHandle<()>>,
}

enum State {
    Running,
    /// After that long.
    Over(f64, End),
}

enum End {
    Done(Value),
    Failed(Problem),
    Cancelled,
}

// === impl Progress ===

impl Progress {
    /// How much there is to do, once it is known.
    pub fn set_total(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn add(&self, done: u64) {
        self.0.done.fetch_add(done, Ordering::Relaxed);
    }

    /// What is being done now, for people.
    pub fn note(&self, note: impl Into<String>) {
        *self.0.note.lock() = note.into();
    }

    fn to_json(&self) -> Value {
        let (done, total) = (self.0.done.load(Ordering::Relaxed), self.0.total.load(Ordering::Relaxed));
        json!({ "done": done, "total": total, "note": *self.0.note.lock() })
    }
}

// === impl Jobs ===

impl Jobs {
    /// Starts a job; the answer is 202 with the job and its `Location`.
    ///
    /// # Errors
    /// 409 while another of its kind runs.
    pub fn start<F>(&self, kind: &'static str, work: impl FnOnce(Progress) -> F) -> Result<Answer, Problem>
    where
        F: Future<Output = Result<Value, Problem>> + Send + 'static,
    {
        let mut table = self.0.lock();
        if let Some(other) = table.jobs.iter().find(|job| job.kind == kind && job.is_running()) {
            return Err(Problem::conflict(format!("job `{}` is not over yet", other.id)));
        }
        table.started += 1;
        let (id, progress) = (format!("{kind}-{}", table.started), Progress::default());
        let working = tokio::spawn(work(progress.clone()));
        let abort = working.abort_handle();
        let (jobs, watched) = (self.clone(), id.clone());
        let watch = tokio::spawn(async move {
            let end = match working.await {
                Ok(Ok(result)) => End::Done(result),
                Ok(Err(problem)) => End::Failed(problem),
                Err(error) if error.is_cancelled() => End::Cancelled,
                Err(error) => End::Failed(Problem::internal(&error)),
            };
            jobs.finish(&watched, end);
        });
        let job = Job {
            id,
            kind,
            started: Instant::now(),
            progress,
            state: State::Running,
            abort,
            watch: Some(watch),
        };
        let answer = Answer::json(&job.to_json())?.with_status(StatusCode::ACCEPTED);
        table.jobs.push_back(job);
        table.forget();
        Ok(answer)
    }

    /// Ends every job and waits until nothing of them is left.
    pub async fn shut_down(&self) {
        let watches: Vec<_> = {
            let mut table = self.0.lock();
            table.jobs.iter().for_each(|job| job.abort.abort());
            table.jobs.iter_mut().filter_map(|job| job.watch.take()).collect()
        };
        for watch in watches {
            // It cannot panic, and nobody aborts it.
            let _ = watch.await;
        }
    }

    fn finish(&self, id: &str, end: End) {
        let mut table = self.0.lock();
        let Some(job) = table.jobs.iter_mut().find(|job| job.id == id) else { return };
        job.state = State::Over(job.started.elapsed().as_secs_f64(), end);
        tracing::info!(job = id, state = job.state.as_str(), "job over");
    }

    fn list(&self) -> Value {
        let table = self.0.lock();
        json!({ "jobs": table.jobs.iter().map(Job::to_json).collect::<Vec<_>>() })
    }

    /// Shows a job, after it was told to end if that is wanted.
    fn one(&self, id: &str, cancel: bool) -> Result<Value, Problem> {
        let table = self.0.lock();
        let job = table.jobs.iter().find(|job| job.id == id);
        let job = job.ok_or_else(|| Problem::absent(format!("there is no job `{id}`")))?;
        if cancel {
            job.abort.abort();
        }
        Ok(job.to_json())
    }
}

// === impl Table ===

impl Table {
    fn forget(&mut self) {
        while self.jobs.len() > REMEMBERED
            && let Some(oldest) = self.jobs.iter().position(|job| !job.is_running())
        {
            self.jobs.remove(oldest);
        }
    }
}

// === impl Job ===

impl Job {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    fn to_json(&self) -> Value {
        let (seconds, result, problem) = match &self.state {
            State::Running => (self.started.elapsed().as_secs_f64(), Value::Null, Value::Null),
            State::Over(seconds, End::Done(result)) => (*seconds, result.clone(), Value::Null),
            State::Over(seconds, End::Failed(problem)) => (*seconds, Value::Null, problem.to_json()),
            State::Over(seconds, End::Cancelled) => (*seconds, Value::Null, Value::Null),
        };
        json!({
            "id": self.id,
            "kind": self.kind,
            "state": self.state.as_str(),
            "seconds": seconds,
            "progress": self.progress.to_json(),
            "result": result,
            "problem": problem,
        })
    }
}

// === impl State ===

impl State {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Over(_, End::Done(_)) => "done",
            Self::Over(_, End::Failed(_)) => "failed",
            Self::Over(_, End::Cancelled) => "cancelled",
        }
    }
}

/// The routes of jobs.
pub(super) fn routes(jobs: &Jobs) -> Vec<Route> {
    const ONE: &str = "/admin/v1/jobs/{id}";
    vec![
        Route::new(Method::GET, "/admin/v1/jobs", jobs, |jobs, _| Answer::json(&jobs.list())),
        Route::new(Method::GET, ONE, jobs, |jobs, request| one(&jobs, request, false)),
        Route::new(Method::DELETE, ONE, jobs, |jobs, request| one(&jobs, request, true)),
    ]
}

fn one(jobs: &Jobs, request: &Request, cancel: bool) -> Result<Answer, Problem> {
    Answer::json(&jobs.one(request.parameter("id"), cancel)?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Jobs, REMEMBERED};
    use crate::admin::problem::Problem;

    async fn over(jobs: &Jobs, id: &str) -> Value {
        loop {
            let job = jobs.one(id, false).unwrap();
            if job["state"] != "running" {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_is_watched_to_its_end() {
        let jobs = Jobs::default();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let work = |progress: super::Progress| async move {
            progress.set_total(9);
            progress.add(4);
            progress.note("half");
            let _ = wait.await;
            Ok(json!({ "found": 2 }))
        };
        assert_eq!(jobs.start("verify", work).ok().unwrap().status, 202);
        while jobs.one("verify-1", false).unwrap()["progress"]["done"] == 0 {
            tokio::task::yield_now().await;
        }
        let job = jobs.one("verify-1", false).unwrap();
        assert_eq!(job["progress"], json!({ "done": 4, "total": 9, "note": "half" }));
        assert_eq!((&job["state"], &job["result"]), (&json!("running"), &Value::Null));
        let refused = jobs.start("verify", |_| async { Ok(Value::Null) }).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code), (409, "conflict"));
        assert!(jobs.start("warm", |_| async { Ok(Value::Null) }).is_ok());
        go.send(()).unwrap();
        let job = over(&jobs, "verify-1").await;
        assert_eq!((&job["state"], &job["result"]), (&json!("done"), &json!({ "found": 2 })));
        assert_eq!(jobs.one("warm-1", false).unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn a_job_is_cancelled_fails_or_panics_and_is_forgotten_in_the_end() {
        let jobs = Jobs::default();
        let forever = |_| std::future::pending();
        assert!(jobs.start("a", forever).is_ok() && jobs.start("b", forever).is_ok());
        jobs.one("a-1", true).unwrap();
        assert_eq!(over(&jobs, "a-1").await["state"], "cancelled");
        jobs.start("a", |_| async { Err(Problem::absent("nothing")) }).ok().unwrap();
        let job = over(&jobs, "a-3").await;
        assert_eq!((&job["state"], &job["problem"]["detail"]), (&json!("failed"), &json!("nothing")));
        jobs.start("a", |_| async { panic!("as the test wants it") }).ok().unwrap();
        assert_eq!(over(&jobs, "a-4").await["problem"]["code"], "internal");
        for number in 5..100 {
            jobs.start("a", |_| async { Ok(Value::Null) }).ok().unwrap();
            over(&jobs, &format!("a-{number}")).await;
        }
        assert_eq!(jobs.list()["jobs"].as_array().unwrap().len(), REMEMBERED);
        assert_eq!(jobs.one("b-2", false).unwrap()["state"], "running", "what runs is not forgotten");
        jobs.shut_down().await;
        assert_eq!(jobs.one("b-2", false).unwrap()["state"], "cancelled");
    }
}
