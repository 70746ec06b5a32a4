//! Repeats against a scripted upstream, on a clock that stands still until something waits.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::*;
use crate::{
    ident::Name,
    throttle::{Asker, Client, Priority, ShedReason, ThrottleError},
    upstream::{Service, Target},
};

type Outcome = Result<UpstreamResponse, UpstreamError>;

/// Plays its script, and then answers 200. Remembers when each try came and whether it was to be on a new connection.
#[derive(Clone)]
struct Script {
    start: Instant,
    acts: Arc<Mutex<VecDeque<Act>>>,
    tries: Arc<Mutex<Vec<(Duration, bool)>>>,
}

#[derive(Clone)]
enum Act {
    Broken,
    Refused,
    Hangs,
    Late(Phase),
    Shed,
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
}

const EXCEEDED: &str =
    "TF400733: The request has been canceled: exceeding usage of resource 'XMLHttp' in namespace";
const BLOCKED: &str = "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace";

#[async_trait]
impl Upstream for Script {
    async fn fetch(&self, request: &UpstreamRequest) -> Outcome {
        let act = self.acts.lock().pop_front();
        self.tries.lock().push((self.start.elapsed(), request.fresh));
        let (host, reason) = ("h".to_owned(), "r".to_owned());
        match act.unwrap_or(Act::Status(200, &[], "ok")) {
            Act::Broken => Err(UpstreamError::Broken { host, reason }),
            Act::Refused => Err(UpstreamError::Connect { host, reason }),
            Act::Hangs => std::future::pending().await,
            Act::Late(phase) => Err(UpstreamError::Timeout { host, phase }),
            Act::Shed => Err(UpstreamError::Shed(shed())),
            Act::Status(status, headers, body) => Ok(response(status, headers, body)),
        }
    }
}

fn response(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> UpstreamResponse {
    let header = |(name, value): &(&'static str, &'static str)| {
        (name.parse().unwrap(), HeaderValue::from_static(value))
    };
    UpstreamResponse {
        status: StatusCode::from_u16(status).unwrap(),
        reason: None,
        headers: headers.iter().map(header).collect::<HeaderMap>(),
        body: Box::new(body::ReadAhead::whole(Bytes::from_static(body.as_bytes()))),
    }
}

/// What a request comes to, and the tries that it took.
struct Run {
    script: Script,
    registry: Registry,
    outcome: Result<u16, UpstreamError>,
    body: Bytes,
    took: Duration,
}

fn shed() -> ThrottleError {
    let (class, reason) = (Class::Api, ShedReason::Late);
    ThrottleError { class, reason, waited: Duration::ZERO, pause_left: Duration::ZERO }
}

fn request() -> UpstreamRequest {
    let org = Name::parse("contoso").unwrap();
    let asker = Asker::always(Client::new(1), Priority::Document);
    UpstreamRequest::get(Target::Service { service: Service::Pkgs, org, path: "/x".to_owned() }, asker)
}

async fn run(acts: &[Act]) -> Run {
    run_with(acts, Retry::default(), request()).await
}

async fn run_with(acts: &[Act], settings: Retry, request: UpstreamRequest) -> Run {
    let acts = Arc::new(Mutex::new(acts.to_vec().into()));
    let script = Script { start: Instant::now(), acts, tries: Arc::default() };
    let registry = Registry::new();
    let clock = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let retrying = Retrying::new(script.clone(), settings, clock, Retries::new(&registry).unwrap());
    let (outcome, body) = match retrying.fetch(&request).await {
        Ok(response) => {
            let status = response.status.as_u16();
            (Ok(status), body::read_to_end(response.body, 1 << 20).await.unwrap())
        }
        Err(error) => (Err(error), Bytes::new()),
    };
    let took = script.start.elapsed();
    Run { script, registry, outcome, body, took }
}

impl Run {
    fn tries(&self) -> usize {
        self.script.tries.lock().len()
    }

    /// Reasons that were counted, and how often, as text.
    fn counted(&self) -> Vec<String> {
        let families = self.registry.gather();
        let samples = families.iter().flat_map(MetricFamily::get_metric);
        let counted = samples.filter(|metric| metric.get_counter().get_value() > 0.0);
        let counted = counted.map(|metric| {
            format!("{} {}", metric.get_label()[1].get_value(), metric.get_counter().get_value())
        });
        counted.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_three_times_on_new_connections() {
    let rows = [
        (Act::Broken, "broken"),
        (Act::Late(Phase::Idle), "stalled"),
        (Act::Status(500, &[], "oops"), "server_error"),
        (Act::Status(502, &[], ""), "server_error"),
        (Act::Status(504, &[], ""), "server_error"),
    ];
    for (act, reason) in rows {
        let run = run(&vec![act.clone(); 2]).await;
        assert_eq!((run.outcome.unwrap(), &run.body[..]), (200, &b"ok"[..]), "{reason}");
        let fresh: Vec<_> = run.script.tries.lock().iter().map(|(_, fresh)| *fresh).collect();
        assert_eq!(fresh, [false, true, true], "{reason}");
        let lasting = super::tests::run(&vec![act; 9]).await;
        assert_eq!((lasting.tries(), lasting.counted()), (3, vec![format!("{reason} 2")]));
        assert_ne!(lasting.outcome.ok(), Some(200), "the last failure is handed on");
        assert!(lasting.took <= FAILURE_PAUSE * 3, "{:?}", lasting.took);
    }
}

#[tokio::test(start_paused = true)]
async fn what_repeats_cannot_mend_is_tried_once() {
    let rows = [
        Act::Late(Phase::Connect),
        Act::Late(Phase::FirstByte),
        Act::Late(Phase::Document),
        Act::Shed,
        Act::Status(404, &[], ""),
        Act::Status(401, &[], ""),
        Act::Status(400, &[], ""),
        Act::Status(501, &[], ""),
        Act::Status(303, &[], ""),
    ];
    for (row, act) in rows.into_iter().enumerate() {
        let run = run(&[act]).await;
        assert_eq!((run.tries(), run.took), (1, Duration::ZERO), "row {row}");
        assert!(run.counted().is_empty(), "row {row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_no_connections_is_tried_twice() {
    let run = run(&vec![Act::Refused; 9]).await;
    assert!(matches!(run.outcome, Err(UpstreamError::Connect { .. })));
    assert_eq!((run.tries(), run.counted()), (2, vec!["connect 1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn only_reads_are_repeated() {
    for (method, tries) in [
        (Method::GET, 3),
        (Method::HEAD, 3),
        (Method::OPTIONS, 3),
        (Method::POST, 1),
        (Method::PUT, 1),
        (Method::DELETE, 1),
    ] {
        let request = UpstreamRequest { method: method.clone(), ..request() };
        let run = run_with(&vec![Act::Broken; 9], Retry::default(), request).await;
        assert_eq!(run.tries(), tries, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_repeated_after_the_pause_that_it_asks_for() {
    let two = Duration::from_secs(2);
    let rows: [Act; 6] = [
        Act::Status(429, &[("retry-after", "2")], ""),
        Act::Status(503, &[("retry-after", "2")], ""),
        Act::Status(500, &[("retry-after", "2")], BLOCKED),
        Act::Status(500, &[("retry-after", "2")], EXCEEDED),
        Act::Status(500, &[("retry-after", "2")], "Maximum waiter thread limit 500 is reached"),
        Act::Status(429, &[("retry-after", "Fri, 15 Jan 2027 08:00:02 GMT")], ""),
    ];
    for (row, act) in rows.into_iter().enumerate() {
        // More refusals than tries of a failure: the service said that it will answer.
        let run = run(&vec![act; 5]).await;
        assert_eq!(run.outcome.unwrap(), 200, "row {row}");
        let times: Vec<_> = run.script.tries.lock().iter().map(|(at, _)| *at).collect();
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        assert!(pauses.iter().all(|pause| *pause >= two && *pause <= two + FAILURE_PAUSE * 2), "{pauses:?}");
        assert_eq!(run.script.tries.lock().len(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn no_pause_is_begun_that_ends_after_the_deadline() {
    let hour = run(&[Act::Status(429, &[("retry-after", "3600")], "full")]).await;
    assert_eq!((hour.outcome.unwrap(), &hour.body[..], hour.took), (429, &b"full"[..], Duration::ZERO));

    let second = Duration::from_secs(1);
    let own = UpstreamRequest { deadline: Some(Instant::now() + 5 * second), ..request() };
    for (request, most) in [(request(), Retry::default().deadline), (own, 5 * second)] {
        let refusals = vec![Act::Status(503, &[], "full"); 99];
        let run = run_with(&refusals, Retry::default(), request).await;
        assert_eq!(run.outcome.unwrap(), 503);
        assert!(run.took < most && run.took + 2 * LONGEST_PAUSE > most, "{:?} of {most:?}", run.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_without_an_answer_ends_at_the_deadline_and_a_first_try_only_at_its_own() {
    let late = |run: &Run| matches!(run.outcome, Err(UpstreamError::Timeout { phase: Phase::Deadline, .. }));
    let repeat = run(&[Act::Broken, Act::Hangs]).await;
    assert!(late(&repeat) && repeat.took == Retry::default().deadline, "{:?}", repeat.took);

    let own = Duration::from_secs(7);
    let request = UpstreamRequest { deadline: Some(Instant::now() + own), ..request() };
    let first = run_with(&[Act::Hangs], Retry::default(), request).await;
    assert!(late(&first) && first.took == own, "{:?}", first.took);
    let patient = tokio::time::timeout(Duration::from_secs(3600), run(&[Act::Hangs])).await;
    assert!(patient.is_err(), "the configured deadline is for repeats");
}

#[tokio::test(start_paused = true)]
async fn repeats_can_be_turned_off() {
    let off = Retry { attempts: 1, ..Retry::default() };
    for act in [Act::Broken, Act::Refused, Act::Status(429, &[("retry-after", "1")], "")] {
        assert_eq!(run_with(&[act], off, request()).await.tries(), 1);
    }
}

#[test]
fn pauses_grow_to_their_limit_and_are_random_over_their_range() {
    let failure = Setback { reason: Reason::Broken, asked: None };
    let refusal = Setback { reason: Reason::Refusal, asked: None };
    let pauses = |setback, fraction| {
        let mut course = Course::new(7);
        (0..6)
            .filter_map(|_| course.pause(setback, fraction))
            .map(|pause| pause.as_millis())
            .collect::<Vec<_>>()
    };
    assert_eq!(pauses(failure, 1.0), [200, 400, 800, 1600, 3200, 6400]);
    assert_eq!(pauses(failure, 0.5), [100, 200, 400, 800, 1600, 3200]);
    assert_eq!(pauses(failure, 0.0), [0; 6]);
    assert_eq!(pauses(refusal, 1.0), [1000, 2000, 4000, 8000, 8000, 8000]);
    assert_eq!(pauses(refusal, 0.0), [500, 1000, 2000, 4000, 4000, 4000]);
    assert_eq!(range(FAILURE_PAUSE, usize::MAX), LONGEST_PAUSE);
}
