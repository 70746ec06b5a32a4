//! The service's throttling (facts §7): quotas that delay, announce and refuse.
//!
//! Windows are fixed, not sliding, rates are token buckets, and both are counted per throttle rather than per identity: a test says which door or
//! organisation a throttle watches, and needs to know when the next window opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::log::{Listener, Logged};
use crate::service::error;
use crate::service::reply::{Reply, Text};

/// A quota.
#[derive(Clone, Debug)]
pub struct Throttle {
    quota: Quota,
    listener: Option<Listener>,
    organisation: Option<String>,
    form: ThrottleForm,
    retry_after: Option<u64>,
    announced: bool,
    address: bool,
    delay: Option<(usize, Duration)>,
}

/// How a refusal looks (facts §7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThrottleForm {
    /// 429 with the TF400733 text.
    #[default]
    TooManyRequests,
    /// 500 with the quota text: the form that needs its message read.
    InternalError,
    /// 503, as from the service's circuit breaker.
    Unavailable,
}

/// What the throttles say about a request. Dropping it ends the request in their eyes.
#[derive(Default)]
pub(crate) struct Admission {
    pub(crate) refusal: Option<Reply>,
    pub(crate) headers: Vec<(Text, Text)>,
    pub(crate) delay: Duration,
    permits: Vec<Permit>,
}

/// The throttles in force.
#[derive(Default)]
pub(crate) struct Throttles(Mutex<Vec<Meter>>);

#[derive(Clone, Copy, Debug)]
enum Quota {
    Window { requests: usize, period: Duration },
    Rate { per_second: usize, burst: usize },
    Concurrency(usize),
}

struct Meter {
    throttle: Throttle,
    in_flight: Arc<AtomicUsize>,
    window_began: Instant,
    counted: usize,
    tokens: f64,
    refilled: Instant,
}

struct Permit(Arc<AtomicUsize>);

// === impl Throttle ===

impl Throttle {
    /// At most so many requests per period; the periods follow each other from the first request on.
    pub fn window(requests: usize, period: Duration) -> Self {
        Self::new(Quota::Window { requests, period })
    }

    /// So many requests per second in the long run, and `burst` at once after a rest. What is refused is not counted.
    pub fn rate(per_second: usize, burst: usize) -> Self {
        Self::new(Quota::Rate { per_second, burst })
    }

    /// At most so many requests at once, until their bodies are sent.
    pub fn concurrency(requests: usize) -> Self {
        Self::new(Quota::Concurrency(requests))
    }

    fn new(quota: Quota) -> Self {
        let form = ThrottleForm::default();
        Self {
            quota,
            listener: None,
            organisation: None,
            form,
            retry_after: None,
            announced: false,
            address: false,
            delay: None,
        }
    }

    /// Watches one door only.
    pub fn on(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Watches one organisation only (by its name in the path or the host).
    pub fn organisation(mut self, name: &str) -> Self {
        self.organisation = Some(name.to_owned());
        self
    }

    /// How refusals look.
    pub fn form(mut self, form: ThrottleForm) -> Self {
        self.form = form;
        self
    }

    /// Refusals and delayed answers carry `Retry-After` with so many seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Admitted answers carry the `X-RateLimit-*` headers, too.
    pub fn announced(mut self) -> Self {
        self.announced = true;
        self
    }

    /// Refusals name the namespace of addresses, not that of identities: everybody behind one address is counted.
    pub fn of_address(mut self) -> Self {
        self.address = true;
        self
    }

    /// From the n-th request of a window (or the n-th at once) on, answers are late by `delay` and say so: 200 with
    /// `Retry-After` (facts §0.8).
    pub fn delayed_from(mut self, request: usize, delay: Duration) -> Self {
        self.delay = Some((request, delay));
        self
    }

    fn watches(&self, request: &Logged) -> bool {
        let organisation = |name: &String| {
            let in_path = request.path.split('/').nth(1).is_some_and(|own| own.eq_ignore_ascii_case(name));
            let host = request.header("host").unwrap_or_default().to_ascii_lowercase();
            in_path || host.split('.').next() == Some(name.to_ascii_lowercase().as_str())
        };
        self.listener.is_none_or(|own| own == request.listener)
            && self.organisation.as_ref().is_none_or(organisation)
    }

    fn resource(&self) -> (&'static str, &'static str) {
        match self.quota {
            Quota::Window { .. } | Quota::Rate { .. } if self.address => ("Requests", "IPAddress"),
            Quota::Window { .. } | Quota::Rate { .. } => ("Requests", "VSID"),
            Quota::Concurrency(_) => ("Concurrency", "IPAddress"),
        }
    }

    fn refusal(&self) -> Reply {
        let (resource, namespace) = self.resource();
        let text = format!(
            "Request was blocked due to exceeding usage of resource '{resource}' in namespace '{namespace}'."
        );
        let (status, message) = match self.form {
            ThrottleForm::TooManyRequests => {
                (429, format!("TF400733: The request has been canceled: {text}"))
            }
            ThrottleForm::InternalError => (500, text),
            ThrottleForm::Unavailable => (503, "The service is unavailable.".to_owned()),
        };
        let body = error::body(&message, "RequestBlockedException");
        let phrase = format!("{} - {message}", crate::service::reply::reason(status));
        Reply::new(status, "application/json; charset=utf-8", body).reason(phrase)
    }
}

// === impl Throttles ===

impl Throttles {
    pub(crate) fn add(&self, throttle: Throttle) {
        self.0.lock().push(Meter::new(throttle));
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Asks every throttle that watches the request; the first refusal stands.
    pub(crate) fn admit(&self, request: &Logged) -> Admission {
        let mut admission = Admission::default();
        let mut meters = self.0.lock();
        for meter in meters.iter_mut().filter(|meter| meter.throttle.watches(request)) {
            meter.admit(&mut admission);
            if admission.refusal.is_some() {
                break;
            }
        }
        admission
    }
}

// === impl Meter ===

impl Meter {
    #[expect(clippy::cast_precision_loss, reason = "bursts are small")]
    fn new(throttle: Throttle) -> Self {
        let now = Instant::now();
        let tokens = if let Quota::Rate { burst, .. } = throttle.quota { burst as f64 } else { 0.0 };
        Self { throttle, in_flight: Arc::default(), window_began: now, counted: 0, tokens, refilled: now }
    }

    fn admit(&mut self, admission: &mut Admission) {
        let (limit, used) = match self.throttle.quota {
            Quota::Window { requests, period } => (requests, self.count_in_window(period)),
            Quota::Rate { per_second, burst } => (burst, self.draw(per_second, burst)),
            Quota::Concurrency(limit) => (limit, self.in_flight.fetch_add(1, Ordering::SeqCst) + 1),
        };
        // A refused request leaves at once; its permit goes with the admission.
        admission.permits.push(Permit(Arc::clone(&self.in_flight)));
        if !matches!(self.throttle.quota, Quota::Concurrency(_)) {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
        }
        let remaining = limit.saturating_sub(used);
        let refused = used > limit;
        let delay = self.throttle.delay.filter(|(from, _)| !refused && used >= *from).map(|(_, delay)| delay);
        if refused {
            admission.refusal = Some(self.throttle.refusal());
        }
        if refused || delay.is_some() {
            let seconds = self.throttle.retry_after.map(|seconds| seconds.to_string());
            admission.headers.extend(seconds.map(|seconds| ("Retry-After".into(), seconds.into())));
        }
        if let Some(delay) = delay {
            admission.delay += delay;
            let seconds = format!("{:.3}", delay.as_secs_f64());
            admission.headers.push(("X-RateLimit-Delay".into(), seconds.into()));
        }
        if refused || delay.is_some() || self.throttle.announced {
            self.announce(limit, if delay.is_some() { 0 } else { remaining }, admission);
        }
    }

    fn count_in_window(&mut self, period: Duration) -> usize {
        if self.counted == 0 || self.window_began.elapsed() >= period {
            self.window_began = Instant::now();
            self.counted = 0;
        }
        self.counted += 1;
        self.counted
    }

    /// Takes a token if there is one; how many are gone, and one more than there can be if there was none.
    #[expect(clippy::cast_precision_loss, reason = "rates are small")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the burst")]
    fn draw(&mut self, per_second: usize, burst: usize) -> usize {
        let now = Instant::now();
        let came = now.duration_since(self.refilled).as_secs_f64() * per_second as f64;
        self.refilled = now;
        self.tokens = (self.tokens + came).min(burst as f64);
        if self.tokens < 1.0 {
            return burst + 1;
        }
        self.tokens -= 1.0;
        burst - self.tokens as usize
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are small")]
    fn announce(&self, limit: usize, remaining: usize, admission: &mut Admission) {
        let (resource, namespace) = self.throttle.resource();
        let left = match self.throttle.quota {
            Quota::Window { period, .. } => period.saturating_sub(self.window_began.elapsed()),
            Quota::Rate { per_second, burst } => {
                Duration::from_secs_f64((burst as f64 - self.tokens) / per_second as f64)
            }
            Quota::Concurrency(_) => Duration::ZERO,
        };
        let reset = clock::now() + left.as_secs() + u64::from(left.subsec_nanos() > 0);
        admission.headers.extend([
            ("X-RateLimit-Resource".into(), format!("{namespace}/{resource}").into()),
            ("X-RateLimit-Limit".into(), limit.to_string().into()),
            ("X-RateLimit-Remaining".into(), remaining.to_string().into()),
            ("X-RateLimit-Reset".into(), reset.to_string().into()),
        ]);
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
