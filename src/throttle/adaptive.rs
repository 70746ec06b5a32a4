//! A limit that is found out: it grows while nothing refuses, and remembers what was refused.
//!
//! The arithmetic of additive increase and multiplicative decrease, with a memory, because a limit that is met
//! at every climb is a refusal at every climb:
//!
//! ```text
//!  value                        refused (the ceiling)            past it by a fifth: forgotten
//!    │            ╱╳- - - - - - - - - - - - - - - - - - - - - - -╱- -
//!    │   doubles ╱ │                                 ___---'''‾‾   creeps
//!    │          ╱  │                            __--'  climbs below nine tenths of it
//!    │ start __╱   └── safe, proven ──────────-'
//!    └──────────────────── hold ──────────────▶ used time
//! ```
//!
//! Only *used* time counts (time in which the limit held something back), so a quiet night proves nothing.

use std::time::Duration;

use tokio::time::Instant;

/// While nothing was ever refused, the rate doubles in this time: from 55/s to some 800/s within two seconds.
const DOUBLING: f64 = 0.5;
/// Used time without any growth after the first refusal; doubled by each further one.
const FIRST_HOLD: Duration = Duration::from_secs(120);
/// The longest hold.
const LONGEST_HOLD: Duration = Duration::from_secs(30 * 60);
/// After trouble of the service that says nothing on what this gate may do.
const TROUBLE_HOLD: Duration = Duration::from_secs(1);
/// What a wish to slow down leaves, used time without growth after it, and time in which it is the only one: each of
/// the answers that come at a rate may carry the same wish.
const EASE: f64 = 0.85;
const WISH_HOLD: Duration = Duration::from_secs(10);
/// Below this share of what was refused, a value is taken for another one.
const BELOW: f64 = 0.97;
/// Growth per second up to [`NEAR`] the ceiling.
const CLIMB: f64 = 1.02;
/// Growth per second from there on.
const CREEP: f64 = 1.002;
/// Share of the ceiling from which growth is slow.
const NEAR: f64 = 0.9;
/// How far past the ceiling it is forgotten.
const FORGET: f64 = 1.2;
/// Used time after which a value counts as proven.
const PROOF: Duration = Duration::from_secs(30);
/// Longest gap between two steps that counts as used time.
const LONGEST_STEP: Duration = Duration::from_millis(250);

/// Bounds of an [`Adaptive`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Value at first, and after a long rest.
    pub start: f64,
    /// It never falls below.
    pub floor: f64,
    /// It never grows above.
    pub cap: f64,
    /// Value after the first refusal of something larger; what is known of services in general.
    pub safe: f64,
    /// What a refusal leaves of a value of which nothing better is known.
    pub decrease: f64,
}

/// How a value grows while nothing was ever refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Doubling with time: for rates.
    Doubling,
    /// By one for each good answer, which doubles it per round trip: for requests in flight.
    Counting,
}

/// A limit that is found out.
#[derive(Debug, Clone)]
pub struct Adaptive {
    bounds: Bounds,
    growth: Growth,
    value: f64,
    ceiling: Option<f64>,
    proven: Option<f64>,
    candidate: f64,
    candidate_for: Duration,
    hold: Duration,
    hold_left: Duration,
    stepped: Option<Instant>,
    eased: Option<Instant>,
}

// === impl Adaptive ===

impl Adaptive {
    /// A limit of which nothing is known.
    pub fn new(bounds: Bounds, growth: Growth) -> Self {
        let value = bounds.start.clamp(bounds.floor, bounds.cap);
        Self {
            bounds,
            growth,
            value,
            ceiling: None,
            proven: None,
            candidate: value,
            candidate_for: Duration::ZERO,
            hold: FIRST_HOLD,
            hold_left: Duration::ZERO,
            stepped: None,
            eased: None,
        }
    }

    /// The limit now.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// What was refused, while it is remembered.
    pub fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// A good answer came while this limit held something back: grows, if it is time.
    pub fn grow(&mut self, now: Instant) {
        let step = self.stepped.map_or(Duration::ZERO, |last| now.duration_since(last)).min(LONGEST_STEP);
        self.stepped = Some(now);
        self.prove(step);
        if self.hold_left > Duration::ZERO {
            self.hold_left = self.hold_left.saturating_sub(step);
            return;
        }
        let seconds = step.as_secs_f64();
        let grown = match (self.ceiling, self.growth) {
            (None, Growth::Doubling) => self.value * (seconds / DOUBLING).exp2(),
            (None, Growth::Counting) => self.value + 1.0,
            (Some(ceiling), _) if self.value < NEAR * ceiling => {
                (self.value * CLIMB.powf(seconds)).min(NEAR * ceiling)
            }
            (Some(_), _) => self.value * CREEP.powf(seconds),
        };
        self.value = grown.clamp(self.bounds.floor, self.bounds.cap);
        // At the cap there is nothing left to learn, so the memory has no use any more either.
        if self.ceiling.is_some_and(|ceiling| self.value > FORGET * ceiling || self.value >= self.bounds.cap)
        {
            self.ceiling = None;
            self.hold = FIRST_HOLD;
        }
    }

    /// The service refused `used`; true if that lowered the limit.
    ///
    /// Until the first refusal requests may leave in bursts, so a safe value that is refused then is kept: it
    /// was the burst, or else the next refusal will tell.
    pub fn refuse(&mut self, used: f64, now: Instant) -> bool {
        let before = self.value;
        let used = used.min(self.value);
        self.proven = self.proven.filter(|proven| *proven < BELOW * used);
        let target = match self.proven {
            Some(proven) => proven,
            None if self.ceiling.is_none() && used >= BELOW * self.bounds.safe => self.bounds.safe,
            None => used * self.bounds.decrease,
        };
        self.ceiling = Some(used);
        self.hold_left = self.hold;
        self.hold = (self.hold * 2).min(LONGEST_HOLD);
        self.restart(target.min(before), now);
        self.value < before
    }

    /// The service served what was asked and wished for less: falls a little, though not below `served` (what is known
    /// to be served all the same), and holds for a while.
    pub fn ease(&mut self, served: Option<f64>, now: Instant) -> bool {
        if self.eased.is_some_and(|eased| now.duration_since(eased) < WISH_HOLD) {
            return false;
        }
        let before = self.value;
        self.eased = Some(now);
        self.ceiling = Some(before);
        self.hold_left = self.hold_left.max(WISH_HOLD);
        self.restart((before * EASE).max(served.unwrap_or_default().min(before)), now);
        self.value < before
    }

    /// The service is in trouble, through nobody's fault: falls by half and comes back soon.
    pub fn trouble(&mut self, now: Instant) -> bool {
        if self.ceiling.is_some() {
            return false;
        }
        let before = self.value;
        self.hold_left = TROUBLE_HOLD;
        self.restart((before / 2.0).max(self.bounds.start.min(before)), now);
        self.value < before
    }

    /// The service was seen to allow `evidence`: a limit below it that came from a first guess is raised.
    pub fn raise_to(&mut self, evidence: f64) {
        let most = self.ceiling.map_or(self.bounds.cap, |ceiling| ceiling * self.bounds.decrease);
        self.value = self.value.max(evidence.min(most)).clamp(self.bounds.floor, self.bounds.cap);
    }

    /// Nobody asked for long: as new, since whatever was learned may be different by now.
    pub fn forget(&mut self) {
        *self = Self::new(self.bounds, self.growth);
    }

    fn restart(&mut self, value: f64, now: Instant) {
        self.value = value.clamp(self.bounds.floor, self.bounds.cap);
        self.candidate = self.value;
        self.candidate_for = Duration::ZERO;
        self.stepped = Some(now);
    }

    fn prove(&mut self, step: Duration) {
        self.candidate_for += step;
        if self.candidate_for >= PROOF {
            self.proven = Some(self.candidate);
            self.candidate = self.value;
            self.candidate_for = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Bounds = Bounds { start: 55.0, floor: 1.0, cap: 2000.0, safe: 55.0, decrease: 0.7 };

    fn rate() -> Adaptive {
        Adaptive::new(RATE, Growth::Doubling)
    }

    /// Good answers every 10 ms for `seconds`, all of them wanted.
    fn use_for(limit: &mut Adaptive, now: &mut Instant, seconds: u64) {
        for _ in 0..seconds * 100 {
            *now += Duration::from_millis(10);
            limit.grow(*now);
        }
    }

    #[test]
    fn an_unrefused_rate_is_in_the_hundreds_after_two_seconds() {
        let (mut limit, mut now) = (rate(), Instant::now());
        use_for(&mut limit, &mut now, 2);
        assert!(limit.value() > 700.0, "{}", limit.value());
    }

    #[test]
    fn the_first_refusal_falls_to_the_safe_value_and_stays_there_for_minutes() {
        let (mut limit, mut now) = (rate(), Instant::now());
        use_for(&mut limit, &mut now, 1);
        assert!(limit.refuse(limit.value(), now));
        use_for(&mut limit, &mut now, 119);
        assert!((limit.value() - 55.0).abs() < 1e-9, "{}", limit.value());
    }

    #[test]
    fn a_second_refusal_falls_back_to_what_was_proven_and_holds_longer() {
        let (mut limit, mut now) = (rate(), Instant::now());
        use_for(&mut limit, &mut now, 1);
        limit.refuse(limit.value(), now);
        use_for(&mut limit, &mut now, 130);
        assert!(limit.value() > 60.0);
        limit.refuse(limit.value(), now);
        assert!((limit.value() - 55.0).abs() < 1e-9, "{}", limit.value());
        use_for(&mut limit, &mut now, 239);
        assert!((limit.value() - 55.0).abs() < 1e-9, "{}", limit.value());
    }

    #[test]
    fn refusals_of_what_was_proven_lower_it_further() {
        let (mut limit, mut now) = (rate(), Instant::now());
        assert!(!limit.refuse(55.0, now), "the burst may have been the cause");
        assert!(limit.refuse(55.0, now));
        assert!((limit.value() - 38.5).abs() < 1e-9);
        use_for(&mut limit, &mut now, 60);
        limit.refuse(38.5, now);
        assert!(limit.value() < 27.0);
    }

    #[test]
    fn unused_time_proves_nothing() {
        let (mut limit, mut now) = (rate(), Instant::now());
        limit.refuse(55.0, now);
        let low = limit.value();
        for _ in 0..10 {
            now += Duration::from_secs(600);
            limit.grow(now);
        }
        assert!((limit.value() - low).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn it_stays_in_bounds_and_always_comes_back(steps in prop::collection::vec((0_u8..5, 0_u64..40), 0..60)) {
            let (mut limit, mut now) = (rate(), Instant::now());
            for (what, seconds) in steps {
                match what {
                    0 => drop(limit.refuse(limit.value(), now)),
                    1 => drop(limit.trouble(now)),
                    2 => limit.raise_to(100.0),
                    3 => drop(limit.ease(Some(90.0), now)),
                    _ => use_for(&mut limit, &mut now, seconds),
                }
                prop_assert!((RATE.floor..=RATE.cap).contains(&limit.value()));
            }
            for _ in 0..3 * 3600 * 4 {
                now += LONGEST_STEP;
                limit.grow(now);
            }
            prop_assert!(limit.value() >= RATE.cap, "{limit:?}");
        }
    }
}
