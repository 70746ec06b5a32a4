//! The level of the log: what the configuration says, or for a time what an operator does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::config::LogLevel;

/// Sets the level of the log.
pub(super) type SetLevel = Box<dyn Fn(LogLevel) -> anyhow::Result<()>>;

/// The level of this process' log.
pub(super) struct Level {
    set: SetLevel,
    configured: LogLevel,
    /// In force instead, until then.
    instead: Option<(LogLevel, Instant)>,
}

// === impl Level ===

impl Level {
    /// A log that began with the level that is configured.
    pub(super) fn new(configured: LogLevel, set: SetLevel) -> Self {
        Self { set, configured, instead: None }
    }

    /// The configuration says another level. What an operator said goes on for its time.
    pub(super) fn configure(&mut self, level: LogLevel) -> anyhow::Result<()> {
        self.configured = level;
        if self.instead.is_some() { Ok(()) } else { (self.set)(level) }
    }

    /// An operator says a level for a time.
    pub(super) fn switch(&mut self, level: LogLevel, time: Duration) -> anyhow::Result<()> {
        (self.set)(level)?;
        self.instead = Some((level, Instant::now() + time));
        tracing::info!(%level, seconds = time.as_secs(), "the log's level was switched for a time");
        Ok(())
    }

    /// The configured level is in force again.
    pub(super) fn restore(&mut self) -> anyhow::Result<()> {
        if self.instead.take().is_some() {
            (self.set)(self.configured)?;
            tracing::info!(level = %self.configured, "the log's level is the configured one again");
        }
        Ok(())
    }

    /// Waits until the time is over for which an operator said a level; for ever, if none did.
    pub(super) async fn over(&self) {
        match self.instead {
            Some((_, until)) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// As the operator is told.
    pub(super) fn shown(&self) -> Value {
        let level = self.instead.map_or(self.configured, |(level, _)| level);
        let left =
            self.instead.map(|(_, until)| until.saturating_duration_since(Instant::now()).as_secs_f64());
        json!({ "level": level.as_str(), "configured": self.configured.as_str(), "seconds_left": left })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use parking_lot::Mutex;

    use super::Level;
    use crate::config::LogLevel;

    #[tokio::test(start_paused = true)]
    async fn what_an_operator_says_is_over_after_its_time_and_outlasts_a_reload() {
        let set = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&set);
        let note = move |level: LogLevel| {
            seen.lock().push(level.as_str());
            Ok(())
        };
        let mut level = Level::new(LogLevel::Info, Box::new(note));
        level.configure(LogLevel::Warn).unwrap();
        level.restore().unwrap();
        assert_eq!(*set.lock(), ["warn"]);
        level.switch(LogLevel::Debug, Duration::from_secs(600)).unwrap();
        level.configure(LogLevel::Error).unwrap();
        assert_eq!(level.shown()["level"], "debug");
        let early = tokio::time::timeout(Duration::from_secs(599), level.over()).await;
        assert!(early.is_err());
        level.over().await;
        level.restore().unwrap();
        assert_eq!(*set.lock(), ["warn", "debug", "error"]);
        assert_eq!(level.shown()["seconds_left"], serde_json::Value::Null);
        assert!(tokio::time::timeout(Duration::from_secs(1 << 20), level.over()).await.is_err());
    }
}
