//! The throttle as a whole: its waiting under a paused clock, its arithmetic against model services.

mod model;
mod scenarios;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// One request at a time to the API hosts, without a limit of the rate.
fn throttle() -> Throttle {
    let rate = 1_000_000.0;
    Throttle::new(&Limits { api_in_flight: 1, api_rate: rate, api_rate_most: rate, ..Limits::default() })
}

fn ask() -> Ask {
    Ask::document(Identity::new(1), Client::new(1))
}

fn interested(interest: &Interest) -> Ask {
    Ask { interest: interest.clone(), ..ask() }
}

fn refusal(seconds: u64) -> Signal {
    let retry_after = Some(Duration::from_secs(seconds));
    Signal { kind: SignalKind::Refused, retry_after, resource: Resource::Usage, ..Signal::default() }
}

#[tokio::test(start_paused = true)]
async fn a_full_class_sheds_after_the_wait_and_not_the_other_class() {
    let throttle = throttle();
    let held = throttle.acquire(&ask()).await.unwrap();
    let error = throttle.acquire(&ask()).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Api, ShedReason::Late));
    assert_eq!(error.waited.as_secs(), 60);
    let blob = Ask::package(Class::Blob, Identity::new(1), Client::new(1));
    assert!(throttle.acquire(&blob).await.is_ok());
    drop(held);
    assert!(throttle.acquire(&ask()).await.is_ok());
    assert_eq!(Class::ALL.map(|class| throttle.in_flight(class)), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_is_skipped_and_takes_no_permit_with_it() {
    let throttle = throttle();
    let held = throttle.acquire(&ask()).await.unwrap();
    let (ask, mut waiters) = (ask(), Vec::new());
    for _ in 0..3 {
        let mut waiter = Box::pin(throttle.acquire(&ask));
        assert!(futures::poll!(&mut waiter).is_pending());
        waiters.push(waiter);
    }
    drop(waiters.remove(0));
    assert_eq!(throttle.snapshot().queued[0][0], 2);
    drop(held);
    // The next one has its permit, and goes without ever looking at it.
    drop(waiters.remove(0));
    let permit = waiters.remove(0).await.unwrap();
    assert_eq!((throttle.in_flight(Class::Api), throttle.snapshot().queued[0][0]), (1, 0));
    drop(permit);
    assert_eq!(throttle.in_flight(Class::Api), 0);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_interested_any_more_the_request_leaves_the_queue() {
    let throttle = throttle();
    let held = throttle.acquire(&ask()).await.unwrap();
    let interest = Interest::default();
    assert_eq!(throttle.acquire(&interested(&interest)).await.unwrap_err().reason, ShedReason::Abandoned);
    let (one, other) = (interest.join(Priority::Document), interest.join(Priority::Package));
    let ask = interested(&interest);
    let mut waiter = Box::pin(throttle.acquire(&ask));
    assert!(futures::poll!(&mut waiter).is_pending());
    drop(one);
    assert!(futures::poll!(&mut waiter).is_pending());
    assert_eq!(throttle.snapshot().queued[0], [0, 1, 0, 0], "now with what is left of the interest");
    drop(other);
    assert_eq!(waiter.await.unwrap_err().reason, ShedReason::Abandoned);
    assert_eq!(throttle.snapshot().queued[0], [0; 4]);
    drop(held);
    assert!(throttle.acquire(&self::ask()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_up_in_the_queue_with_whoever_joins_it() {
    let throttle = throttle();
    let held = throttle.acquire(&ask()).await.unwrap();
    let (interest, package) = (Interest::default(), Interest::always(Priority::Package));
    let _refresh = interest.join(Priority::Refresh);
    let (refreshing, packing) = (interested(&interest), interested(&package));
    let mut refresh = Box::pin(throttle.acquire(&refreshing));
    let mut package = Box::pin(throttle.acquire(&packing));
    assert!(futures::poll!(&mut refresh).is_pending() && futures::poll!(&mut package).is_pending());
    let _document = interest.join(Priority::Document);
    assert!(futures::poll!(&mut refresh).is_pending());
    drop(held);
    let first = refresh.await.unwrap();
    assert!(futures::poll!(&mut package).is_pending());
    drop(first);
    assert!(package.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_waited_out_and_what_cannot_wait_is_told_so_at_once() {
    let throttle = throttle();
    let permit = throttle.acquire(&ask()).await.unwrap();
    permit.observe(&refusal(2));
    drop(permit);
    let start = Instant::now();
    let hurried = Ask { deadline: Some(start + SECOND), ..ask() };
    let error = throttle.acquire(&hurried).await.unwrap_err();
    assert_eq!((error.reason, error.waited), (ShedReason::Paused, Duration::ZERO));
    assert_eq!(error.pause_left, 2 * SECOND);
    assert!(throttle.is_tight(Class::Api, Identity::new(1)));
    let permit = throttle.acquire(&ask()).await.unwrap();
    let waited = start.elapsed();
    assert!(waited >= 2 * SECOND && waited < 2 * SECOND + Duration::from_millis(5), "{waited:?}");
    permit.observe(&Signal::default());
    drop(permit);
    let counters = throttle.snapshot().counters;
    assert_eq!((counters.absorbed[0], counters.pauses[0]), (2 * SECOND, 1));
    assert_eq!(counters.signals[0], [1, 0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_leaves_at_the_rate_by_one_timer() {
    let limits = Limits { api_rate: 10.0, api_rate_most: 10.0, api_burst: 1, ..Limits::default() };
    let throttle = Throttle::new(&limits);
    let start = Instant::now();
    let ask_once = || async {
        let permit = throttle.acquire(&ask()).await.unwrap();
        permit.observe(&Signal::default());
    };
    futures::future::join_all((0..101).map(|_| ask_once())).await;
    let took = start.elapsed().as_secs_f64();
    assert!((9.9..10.1).contains(&took), "{took}");
    let snapshot = throttle.snapshot();
    assert_eq!(snapshot.counters.granted[0], [101, 0, 0, 0]);
    assert_eq!(snapshot.gate[0].rate_limit, Some(10.0));
    assert!(snapshot.counters.waited[0][0] > 400 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn bytes_of_blobs_keep_their_pace() {
    let limits = Limits { blob_bytes_per_second: Some(1000), ..Limits::default() };
    let throttle = Throttle::new(&limits);
    let permit =
        throttle.acquire(&Ask::package(Class::Blob, Identity::new(1), Client::new(1))).await.unwrap();
    let start = Instant::now();
    for _ in 0..6 {
        permit.received(500).await;
    }
    let took = start.elapsed().as_secs_f64();
    assert!((1.9..2.1).contains(&took), "3,000 bytes, 1,000 of them at once: {took}");
}

#[tokio::test]
async fn identities_and_clients_are_told_apart() {
    let throttle = throttle();
    let identity =
        |org: &str, credential: Option<&str>| throttle.identity(org, credential.map(str::as_bytes));
    assert_eq!(identity("contoso", Some("a")), identity("contoso", Some("a")));
    assert_ne!(identity("contoso", Some("a")), identity("contoso", Some("b")));
    assert_ne!(identity("contoso", Some("a")), identity("fabrikam", Some("a")));
    assert_ne!(identity("contoso", None), identity("contoso", Some("")));
    assert_ne!(throttle.client(b"a"), throttle.client(b"b"));
}
