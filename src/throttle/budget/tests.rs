//! One budget, driven by hand.

use proptest::prelude::*;

use super::*;
use crate::throttle::{Scope, Told};

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> BudgetLimits {
    let rate = RateLimits { safe: 55.0, most: 2000.0, burst: 8.0 };
    let longest_pause = Duration::from_secs(300);
    BudgetLimits { in_flight: 32, rate: Some(rate), metadata: None, downloads: None, longest_pause }
}

fn budget() -> Budget {
    Budget::new(limits())
}

fn refusal(retry_after: Option<u64>) -> Signal {
    let retry_after = retry_after.map(Duration::from_secs);
    Signal { kind: SignalKind::Refused, retry_after, ..Signal::default() }
}

fn slow(retry_after: u64) -> Signal {
    Signal { kind: SignalKind::Slow, ..refusal(Some(retry_after)) }
}

/// Sends one request and answers it at once.
fn exchange(budget: &mut Budget, signal: &Signal, now: Instant) -> Vec<Change> {
    assert_eq!(budget.ready(Work::Metadata, now), Ready::Now);
    let mut pass = budget.take(Work::Metadata, now);
    let changes = budget.observe(&mut pass, signal, now);
    budget.give_back(pass);
    changes
}

/// Takes whatever may leave now.
fn take_all(budget: &mut Budget, now: Instant) -> Vec<Pass> {
    let mut passes = Vec::new();
    while budget.ready(Work::Metadata, now) == Ready::Now {
        passes.push(budget.take(Work::Metadata, now));
    }
    passes
}

#[test]
fn a_refusal_pauses_and_the_way_back_begins_with_one() {
    let (mut budget, mut now) = (budget(), Instant::now());
    let changes = exchange(&mut budget, &refusal(Some(2)), now);
    assert!(changes.contains(&Change::Paused(2 * SECOND)), "{changes:?}");
    assert_eq!(budget.ready(Work::Metadata, now), Ready::At(now + 2 * SECOND));
    now += 2 * SECOND;
    let mut probes = take_all(&mut budget, now);
    assert_eq!(probes.len(), 1);
    now += SECOND;
    assert_eq!(take_all(&mut budget, now).len(), 0, "the probe is not answered yet");
    budget.observe(&mut probes[0], &Signal::default(), now);
    budget.give_back(probes[0]);
    // Two may be in flight now; how fast they leave is the rate's business.
    assert_eq!(take_all(&mut budget, now).len(), 1);
    assert_eq!(take_all(&mut budget, now + SECOND).len(), 1);
    assert_eq!(take_all(&mut budget, now + 2 * SECOND).len(), 0);
}

#[test]
fn a_burst_is_paid_off_at_the_safe_rate_but_for_no_longer_than_the_service_says_again() {
    let answer = |budget: &mut Budget, signal: &Signal, now| {
        let mut pass = budget.take(Work::Metadata, now);
        budget.observe(&mut pass, signal, now);
        budget.give_back(pass);
        budget.paused_until(now).map(|until| (until - now).as_secs_f64())
    };
    for (accepted, told, waits) in [(110, 1, 2.0), (110, 3, 3.0), (165, 2, 3.0), (1100, 2, 4.0)] {
        let (mut budget, now) = (budget(), Instant::now());
        for _ in 0..accepted {
            answer(&mut budget, &Signal::default(), now);
        }
        let waited = answer(&mut budget, &refusal(Some(told)), now);
        assert_eq!(waited, Some(waits), "{accepted} accepted at once, told {told}");
        // What is refused from now on is no burst.
        let waited = answer(&mut budget, &refusal(Some(1)), now + 4 * SECOND);
        assert_eq!(waited, Some(1.0));
    }
}

#[test]
fn a_probe_that_is_never_answered_does_not_hold_everything_back() {
    let (mut budget, mut now) = (budget(), Instant::now());
    exchange(&mut budget, &refusal(Some(2)), now);
    now += 2 * SECOND;
    assert_eq!(take_all(&mut budget, now).len(), 1);
    assert_eq!(budget.ready(Work::Metadata, now), Ready::At(now + PROBE_PATIENCE));
    assert_eq!(take_all(&mut budget, now + PROBE_PATIENCE).len(), 1);
}

#[test]
fn one_burst_of_refusals_lowers_a_limit_once() {
    let (mut budget, now) = (budget(), Instant::now());
    let mut passes = take_all(&mut budget, now);
    assert_eq!(passes.len(), 8);
    let slowed: Vec<_> =
        passes.iter_mut().map(|pass| budget.observe(pass, &refusal(Some(2)), now).len()).collect();
    assert_eq!(slowed[1..], [0; 7], "only the first is news");
    assert_eq!(budget.figures(now).in_flight_limit, 5);
}

#[test]
fn probes_that_are_refused_prolong_the_spell_and_lower_nothing() {
    let (mut budget, mut now) = (budget(), Instant::now());
    exchange(&mut budget, &refusal(None), now);
    let before = (budget.figures(now).in_flight_limit, budget.figures(now).rate_limit);
    for pause in [1, 2, 4, 4, 4] {
        assert_eq!(budget.ready(Work::Metadata, now), Ready::At(now + pause * SECOND));
        now += pause * SECOND;
        exchange(&mut budget, &refusal(None), now);
    }
    assert_eq!((budget.figures(now).in_flight_limit, budget.figures(now).rate_limit), before);
}

#[test]
fn named_resources_lower_their_own_limit_only() {
    let check = |resource, in_flight: usize, rate: f64| {
        let (mut budget, now) = (budget(), Instant::now());
        let mut passes = take_all(&mut budget, now);
        let signal = Signal { resource, scope: Scope::Identity, ..refusal(Some(1)) };
        budget.observe(passes.last_mut().unwrap(), &signal, now);
        let figures = budget.figures(now);
        assert_eq!((figures.in_flight_limit, figures.rate_limit), (in_flight, Some(rate)), "{resource:?}");
        assert_eq!(figures.pause_left, SECOND);
    };
    check(Resource::Concurrency, 6, 55.0);
    check(Resource::Usage, 8, 55.0);
    check(Resource::Unknown, 6, 55.0);
}

#[test]
fn trouble_of_the_service_is_not_remembered() {
    let (mut budget, mut now) = (budget(), Instant::now());
    let overloaded = Signal { kind: SignalKind::Overloaded, ..refusal(None) };
    exchange(&mut budget, &overloaded, now);
    assert_eq!(budget.known_rate(), None);
    assert_eq!(budget.ready(Work::Metadata, now), Ready::At(now + SECOND));
    now += SECOND;
    exchange(&mut budget, &Signal::default(), now);
    assert_eq!(budget.ready(Work::Metadata, now), Ready::Now);
}

#[test]
fn a_wish_to_slow_down_is_kept_though_the_request_was_served() {
    let (mut budget, now) = (budget(), Instant::now());
    let changes = exchange(&mut budget, &slow(3), now);
    assert_eq!(budget.ready(Work::Metadata, now), Ready::At(now + 3 * SECOND));
    let slowed =
        |change: &Change| matches!(change, Change::Slowed { limit: LimitName::Rate, to } if *to < 50.0);
    assert!(changes.iter().any(slowed), "{changes:?}");
}

/// Answers with `signal`, one at a time as fast as the budget lets and `trip` allows, for `seconds`; the requests.
fn answered_so(budget: &mut Budget, signal: &Signal, now: &mut Instant, trip: u64, seconds: u64) -> u32 {
    let (end, mut answered) = (*now + Duration::from_secs(seconds), 0);
    while *now < end {
        match budget.ready(Work::Metadata, *now) {
            Ready::Now => {
                let mut pass = budget.take(Work::Metadata, *now);
                *now += Duration::from_millis(trip);
                budget.observe(&mut pass, signal, *now);
                budget.give_back(pass);
                answered += 1;
            }
            Ready::At(at) => *now = at,
            Ready::Full => panic!("nothing is in flight"),
        }
    }
    answered
}

fn delayed(seconds: f64) -> Signal {
    Signal { kind: SignalKind::Slow, delay: Some(Duration::from_secs_f64(seconds)), ..Signal::default() }
}

#[test]
fn wishes_lower_the_rate_once_in_a_while_and_never_far_below_what_is_served() {
    let (mut budget, mut now) = (budget(), Instant::now());
    let answered = answered_so(&mut budget, &delayed(0.001), &mut now, 20, 30);
    let rate = budget.figures(now).rate_limit.unwrap();
    assert!(rate > 30.0 && answered > 1000, "{rate}/s after {answered}");
    // What stands in the way of growth is over a few seconds after the last wish.
    let recovered = answered_so(&mut budget, &Signal::default(), &mut now, 20, 60);
    assert!(recovered > 2200, "{recovered} in a minute");
}

#[test]
fn no_pause_is_longer_than_configured() {
    let (mut budget, now) = (budget(), Instant::now());
    exchange(&mut budget, &refusal(Some(3600)), now);
    assert_eq!(budget.figures(now).pause_left, Duration::from_secs(300));
}

#[test]
fn what_the_service_says_is_left_slows_down_before_it_refuses() {
    let (mut budget, now) = (budget(), Instant::now());
    let told = |remaining| Signal {
        told: Some(Told { remaining, limit: Some(200.0), reset_in: Some(Duration::from_secs(100)) }),
        ..Signal::default()
    };
    for remaining in [101.0, 100.0] {
        budget.hear(&told(remaining), now);
        exchange(&mut budget, &told(remaining), now);
    }
    // 100 units at one each for 100 s, and 5 in 100 kept back.
    assert_eq!(budget.figures(now).rate_limit.map(|rate| (rate * 100.0).round()), Some(95.0));
    assert!(budget.is_tight(now));
    let later = now + Duration::from_secs(100);
    assert_eq!(budget.figures(later).rate_limit, Some(55.0));
    assert!(!budget.is_tight(later));
}

#[test]
fn kinds_of_work_can_have_a_pace_of_their_own() {
    let metadata = Some(Pace { per_second: 1.0, burst: 2.0 });
    let (mut budget, now) = (Budget::new(BudgetLimits { metadata, ..limits() }), Instant::now());
    assert_eq!(take_all(&mut budget, now).len(), 2);
    assert_eq!(budget.ready(Work::Download, now), Ready::Now);
}

#[test]
fn a_limit_of_zero_lets_nothing_through() {
    let mut budget = Budget::new(BudgetLimits { in_flight: 0, ..limits() });
    assert_eq!(budget.ready(Work::Metadata, Instant::now()), Ready::Full);
}

#[test]
fn a_long_rest_makes_everything_learned_void() {
    let (mut budget, mut now) = (budget(), Instant::now());
    exchange(&mut budget, &refusal(Some(2)), now);
    assert!(budget.known_rate().is_some());
    now += REST;
    assert!(budget.is_idle(now));
    exchange(&mut budget, &Signal::default(), now);
    assert_eq!(budget.known_rate(), None);
}

/// What the world does to a budget.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Take,
    Answer(usize, SignalKind, Option<u64>, Resource),
    Lose(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(SignalKind::ALL.to_vec());
    let resource = prop::sample::select(vec![Resource::Unknown, Resource::Concurrency, Resource::Usage]);
    let answer = (0_usize..40, kind, prop::option::of(0_u64..20), resource);
    let step = prop_oneof![
        3 => (0_u64..3000).prop_map(Step::Pass),
        6 => Just(Step::Take),
        4 => answer.prop_map(|(which, kind, wait, resource)| Step::Answer(which, kind, wait, resource)),
        1 => (0_usize..40).prop_map(Step::Lose),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wishes_leave_most_of_what_was_served(
        spells in prop::collection::vec((5_u64..200, 1_u64..40, any::<bool>()), 1..12),
    ) {
        let (mut budget, mut now) = (budget(), Instant::now());
        for (trip, seconds, wishes) in spells {
            let signal = if wishes { delayed(0.5) } else { Signal::default() };
            let (before, start) = (budget.figures(now).rate_limit.unwrap(), now);
            let answered = f64::from(answered_so(&mut budget, &signal, &mut now, trip, seconds));
            let served = answered / (now - start).as_secs_f64();
            let after = budget.figures(now).rate_limit.unwrap();
            // One wish in ten seconds, the first at once.
            let wishes = f64::from(u8::try_from(seconds / 10 + 1).unwrap());
            prop_assert!(after >= before * 0.85_f64.powf(wishes) - 1e-6, "{before} fell to {after} in {seconds} s");
            if seconds >= 30 {
                prop_assert!(after >= 0.7 * served, "{after} where {served} were served");
            }
        }
    }

    #[test]
    fn it_never_passes_its_limits_and_always_comes_back(steps in steps()) {
        const MOST: f64 = 20.0;
        const BURST: f64 = 4.0;
        let rate = Some(RateLimits { safe: 5.0, most: MOST, burst: BURST });
        let mut budget = Budget::new(BudgetLimits { rate, in_flight: 12, ..limits() });
        let start = Instant::now();
        let (mut now, mut passes, mut pause, mut taken) = (start, Vec::new(), start, 0.0);
        for step in steps {
            match step {
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Take if budget.ready(Work::Metadata, now) == Ready::Now => {
                    prop_assert!(now >= pause, "sent inside a pause");
                    passes.push(budget.take(Work::Metadata, now));
                    taken += 1.0;
                    prop_assert!(passes.len() <= 12, "above the cap");
                    let most = BURST + 1.0 + MOST * (now - start).as_secs_f64();
                    prop_assert!(taken <= most, "{taken} of at most {most}");
                }
                Step::Answer(which, kind, wait, resource) if which < passes.len() => {
                    let mut pass = passes.swap_remove(which);
                    let signal = Signal { kind, resource, ..refusal(wait) };
                    budget.observe(&mut pass, &signal, now);
                    budget.give_back(pass);
                    if !matches!(kind, SignalKind::Fine | SignalKind::Failed) {
                        pause = pause.max(now + Duration::from_secs(wait.unwrap_or_default()));
                    }
                }
                Step::Lose(which) if which < passes.len() => budget.give_back(passes.swap_remove(which)),
                _ => {}
            }
            prop_assert_eq!(budget.figures(now).in_flight, passes.len());
        }
        for pass in passes {
            budget.give_back(pass);
        }
        let recovered =
            |budget: &Budget, now| budget.phase == Phase::Open && budget.figures(now).rate_limit == Some(MOST);
        let end = now + 3 * 3600 * SECOND;
        while now < end && !recovered(&budget, now) {
            now += Duration::from_millis(250);
            for mut pass in take_all(&mut budget, now) {
                budget.observe(&mut pass, &Signal::default(), now);
                budget.give_back(pass);
            }
        }
        prop_assert!(recovered(&budget, now), "{budget:?}");
    }
}
