//! Whole installs against model services, with the default limits and nothing configured.

use std::time::Duration;

use super::model::{Limit, Load, Model, Outcome, Service};
use crate::throttle::Limits;

fn crowd(clients: u64, each: usize) -> Vec<Load> {
    let load = |client| Load { client, identity: 1, count: each, parallel: 15, start: Duration::ZERO };
    (0..clients).map(load).collect()
}

fn run(service: Service, loads: Vec<Load>) -> Outcome {
    Model::new(Limits::default(), service, loads).run(Duration::from_secs(3600))
}

fn late(outcome: &Outcome) -> usize {
    outcome.refused.iter().filter(|at| **at > Duration::from_secs(2)).count()
}

#[test]
fn two_hundred_clients_at_sixty_a_second_meet_the_limit_once() {
    let services = [
        ("bucket, burst 1", Service::bucket(60.0, 1.0)),
        ("bucket, burst 16", Service::bucket(60.0, 16.0)),
        ("bucket, burst 60", Service::bucket(60.0, 60.0)),
        ("60 in 1 s", Service::window(Duration::from_secs(1), 60)),
    ];
    for (name, limit) in services {
        let outcome = run(Service::new(limit, 16), crowd(200, 15));
        let (end, refused) = (outcome.end().as_secs_f64(), outcome.refused.len());
        println!(
            "(a) {name}: {end:.1} s of 50.0 s ideal, {refused} refusals, {} after 2 s, {} inside a Retry-After",
            late(&outcome),
            outcome.inside
        );
        assert_eq!(outcome.served.len(), 3000);
        assert!(end <= 1.15 * 50.0, "{name}: {end}");
        assert_eq!((late(&outcome), outcome.inside), (0, 0), "{name}: {:?}", outcome.refused);
    }
}

#[test]
fn in_the_long_run_the_limit_is_met_rarely_and_used_well() {
    for (name, limit) in [("burst 1", Service::bucket(60.0, 1.0)), ("burst 60", Service::bucket(60.0, 60.0))]
    {
        let outcome = run(Service::new(limit, 16), crowd(4, 10_000));
        let (end, refused) = (outcome.end().as_secs_f64(), outcome.refused.len());
        println!("long run, {name}: {:.1}/s of 60/s over {end:.0} s, {refused} refusals", 40_000.0 / end);
        assert!(end <= 1.15 * 40_000.0 / 60.0, "{name}: {end}");
        assert!(refused <= 12 && outcome.inside == 0, "{name}: {:?}", outcome.refused);
    }
}

/// The default rate was chosen with 60/s in mind; other services are learned, with a few refusals more.
#[test]
fn services_of_other_speeds_are_learned_too() {
    for rate in [10.0, 20.0, 40.0, 100.0, 300.0] {
        for burst in [1.0, rate / 4.0, rate] {
            let outcome = run(Service::new(Service::bucket(rate, burst), 64), crowd(40, 250));
            let (used, refused) = (10_000.0 / outcome.end().as_secs_f64(), outcome.refused.len());
            println!("{rate}/s, burst {burst}: {used:.1}/s used, {refused} refusals");
            assert!(used >= 0.65 * rate.min(55.0), "{rate}, {burst}: {used}");
            assert!(refused <= 16 && outcome.inside == 0, "{rate}, {burst}: {:?}", outcome.refused);
        }
    }
}

#[test]
fn many_identities_behind_one_address_learn_its_limit_together() {
    let loads = crowd(200, 15).into_iter().map(|load| Load { identity: load.client, ..load }).collect();
    let outcome = run(Service::new(Service::bucket(60.0, 16.0), 16), loads);
    let (end, refused) = (outcome.end().as_secs_f64(), outcome.refused.len());
    println!(
        "200 identities: {end:.1} s of 50.0 s ideal, {refused} refusals, {} after 2 s, {} inside a Retry-After",
        late(&outcome),
        outcome.inside
    );
    assert!(end <= 1.15 * 50.0, "{end}");
    assert_eq!((late(&outcome), outcome.inside), (0, 0), "{:?}", outcome.refused);
}

#[test]
fn a_quota_of_three_hundred_in_five_seconds_costs_little_time() {
    for (clients, each) in [(1, 1200), (40, 30)] {
        let service = Service::new(Service::window(Duration::from_secs(5), 300), 100);
        let outcome = run(service, crowd(clients, each));
        let end = outcome.end().as_secs_f64();
        println!(
            "(b) {clients} clients: {end:.1} s of 20.0 s ideal, {} refusals, {} inside a Retry-After",
            outcome.refused.len(),
            outcome.inside
        );
        assert_eq!(outcome.served.len(), 1200);
        assert!(end <= 1.2 * 20.0, "{end}");
        assert_eq!(outcome.inside, 0);
    }
}

#[test]
fn a_block_of_ten_seconds_is_waited_out_without_a_herd() {
    let mut service = Service::new(Limit::None, 1000);
    let (from, until) = (5.0, 15.0);
    service.blocked = Some((Duration::from_secs_f64(from), Duration::from_secs_f64(until)));
    let outcome = Model::new(Limits::default(), service, crowd(100, 400)).run(Duration::from_secs(60));
    let before = Outcome::count(&outcome.served, from - 1.0, from);
    let meanwhile = Outcome::count(&outcome.sent, from + 0.1, until);
    let first = outcome.served.iter().find(|at| at.as_secs_f64() > until).unwrap().as_secs_f64();
    let herd = Outcome::count(&outcome.sent, until, first);
    let after = Outcome::count(&outcome.served, first + 1.0, first + 2.0);
    println!(
        "(c) {before}/s before, {meanwhile} requests during the block, first answer {:.1} s after it, \
         {herd} sent until then, {after}/s one second later",
        first - until
    );
    assert!(meanwhile <= 6, "{meanwhile}");
    assert!(herd <= 2 && first - until <= 5.0, "{herd} {first}");
    assert!(after * 10 >= before * 8, "{before} before, {after} after");
}

#[test]
fn an_unlimited_service_is_used_in_full_after_a_few_seconds() {
    let mut service = Service::new(Limit::None, 1000);
    service.takes = Duration::from_millis(30);
    let outcome = Model::new(Limits::default(), service, crowd(100, 400)).run(Duration::from_secs(10));
    let rates =
        [1, 2, 3, 4].map(|second| Outcome::count(&outcome.served, f64::from(second - 1), f64::from(second)));
    println!("unlimited, 30 ms: {rates:?} in the first seconds, at most {} in flight", outcome.peak);
    assert!(rates[2] >= 600 && outcome.peak <= 32, "{rates:?}");
}

#[test]
fn a_small_install_beside_a_huge_one_takes_at_most_twice_its_time_alone() {
    let services = [
        ("60/s, burst 16", Service::bucket(60.0, 16.0)),
        ("60/s, burst 60", Service::bucket(60.0, 60.0)),
        ("no limit", Limit::None),
    ];
    for (name, limit) in services {
        for same_identity in [true, false] {
            let small = |start| Load { client: 2, identity: 2, count: 20, parallel: 15, start };
            let huge = Load { client: 1, identity: 1, count: 5000, parallel: 5000, start: Duration::ZERO };
            let small = |start| Load { identity: if same_identity { 1 } else { 2 }, ..small(start) };
            let service = Service::new(limit.clone(), 100);
            let alone = run(service.clone(), vec![small(Duration::ZERO)]);
            let start = Duration::from_secs(4);
            let both = run(service, vec![huge, small(start)]);
            let (alone, both) =
                (alone.finished[&2].as_secs_f64(), both.finished[&2].saturating_sub(start).as_secs_f64());
            println!(
                "(d) {name}, same identity {same_identity}: {alone:.2} s alone, {both:.2} s beside 5,000 requests"
            );
            assert!(both <= 2.0 * alone, "{name}: {both} > 2 × {alone}");
        }
    }
}
