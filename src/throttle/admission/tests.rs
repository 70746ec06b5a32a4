//! Budgets and queue together, driven by hand.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn admission(limits: Limits) -> Admission {
    Admission::new(limits)
}

fn order(client: u64, now: Instant) -> Order {
    Order {
        class: Class::Api,
        work: Work::Metadata,
        identity: Identity::new(1),
        client: Client::new(client),
        priority: Priority::Document,
        deadline: now + 60 * SECOND,
    }
}

fn refusal(scope: Scope, resource: Resource) -> Signal {
    let retry_after = Some(2 * SECOND);
    Signal { kind: SignalKind::Refused, retry_after, scope, resource, ..Signal::default() }
}

/// Lets one request of `identity` go and answers it with `signal`.
fn exchange(admission: &mut Admission, identity: u64, signal: &Signal, now: Instant) {
    let order = Order { identity: Identity::new(identity), ..order(identity, now) };
    admission.enqueue(&order, now).unwrap();
    let (_, mut grant) = admission.pump(now).granted.pop().unwrap();
    admission.observe(&mut grant, signal, now);
    admission.release(&grant);
}

fn goes(admission: &mut Admission, identity: u64, now: Instant) -> bool {
    let order = Order { identity: Identity::new(identity), ..order(identity, now) };
    let ticket = admission.enqueue(&order, now).unwrap();
    let mut granted = admission.pump(now).granted;
    admission.leave(ticket, ShedReason::Abandoned);
    for (_, grant) in &mut granted {
        admission.release(grant);
    }
    granted.iter().any(|(other, _)| *other == ticket)
}

#[test]
fn whom_a_refusal_makes_wait_is_what_it_names() {
    let check = |scope, resource, others: [bool; 2]| {
        let (mut admission, now) = (admission(Limits::default()), Instant::now());
        exchange(&mut admission, 1, &refusal(scope, resource), now);
        assert!(!goes(&mut admission, 1, now));
        let waits = [goes(&mut admission, 2, now), goes(&mut admission, 2, now + 2 * SECOND)];
        assert_eq!(waits, others, "{scope:?} {resource:?}");
    };
    check(Scope::Identity, Resource::Usage, [true, true]);
    check(Scope::Identity, Resource::Concurrency, [true, true]);
    check(Scope::Address, Resource::Concurrency, [false, true]);
    check(Scope::Identity, Resource::Unknown, [false, true]);
}

#[test]
fn an_unnamed_pause_is_short_for_those_it_may_not_be_about() {
    let (mut admission, now) = (admission(Limits::default()), Instant::now());
    let long = Signal { retry_after: Some(60 * SECOND), ..refusal(Scope::Identity, Resource::Unknown) };
    exchange(&mut admission, 1, &long, now);
    assert!(!goes(&mut admission, 2, now + 4 * SECOND));
    assert!(goes(&mut admission, 2, now + SHARED_PAUSE));
}

#[test]
fn a_request_that_has_no_hope_is_refused_at_once() {
    let limits = Limits { queue_length: 4, api_burst: 1, ..Limits::default() };
    let (mut admission, now) = (admission(limits), Instant::now());
    exchange(&mut admission, 1, &refusal(Scope::Identity, Resource::Usage), now);
    let hurried = Order { deadline: now + SECOND, ..order(1, now) };
    assert_eq!(admission.enqueue(&hurried, now), Err(ShedReason::Paused));
    let background = Order { priority: Priority::Refresh, ..order(9, now) };
    for client in [1, 1, 2] {
        assert!(admission.enqueue(&order(client, now), now).is_ok());
    }
    assert_eq!(admission.enqueue(&order(1, now), now), Err(ShedReason::Full), "half of it for one client");
    assert_eq!(admission.enqueue(&background, now), Err(ShedReason::Full), "half of it for background");
    assert!(admission.enqueue(&order(3, now), now).is_ok());
    assert_eq!(admission.enqueue(&order(4, now), now), Err(ShedReason::Full));
    let shed = admission.snapshot(now).counters.shed_for[Class::Api as usize];
    assert_eq!(shed, [3, 1, 0, 0, 0]);
}

#[test]
fn a_backlog_longer_than_the_deadline_is_refused_once_the_rate_is_known() {
    let (mut admission, mut now) = (admission(Limits::default()), Instant::now());
    let ask = |admission: &mut Admission, now| {
        admission.enqueue(&Order { deadline: now + SECOND, ..order(1, now) }, now)
    };
    (0..100).for_each(|_| assert!(ask(&mut admission, now).is_ok()));
    now += 2 * SECOND;
    while !admission.pump(now).granted.is_empty() {}
    exchange(&mut admission, 1, &refusal(Scope::Identity, Resource::Usage), now);
    now += 2 * SECOND;
    let fitting = (0..100).take_while(|_| ask(&mut admission, now).is_ok()).count();
    assert_eq!(fitting, 55);
    assert_eq!(ask(&mut admission, now), Err(ShedReason::Backlog));
}

#[test]
fn a_pause_sheds_those_who_cannot_wait_for_its_end() {
    let (mut admission, now) = (admission(Limits { api_burst: 1, ..Limits::default() }), Instant::now());
    let first = admission.enqueue(&order(1, now), now).unwrap();
    let (ticket, mut grant) = admission.pump(now).granted.pop().unwrap();
    assert_eq!(ticket, first);
    let hurried = admission.enqueue(&Order { deadline: now + SECOND, ..order(1, now) }, now).unwrap();
    let patient = admission.enqueue(&order(1, now), now).unwrap();
    admission.observe(&mut grant, &refusal(Scope::Address, Resource::Usage), now);
    admission.release(&grant);
    let pumped = admission.pump(now);
    assert_eq!(pumped.shed, [(hurried, ShedReason::Paused)]);
    assert_eq!(pumped.wake_at, Some(now + 2 * SECOND));
    assert_eq!(admission.pump(now + 2 * SECOND).granted[0].0, patient);
    assert_eq!(admission.snapshot(now).counters.absorbed[Class::Api as usize], 2 * SECOND);
}

#[test]
fn nobody_is_let_go_after_the_deadline() {
    let (mut admission, now) = (admission(Limits { api_in_flight: 0, ..Limits::default() }), Instant::now());
    let late = Order { class: Class::Blob, deadline: now + SECOND, ..order(1, now) };
    let ticket = admission.enqueue(&late, now).unwrap();
    let pumped = admission.pump(now + SECOND);
    assert_eq!((pumped.granted.len(), pumped.shed), (0, vec![(ticket, ShedReason::Late)]));
}

#[test]
fn work_that_nobody_waits_for_leaves_half_of_the_room_to_clients() {
    let (mut admission, now) = (admission(Limits::default()), Instant::now());
    let background = Order { priority: Priority::WarmUp, ..order(1, now) };
    for _ in 0..20 {
        admission.enqueue(&background, now).unwrap();
    }
    let pumped = admission.pump(now);
    assert_eq!((pumped.granted.len(), pumped.wake_at), (4, Some(now + BACKGROUND_LOOK)));
    assert!(admission.is_tight(Class::Api, Identity::new(1), now));
    assert!(goes(&mut admission, 1, now));
}

#[test]
fn blob_hosts_have_their_own_budget_and_bytes_their_own_pace() {
    let limits = Limits { blob_bytes_per_second: Some(1000), api_in_flight: 0, ..Limits::default() };
    let (mut admission, now) = (admission(limits), Instant::now());
    assert!(!goes(&mut admission, 1, now));
    let blob = Order { class: Class::Blob, ..order(1, now) };
    for _ in 0..8 {
        admission.enqueue(&blob, now).unwrap();
    }
    assert_eq!(admission.pump(now).granted.len(), 8, "all that is in flight at first");
    assert_eq!(admission.received(990, now), None);
    let until = admission.received(1010, now).unwrap();
    assert!(until > now + SECOND * 9 / 10 && until < now + SECOND * 11 / 10);
}

#[test]
fn a_blob_host_that_refuses_waits_alone_and_what_all_have_in_flight_stays_bounded() {
    let limits = Limits { blob_in_flight: 10, ..Limits::default() };
    let (mut admission, now) = (admission(limits), Instant::now());
    let of = |host: u64| Order { class: Class::Blob, identity: Identity::new(host), ..order(host, now) };
    let answer = |admission: &mut Admission, host, signal: &Signal| {
        admission.enqueue(&of(host), now).unwrap();
        let (_, mut grant) = admission.pump(now).granted.pop().unwrap();
        admission.observe(&mut grant, signal, now);
        admission.release(&grant);
    };
    let unnamed = refusal(Scope::Identity, Resource::Unknown);
    for (host, signal) in [(1, &unnamed), (2, &refusal(Scope::Address, Resource::Usage)), (3, &unnamed)] {
        answer(&mut admission, host, signal);
        assert_eq!(admission.pause_left(Class::Blob, Identity::new(host), now), 2 * SECOND);
    }
    for host in [1, 4] {
        admission.enqueue(&of(host), now).unwrap();
    }
    let granted = admission.pump(now).granted;
    assert_eq!(granted.iter().map(|(_, grant)| grant.lane.identity).collect::<Vec<_>>(), [Identity::new(4)]);
    assert!(goes(&mut admission, 1, now), "the API hosts go on");
    for host in 5..35 {
        admission.enqueue(&of(host), now).unwrap();
    }
    assert_eq!(admission.pump(now).granted.len(), 7, "with the one before all that is in flight at first");
    let snapshot = admission.snapshot(now);
    let blob = Class::Blob as usize;
    assert_eq!((snapshot.paused[blob], snapshot.gate[blob].pause_left), (3, Duration::ZERO));
}

#[test]
fn the_table_of_identities_is_bounded_and_keeps_those_in_use() {
    let (mut admission, mut now) = (admission(Limits { identities: 8, ..Limits::default() }), Instant::now());
    let long = Signal { retry_after: Some(60 * SECOND), ..refusal(Scope::Identity, Resource::Usage) };
    exchange(&mut admission, 1, &long, now);
    for identity in 2..100 {
        now += Duration::from_millis(100);
        exchange(&mut admission, identity, &Signal::default(), now);
    }
    assert!(admission.identities[Class::Api as usize].len() <= 8);
    assert!(!goes(&mut admission, 1, now), "a pause is not forgotten");
}

#[test]
fn what_slows_down_and_recovers_is_noted_with_its_reason() {
    let (mut admission, mut now) = (admission(Limits::default()), Instant::now());
    let refusal = refusal(Scope::Identity, Resource::Usage);
    exchange(&mut admission, 1, &refusal, now);
    let notes = admission.take_notes();
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].identity, &notes[0].signal), (Some(Identity::new(1)), &refusal));
    for _ in 0..40 {
        now += 2 * SECOND;
        exchange(&mut admission, 1, &Signal::default(), now);
    }
    let changes: Vec<_> = admission.take_notes().into_iter().flat_map(|note| note.changes).collect();
    assert_eq!(changes, [Change::Recovered]);
}
