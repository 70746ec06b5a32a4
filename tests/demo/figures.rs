//! What a run cost: read off the simulator's log and the gate's metrics, before and after.

use std::{fmt::Write as _, ops::Sub};

use feedgate::app::Gate;
use feedgate_simulator::Simulator;

/// Totals since the start.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    upstream_requests: u64,
    upstream_bytes: u64,
    hits: u64,
    saved: u64,
}

/// One line of the table.
pub struct Row {
    pub client: &'static str,
    pub round: &'static str,
    pub seconds: f64,
    pub files: usize,
    pub cost: Figures,
}

// === impl Figures ===

impl Figures {
    /// Reads the totals.
    pub fn read(gate: &Gate, simulator: &Simulator) -> Self {
        let requests = simulator.requests();
        Self {
            upstream_requests: requests.len() as u64,
            upstream_bytes: requests.iter().map(|request| request.bytes_sent).sum(),
            hits: counter(gate, "feedgate_requests_total", "cache", &["hit", "stale", "stale_error"]),
            saved: counter(gate, "feedgate_sent_bytes_total", "source", &["cache"]),
        }
    }
}

impl Sub for Figures {
    type Output = Self;

    /// A restarted gate counts from zero.
    fn sub(self, before: Self) -> Self {
        Self {
            upstream_requests: self.upstream_requests.saturating_sub(before.upstream_requests),
            upstream_bytes: self.upstream_bytes.saturating_sub(before.upstream_bytes),
            hits: self.hits.saturating_sub(before.hits),
            saved: self.saved.saturating_sub(before.saved),
        }
    }
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "client  run                   seconds   files   requests upstream   MB upstream    hits   MB saved\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<7} {:<20} {:>8.1} {:>7} {:>19} {:>13.1} {:>7} {:>10.1}",
            row.client,
            row.round,
            row.seconds,
            row.files,
            row.cost.upstream_requests,
            megabytes(row.cost.upstream_bytes),
            row.cost.hits,
            megabytes(row.cost.saved)
        );
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters of whole events")]
fn counter(gate: &Gate, name: &str, label: &str, values: &[&str]) -> u64 {
    let families = gate.registry().gather();
    let metrics = families
        .iter()
        .filter(|family| family.get_name() == name)
        .flat_map(prometheus::proto::MetricFamily::get_metric);
    let picked = metrics.filter(|metric| {
        metric.get_label().iter().any(|pair| pair.get_name() == label && values.contains(&pair.get_value()))
    });
    picked.map(|metric| metric.get_counter().get_value() as u64).sum()
}
