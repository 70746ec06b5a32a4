//! The service's limits and bad days, in seconds instead of minutes; `benches/throttle.rs` runs the same at full size.

use std::time::Duration;

use crate::shows::{self, FIRST_BYTE, Front};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_two_hundred_clients_is_served_at_the_services_rate_without_a_failure() {
    let figures = shows::burst(Front::Gate, 200, 600).await.unwrap();
    eprintln!("{}", figures.row("burst"));
    assert_eq!((figures.pulled.served, figures.pulled.refused), (600, 0), "{figures:?}");
    let strain = &figures.strain;
    assert_eq!((strain.inside_retry_after, strain.refused_after(2 * SECOND)), (0, 0), "{:?}", strain.refused);
    // The first refusal costs its Retry-After, which weighs more in 10 s than in 50.
    assert!(figures.pulled.seconds <= 1.15 * figures.ideal + 2.0, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_install_under_a_quota_succeeds_in_little_more_than_the_shortest_time() {
    let install = shows::install(Front::Gate, Some(200)).await.unwrap();
    let figures = &install.figures;
    eprintln!("{}", figures.row("install"));
    assert!(install.outcome.success && install.packages == 200, "{}", install.outcome.output());
    assert_eq!(figures.strain.inside_retry_after, 0, "{:?}", figures.strain.refused);
    // What npm does by itself is a good part of so short an install.
    assert!(figures.pulled.seconds <= 1.2 * figures.ideal + 6.0, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_install_beside_a_huge_one_takes_at_most_twice_its_time_alone() {
    let fairness = shows::fairness(600, &[5 * SECOND, 7 * SECOND]).await;
    eprintln!("alone {:.2} s, beside {:.2?} s", fairness.alone, fairness.beside);
    assert_eq!(fairness.failed, 0, "{fairness:?}");
    assert!(fairness.worst(0) <= 2.0, "{fairness:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_fails_while_the_service_blocks_the_address() {
    let blocked = shows::blocked(4 * SECOND).await;
    eprintln!("{} requests meanwhile, recovered after {:?}", blocked.meanwhile, blocked.recovery);
    for (name, outcome) in &blocked.outcomes {
        eprintln!("{name} {:.1} s", outcome.seconds);
        assert!(outcome.success, "{name}: {}", outcome.output());
    }
    assert!(blocked.outcomes.iter().any(|(name, _)| *name == "npm"));
    assert!(
        blocked.strain.refused.len() == blocked.meanwhile && blocked.meanwhile > 0,
        "{:?}",
        blocked.strain
    );
    assert!(blocked.meanwhile <= 12 && blocked.recovery <= 5 * SECOND, "{:?}", blocked.strain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_install_takes_no_longer_while_the_service_is_down_and_a_cold_one_fails_at_once() {
    let seen = shows::outage(80, 1).await;
    let [healthy, refusing, hanging] = seen.medians();
    eprintln!("healthy {healthy:.1} s, refusing {refusing:.1} s, hanging {hanging:.1} s");
    assert_eq!(seen.packages, 80);
    // A second for what else the machine does in so short a time; while it hangs, one first-byte timeout at most.
    let timeout = FIRST_BYTE.as_secs_f64();
    assert!(refusing <= 1.2 * healthy + 1.0 && hanging <= 1.2 * healthy + timeout, "{seen:?}");
    for cold in &seen.cold {
        eprintln!("cold: failed after {:.1} s", cold.seconds);
        assert!(!cold.success && cold.output().contains("the package service is down"), "{cold:?}");
    }
    let [refusing, silent] = [0, 1].map(|trouble| seen.cold[trouble].seconds);
    assert!(refusing < 10.0 && silent < 10.0 + timeout, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hangs_and_no_body_is_wrong_while_the_service_comes_and_goes() {
    let seen = shows::flapping(2 * SECOND, 6).await;
    eprintln!("{seen:?}");
    assert_eq!((seen.wrong, seen.silent), (0, 0), "{seen:?}");
    assert!(seen.in_time(), "{seen:?}");
    assert!(seen.served > 0 && seen.failed > 0, "{seen:?}");
}
