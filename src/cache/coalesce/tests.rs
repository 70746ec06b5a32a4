//! Flights: joined, left, lingering, dead; and how those who wait count in the throttle's queue.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::FutureExt as _;
use tokio::{sync::Notify, task::JoinHandle};

use super::{Coalescer, Flown, Landing};
use crate::throttle::{
    Ask, Class, Client, Identity, Interest, Limits, Permit, Priority, ShedReason, Throttle,
};

#[tokio::test]
async fn all_who_ask_meanwhile_get_the_one_result() {
    let coalescer = Arc::new(Coalescer::<usize>::default());
    let (gate, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let ask = || {
        let (coalescer, gate, runs) = (coalescer.clone(), gate.clone(), runs.clone());
        tokio::spawn(async move {
            let work = |_| async move {
                gate.notified().await;
                Landing::now(runs.fetch_add(1, Ordering::SeqCst))
            };
            coalescer.run("key", Priority::Document, work).await
        })
    };
    let asked: Vec<_> = (0..50).map(|_| ask()).collect();
    while !coalescer.in_flight("key") {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    let mut joined = 0;
    for task in asked {
        let (value, was_joined) = task.await.unwrap();
        assert_eq!(value, Some(0));
        joined += usize::from(was_joined);
    }
    assert_eq!((joined, runs.load(Ordering::SeqCst)), (49, 1));
    assert_eq!(coalescer.flown(), Flown { started: 1, joined: 49, in_flight: 0 });
    assert!(!coalescer.in_flight("key"));
}

#[tokio::test]
async fn a_flight_goes_on_when_its_starter_leaves() {
    let coalescer = Coalescer::<u8>::default();
    let gate = Arc::new(Notify::new());
    let inner = gate.clone();
    let started = coalescer.run("key", Priority::Document, |_| async move {
        inner.notified().await;
        Landing::now(7)
    });
    assert!(started.now_or_never().is_none());
    gate.notify_one();
    let (value, joined) = coalescer.run("key", Priority::Document, |_| async { Landing::now(8) }).await;
    assert_eq!((value, joined), (Some(7), true));
}

#[tokio::test]
async fn a_lingering_value_can_be_joined_until_it_is_over() {
    let coalescer = Coalescer::<u8>::default();
    let gate = Arc::new(Notify::new());
    let inner = gate.clone();
    let linger = async move { inner.notified().await }.boxed();
    let work = |_| async { Landing { value: 1, linger: Some(linger) } };
    assert_eq!(coalescer.run("key", Priority::Document, work).await, (Some(1), false));
    assert_eq!(
        coalescer.run("key", Priority::Document, |_| async { Landing::now(2) }).await,
        (Some(1), true)
    );
    gate.notify_one();
    while coalescer.in_flight("key") {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        coalescer.run("key", Priority::Document, |_| async { Landing::now(3) }).await,
        (Some(3), false)
    );
}

#[tokio::test]
async fn a_flight_that_dies_frees_its_key() {
    let coalescer = Coalescer::<u8>::default();
    let dying = |_| async {
        let none = std::env::args().find(|argument| argument == "no such argument");
        Landing::now(none.map(|_| 1).unwrap())
    };
    assert_eq!(coalescer.run("key", Priority::Document, dying).await.0, None);
    assert_eq!(coalescer.run("key", Priority::Document, |_| async { Landing::now(2) }).await.0, Some(2));
}

/// Flights that each want a permit of a throttle with a single one, and say whether they got it.
struct Scene {
    throttle: Throttle,
    coalescer: Arc<Coalescer<Result<(), ShedReason>>>,
}

type Answer = (Option<Result<(), ShedReason>>, bool);

impl Scene {
    fn new() -> Self {
        let rate = 1_000_000.0;
        let limits = Limits { api_in_flight: 1, api_rate: rate, api_rate_most: rate, ..Limits::default() };
        Self { throttle: Throttle::new(&limits), coalescer: Arc::default() }
    }

    fn ask(interest: Interest) -> Ask {
        Ask { interest, ..Ask::document(Identity::new(1), Client::new(1)) }
    }

    async fn hold(&self) -> Permit {
        self.throttle.acquire(&Self::ask(Interest::always(Priority::Document))).await.unwrap()
    }

    async fn fly(throttle: Throttle, interest: Interest) -> Landing<Result<(), ShedReason>> {
        let permit = throttle.acquire(&Self::ask(interest)).await;
        Landing::now(permit.map(drop).map_err(|error| error.reason))
    }

    fn wait(&self, key: &'static str, priority: Priority) -> JoinHandle<Answer> {
        let (throttle, coalescer) = (self.throttle.clone(), Arc::clone(&self.coalescer));
        tokio::spawn(
            async move { coalescer.run(key, priority, |interest| Self::fly(throttle, interest)).await },
        )
    }

    fn queued(&self) -> [usize; 4] {
        self.throttle.snapshot().queued[Class::Api as usize]
    }

    /// Lets the other tasks go on until the queue looks like this.
    async fn until_queued(&self, expected: [usize; 4]) {
        for _ in 0..1000 {
            if self.queued() == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(self.queued(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_leaves_the_queue_with_the_last_who_waits_for_it() {
    let scene = Scene::new();
    let held = scene.hold().await;
    let (one, other) = (scene.wait("key", Priority::Document), scene.wait("key", Priority::Package));
    scene.until_queued([1, 0, 0, 0]).await;
    one.abort();
    scene.until_queued([0, 1, 0, 0]).await;
    other.abort();
    scene.until_queued([0; 4]).await;
    while scene.coalescer.in_flight("key") {
        tokio::task::yield_now().await;
    }
    drop(held);
    let counters = scene.throttle.snapshot().counters;
    assert_eq!(counters.granted[Class::Api as usize], [1, 0, 0, 0], "only what the test itself held");
    assert_eq!(counters.shed_for[Class::Api as usize][ShedReason::Abandoned as usize], 1);
    assert_eq!(scene.wait("key", Priority::Document).await.unwrap(), (Some(Ok(())), false));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_waits_without_clients_and_goes_up_with_the_first_who_joins() {
    let scene = Scene::new();
    let held = scene.hold().await;
    let throttle = scene.throttle.clone();
    scene.coalescer.start("key", Priority::Refresh, |interest| Scene::fly(throttle, interest));
    scene.until_queued([0, 0, 1, 0]).await;
    let joined = scene.wait("key", Priority::Document);
    scene.until_queued([1, 0, 0, 0]).await;
    joined.abort();
    scene.until_queued([0, 0, 1, 0]).await;
    let joined = scene.wait("key", Priority::Package);
    scene.until_queued([0, 1, 0, 0]).await;
    drop(held);
    assert_eq!(joined.await.unwrap(), (Some(Ok(())), true));
}

#[tokio::test(start_paused = true)]
async fn what_a_flight_needs_first_counts_as_those_who_wait_for_the_flight() {
    let scene = Scene::new();
    let held = scene.hold().await;
    let waiters = Interest::default();
    let first = waiters.join(Priority::Document);
    let (throttle, coalescer, of) = (scene.throttle.clone(), Arc::clone(&scene.coalescer), waiters.clone());
    let needed = tokio::spawn(async move {
        coalescer.run_for("key", &of, |interest| Scene::fly(throttle, interest)).await
    });
    scene.until_queued([1, 0, 0, 0]).await;
    let second = waiters.join(Priority::Package);
    drop(first);
    scene.until_queued([0, 1, 0, 0]).await;
    drop(second);
    scene.until_queued([0; 4]).await;
    assert_eq!(needed.await.unwrap(), (Some(Err(ShedReason::Abandoned)), false));
    drop(held);
}
