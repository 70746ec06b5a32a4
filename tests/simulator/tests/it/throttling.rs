//! Quotas in all their forms.

use std::time::Duration;

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Listener, Pace, Simulator, Throttle, ThrottleForm};

use super::common::start;

async fn read(simulator: &Simulator) -> Response {
    client::get(&format!("{}left-pad", simulator.npm_url("contoso/open")), &[]).await.unwrap()
}

#[tokio::test]
async fn a_window_lets_so_many_through_and_announces_what_is_left() {
    let simulator = start().await;
    simulator.throttle(Throttle::window(2, Duration::from_secs(3600)).retry_after(7).announced());
    let remaining = |response: &Response| response.header("x-ratelimit-remaining").unwrap().to_owned();
    let first = read(&simulator).await;
    assert_eq!((first.status, remaining(&first)), (200, "1".to_owned()));
    assert_eq!(first.header("retry-after"), None);
    assert_eq!(read(&simulator).await.status, 200);
    let refused = read(&simulator).await;
    assert_eq!((refused.status, remaining(&refused)), (429, "0".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("7"));
    assert_eq!(refused.header("x-ratelimit-limit"), Some("2"));
    assert!(
        refused.reason.contains("Request was blocked due to exceeding usage of resource"),
        "{}",
        refused.reason
    );
    assert_eq!(refused.json()["typeKey"], "RequestBlockedException");
    simulator.clear_throttles();
    assert_eq!(read(&simulator).await.status, 200);
}

#[tokio::test]
async fn a_window_ends() {
    let simulator = start().await;
    simulator.throttle(Throttle::window(1, Duration::from_millis(1)));
    assert_eq!(read(&simulator).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(read(&simulator).await.status, 200);
}

#[tokio::test]
async fn concurrency_is_limited_and_refused_in_the_chosen_form() {
    let rows = [
        (ThrottleForm::TooManyRequests, 429, "TF400733"),
        (ThrottleForm::InternalError, 500, "resource 'Concurrency' in namespace 'IPAddress'"),
        (ThrottleForm::Unavailable, 503, "The service is unavailable."),
    ];
    for (form, status, text) in rows {
        let simulator = start().await;
        simulator.set_pace(Listener::Pkgs, Pace::latency(Duration::from_millis(100)));
        simulator.throttle(Throttle::concurrency(1).form(form).on(Listener::Pkgs));
        let (first, second) = tokio::join!(read(&simulator), read(&simulator));
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, status]);
        let refused = if first.status == 200 { second } else { first };
        assert!(refused.text().contains(text), "{}", refused.text());
        assert_eq!(read(&simulator).await.status, 200, "the permit was given back");
    }
}

#[tokio::test]
async fn a_late_answer_says_so_with_retry_after_on_200() {
    let simulator = start().await;
    let throttle = Throttle::window(10, Duration::from_secs(60)).delayed_from(2, Duration::from_millis(30));
    simulator.throttle(throttle.retry_after(1));
    assert_eq!(read(&simulator).await.header("retry-after"), None);
    let began = tokio::time::Instant::now();
    let late = read(&simulator).await;
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!((late.status, late.header("retry-after")), (200, Some("1")));
    assert_eq!(late.header("x-ratelimit-delay"), Some("0.030"));
    assert_eq!(late.header("x-ratelimit-remaining"), Some("0"));
}

#[tokio::test]
async fn a_throttle_watches_only_what_it_is_told_to() {
    let simulator = start().await;
    simulator.throttle(Throttle::window(0, Duration::from_secs(60)).on(Listener::Blob));
    simulator.throttle(Throttle::window(0, Duration::from_secs(60)).organisation("fabrikam"));
    assert_eq!(read(&simulator).await.status, 200);
    simulator.throttle(Throttle::window(0, Duration::from_secs(60)).organisation("CONTOSO"));
    assert_eq!(read(&simulator).await.status, 429);
}

#[tokio::test]
async fn a_rate_lets_a_burst_through_and_then_as_many_as_it_says() {
    let simulator = start().await;
    simulator.throttle(Throttle::rate(20, 2).retry_after(3));
    for status in [200, 200, 429] {
        assert_eq!(read(&simulator).await.status, status);
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(read(&simulator).await.status, 200);
    let log = simulator.requests();
    assert_eq!(log[2].retry_after, Some(Duration::from_secs(3)));
    let strain = feedgate_simulator::Strain::of(&log);
    assert_eq!((strain.requests, strain.refused.len(), strain.inside_retry_after), (4, 1, 1));
}
