//! Breakers around a scripted upstream, on a clock that stands still until something waits.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::time::advance;

use http::StatusCode;

use super::*;
use crate::upstream::{Phase, body};
use crate::{
    config::Server,
    redact::SignedUrl,
    throttle::{Asker, Client, Priority},
};

/// Plays its script, and then answers 200; counts what reaches it.
#[derive(Clone, Default)]
struct Script {
    acts: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<Mutex<usize>>,
}

#[derive(Clone, Debug)]
enum Act {
    Refused,
    Reset,
    Silent,
    Hangs,
    Status(u16, Option<(&'static str, &'static str)>, &'static str),
}

fn asker() -> Asker {
    Asker::always(Client::new(1), Priority::Document)
}

struct Scene {
    script: Script,
    breaks: Breaks,
    upstream: Barred<Breaking<Script>>,
    registry: Registry,
}

const BLOCKED: &str = "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace";

#[async_trait]
impl Upstream for Script {
    async fn fetch(&self, _request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        *self.asked.lock() += 1;
        let (host, reason) = ("h".to_owned(), "r".to_owned());
        let act = self.acts.lock().pop_front();
        match act.unwrap_or(Act::Status(200, None, "")) {
            Act::Refused => Err(UpstreamError::Connect { host, reason }),
            Act::Reset => Err(UpstreamError::Broken { host, reason }),
            Act::Silent => Err(UpstreamError::Timeout { host, phase: Phase::FirstByte }),
            Act::Hangs => std::future::pending().await,
            Act::Status(status, header, body) => {
                let mut headers = HeaderMap::new();
                headers.extend(header.map(|(name, value)| {
                    (http::HeaderName::from_static(name), HeaderValue::from_static(value))
                }));
                let body = Box::new(body::ReadAhead::whole(Bytes::from_static(body.as_bytes())));
                let status = StatusCode::from_u16(status).unwrap();
                Ok(UpstreamResponse { status, reason: None, headers, body })
            }
        }
    }
}

impl Scene {
    fn new(outage: &Outage) -> Self {
        let (script, registry) = (Script::default(), Registry::new());
        let url = "https://tfs.example.com/tfs/Own".parse().unwrap();
        let servers = vec![Server { collection: name("own"), url }];
        let settings = Settings { servers, ..Settings::default() };
        let breaks = Breaks::new(&settings, outage, &registry).unwrap();
        let upstream = Barred::new(Breaking::new(script.clone(), breaks.clone()), breaks.clone());
        Self { script, breaks, upstream, registry }
    }

    /// Told at once, not held.
    fn abrupt() -> Self {
        Self::new(&Outage { hold: Duration::ZERO, ..Outage::default() })
    }

    fn play(&self, acts: impl IntoIterator<Item = Act>) {
        *self.script.acts.lock() = acts.into_iter().collect();
    }

    async fn get(&self, target: &Target) -> Result<u16, UpstreamError> {
        let answer = self.upstream.fetch(&UpstreamRequest::get(target.clone(), asker())).await;
        answer.map(|response| response.status.as_u16())
    }

    async fn is_dead(&self, target: &Target) -> bool {
        let before = *self.script.asked.lock();
        let dead = matches!(self.get(target).await, Err(UpstreamError::Dead { .. }));
        assert_eq!(dead, *self.script.asked.lock() == before, "a dead host costs no socket");
        dead
    }

    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let samples = families.iter().filter(|family| family.get_name() == name);
        let samples = samples.flat_map(prometheus::proto::MetricFamily::get_metric);
        let of = samples.filter(|sample| {
            labels.iter().all(|label| sample.get_label().iter().any(|pair| pair.get_value() == *label))
        });
        of.map(|sample| sample.get_counter().get_value() + sample.get_gauge().get_value()).sum()
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn place(service: Service, org: &str, path: &str) -> Target {
    Target::Service { service, org: name(org), path: path.to_owned() }
}

fn pkgs(path: &str) -> Target {
    place(Service::Pkgs, "contoso", path)
}

fn blob(host: &str) -> Target {
    Target::Blob(SignedUrl::new(
        format!("https://{host}vsblobprod1.blob.core.windows.net/b-1/x?sig=s").parse().unwrap(),
    ))
}

/// Whether the host is dead after every one of `acts`, each for another document.
async fn check(acts: &[Act], dead: bool) {
    let scene = Scene::abrupt();
    scene.play(acts.to_vec());
    for number in 0..acts.len() {
        drop(scene.get(&pkgs(&format!("/{number}"))).await);
    }
    scene.play([]);
    assert_eq!(scene.is_dead(&pkgs("/x")).await, dead, "{acts:?}");
    let opened = scene.metric("feedgate_breaker_transitions_total", &["pkgs", "open"]);
    assert_eq!(opened > 0.5, dead, "{acts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_host_does_kills_it_and_what_it_says_of_load_does_not() {
    use Act::{Refused, Reset, Silent, Status};
    let fine = Status(200, None, "");
    for act in
        [Refused, Reset, Silent, Status(500, None, "oops"), Status(502, None, ""), Status(503, None, "")]
    {
        check(&[act.clone(), act.clone()], false).await;
        check(&[act.clone(), act.clone(), act.clone()], true).await;
        check(&[act.clone(), act.clone(), fine.clone(), act.clone(), act.clone()], false).await;
    }
    for act in [
        Status(429, None, ""),
        Status(503, Some(("retry-after", "2")), ""),
        Status(500, None, BLOCKED),
        Status(404, None, ""),
        Status(401, None, ""),
        Status(501, None, ""),
    ] {
        check(&vec![act; 10], false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_document_that_fails_again_and_again_says_nothing_of_the_others() {
    for (act, dead) in [(Act::Silent, false), (Act::Status(500, None, ""), false), (Act::Refused, true)] {
        let scene = Scene::abrupt();
        scene.play(vec![act.clone(); 10]);
        for _ in 0..10 {
            drop(scene.get(&pkgs("/slow")).await);
        }
        scene.play([]);
        assert_eq!(scene.is_dead(&pkgs("/x")).await, dead, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn organisations_on_one_host_share_its_breaker_and_other_hosts_have_theirs() {
    let scene = Scene::abrupt();
    let own = place(Service::Pkgs, "own", "/x");
    for (dead, alive) in [
        (pkgs("/x"), vec![own.clone(), place(Service::Feeds, "contoso", "/x"), blob("a")]),
        (blob("a"), vec![blob("b"), own.clone()]),
        (own.clone(), vec![blob("b"), place(Service::Feeds, "fabrikam", "/x")]),
    ] {
        scene.play(vec![Act::Refused; 3]);
        for _ in 0..3 {
            drop(scene.get(&dead).await);
        }
        assert!(scene.is_dead(&dead).await);
        for alive in alive {
            assert!(!scene.is_dead(&alive).await, "{alive:?}");
        }
    }
    assert!(scene.is_dead(&place(Service::Pkgs, "fabrikam", "/y")).await);
    assert!(scene.is_dead(&place(Service::Feeds, "own", "/y")).await, "a server has one host");
    assert!(scene.breaks.is_dead(Service::Pkgs, &name("fabrikam")));
    assert!(
        scene.breaks.is_dead_host("pkgs.dev.azure.com") && !scene.breaks.is_dead_host("feeds.dev.azure.com")
    );
    let states =
        ["pkgs", "feeds", "blob", "server"].map(|class| scene.metric("feedgate_breaker_state", &[class]));
    assert_eq!(states.map(|state| state.to_string()), ["2", "0", "2", "2"]);
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_finds_out_that_the_host_is_back() {
    let scene = Scene::abrupt();
    scene.play([Act::Refused, Act::Refused, Act::Refused, Act::Hangs]);
    for _ in 0..3 {
        drop(scene.get(&pkgs("/x")).await);
    }
    advance(Duration::from_secs(2)).await;
    let (target, x) = (pkgs("/probe"), pkgs("/x"));
    let mut probe = Box::pin(scene.get(&target));
    assert!(futures::poll!(&mut probe).is_pending());
    tokio::task::yield_now().await;
    assert!(scene.is_dead(&x).await, "the probe is under way");
    drop(probe);
    assert!(scene.is_dead(&x).await, "it goes on without its client");
    advance(BreakerLimits::default().probe_patience).await;
    assert_eq!(scene.get(&x).await.unwrap(), 200, "after that long it makes room");
    assert_eq!(scene.metric("feedgate_breaker_state", &["pkgs"]).to_string(), "1");
    advance(BreakerLimits::default().probe_patience).await;
    assert_eq!(scene.get(&x).await.unwrap(), 200);
    assert_eq!(scene.metric("feedgate_breaker_state", &["pkgs"]).to_string(), "0");
    for (to, times) in [("open", "1"), ("half_open", "1"), ("closed", "1")] {
        let told = scene.metric("feedgate_breaker_transitions_total", &["pkgs", to]);
        assert_eq!(told.to_string(), times, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_moment_without_the_host_is_waited_for_and_a_longer_one_told_at_once() {
    let outage =
        Outage { hold: Duration::from_secs(2), open: Duration::from_millis(400), ..Outage::default() };
    for (refusals, answered) in [(3, true), (4, true), (30, false)] {
        let scene = Scene::new(&outage);
        scene.play(vec![Act::Refused; refusals]);
        let start = Instant::now();
        let x = pkgs("/x");
        for _ in 0..2 {
            assert!(matches!(scene.get(&x).await, Err(UpstreamError::Connect { .. })));
        }
        let waiting = futures::future::join_all((0..20).map(|_| scene.get(&x))).await;
        assert_eq!(waiting.iter().all(Result::is_ok), answered, "{refusals}: {waiting:?}");
        assert!(start.elapsed() <= outage.hold + Duration::from_millis(1), "{:?}", start.elapsed());
        if !answered {
            let told = Instant::now();
            assert!(scene.is_dead(&x).await);
            assert_eq!(told.elapsed(), Duration::ZERO);
            assert!(*scene.script.asked.lock() < 10, "few looks, not one for each request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_permit_when_the_host_dies_costs_no_socket() {
    let scene = Scene::abrupt();
    scene.play(vec![Act::Refused; 3]);
    for _ in 0..3 {
        drop(scene.get(&pkgs("/x")).await);
    }
    let inner = &scene.upstream.inner;
    let late = inner.fetch(&UpstreamRequest::get(pkgs("/late"), asker())).await;
    assert!(matches!(late, Err(UpstreamError::Dead { host }) if host == "pkgs.dev.azure.com"));
    assert_eq!(*scene.script.asked.lock(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_that_nobody_asks_for_is_forgotten_when_the_metrics_are_read() {
    let scene = Scene::abrupt();
    scene.play(vec![Act::Refused; 3]);
    for _ in 0..3 {
        drop(scene.get(&pkgs("/x")).await);
    }
    let state = || scene.metric("feedgate_breaker_state", &["pkgs"]).to_string();
    advance(Duration::from_secs(60)).await;
    assert_eq!(state(), "2", "nobody knows better yet");
    advance(Duration::from_secs(300)).await;
    assert_eq!(state(), "0");
    assert!(scene.breaks.list().is_empty());
    assert!(scene.breaks.shared.state.lock().trouble.is_empty());
}
