//! How long a peer may be waited for while bytes move, with a rate that it must keep up.
//!
//! A leaky bucket of time: waiting empties it, and each byte that moves fills it by what a byte takes at the lowest
//! rate. Whoever keeps that rate up is never cut off; whoever stalls is, after the bucket's size; and time in which the
//! gate itself does not read or write counts for nobody. Clients are waited for so, and the service.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A second.
const NANOS: u64 = 1_000_000_000;

/// The patience with one direction of a connection.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    most: Duration,
    rate: u64,
    /// Since when nothing moves.
    waiting: Option<Instant>,
    alarm: Alarm,
}

/// A timer that stays set when what is waited for comes: most waits end long before it, and to set one wakes the runtime.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

// === impl Patience ===

impl Patience {
    /// Waits for at most `most`, with `rate` bytes per second to be kept up.
    pub fn new(most: Duration, rate: u64) -> Self {
        Self { left: most, most, rate: rate.max(1), waiting: None, alarm: Alarm::default() }
    }

    /// Begins anew: for another message.
    pub fn refresh(&mut self) {
        self.left = self.most;
        self.waiting = None;
    }

    /// That many bytes moved.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let worth = Duration::from_nanos((bytes as u64).saturating_mul(NANOS) / self.rate);
        self.left = self.left.saturating_add(worth).min(self.most);
    }

    /// What `read` brings, unless the patience is over first. One that was begun before and dropped has cost nothing.
    pub async fn wait<T>(&mut self, read: impl Future<Output = T>) -> Option<T> {
        self.waiting = None;
        let mut read = pin!(read);
        let read = poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => self.poll_over(context).map(|()| None),
        });
        let read = read.await;
        self.moved(0);
        read
    }

    /// Nothing moves at the moment; ready once the patience is over.
    pub fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        self.alarm.poll(context, since + self.left)
    }
}

// === impl Alarm ===

impl Alarm {
    /// Ready at `at`, which may be another time with each call.
    pub fn poll(&mut self, context: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            // One that ends too early is only set anew when it does.
            if sleep.deadline() > at || sleep.is_elapsed() && sleep.deadline() < at {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::{Instant, advance};

    use super::Patience;

    const SECOND: Duration = Duration::from_secs(1);

    async fn stall(patience: &mut Patience) -> Duration {
        let start = Instant::now();
        poll_fn(|context| patience.poll_over(context)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_cut_off_and_the_lowest_rate_never() {
        let mut patience = Patience::new(10 * SECOND, 100);
        assert!((stall(&mut patience).await.as_secs_f64() - 10.0).abs() < 0.01);
        let mut patience = Patience::new(10 * SECOND, 100);
        for _ in 0..100 {
            let wait = tokio::time::timeout(SECOND, stall(&mut patience)).await;
            assert!(wait.is_err(), "cut off in spite of its rate");
            patience.moved(100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_the_rate_uses_the_patience_up() {
        let mut patience = Patience::new(10 * SECOND, 100);
        let mut rounds = 0;
        while tokio::time::timeout(SECOND, stall(&mut patience)).await.is_err() {
            patience.moved(50);
            rounds += 1;
        }
        assert!((17..=20).contains(&rounds), "{rounds}");
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_count_at_any_rate() {
        let mut patience = Patience::new(SECOND, 1 << 20);
        for _ in 0..3000 {
            // 1 KiB a millisecond.
            assert_eq!(patience.wait(tokio::time::sleep(Duration::from_millis(1))).await, Some(()));
            patience.moved(1 << 10);
        }
        assert_eq!(patience.wait(tokio::time::sleep(Duration::from_millis(900))).await, Some(()));
        assert_eq!(patience.wait(tokio::time::sleep(Duration::from_millis(200))).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_dropped_is_not_counted_and_neither_is_what_comes_at_once() {
        let mut patience = Patience::new(10 * SECOND, 100);
        assert!(tokio::time::timeout(SECOND, patience.wait(std::future::pending::<()>())).await.is_err());
        advance(60 * SECOND).await;
        assert_eq!(patience.wait(std::future::ready(())).await, Some(()));
        assert!((stall(&mut patience).await.as_secs_f64() - 10.0).abs() < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_is_nobodys() {
        let mut patience = Patience::new(10 * SECOND, 100);
        for _ in 0..5 {
            patience.moved(1);
            advance(60 * SECOND).await;
        }
        assert!((stall(&mut patience).await.as_secs_f64() - 10.0).abs() < 0.01);
    }
}
