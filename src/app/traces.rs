//! What sends spans to the collector, from the start to the end of the drain.

use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus::Registry;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{clock::Clock, config::Config, trace::Spans, upstream::TraceCollector};

/// How long the last spans may take at most: after a drain, others wait for the sockets and the store.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// A running export; none when spans are not exported.
#[derive(Default)]
pub(super) struct Traces {
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

// === impl Traces ===

impl Traces {
    /// Starts to send what is put into the spans.
    pub(super) fn start(config: &Config, clock: &Clock, registry: &Registry) -> Result<(Spans, Self)> {
        let (spans, export) = Spans::new(&config.trace, clock, registry)?;
        let collector = TraceCollector::new(&config.trace, &config.upstream).context("trace.endpoint")?;
        let running = export.zip(collector).map(|(export, collector)| {
            let (stop, stopped) = oneshot::channel();
            (stop, tokio::spawn(export.run(collector, stopped)))
        });
        Ok((spans, Self { running }))
    }

    /// Sends what is left, until `deadline`.
    pub(super) async fn flush(self, deadline: Instant) {
        let Some((stop, mut task)) = self.running else { return };
        // An error says that it has ended already.
        let _ = stop.send(());
        let deadline = deadline.min(Instant::now() + LAST_SPANS);
        if timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the trace collector did not take the last spans in time; they are lost");
        }
    }
}
