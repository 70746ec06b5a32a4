//! What a person sees on a terminal while a command takes long: on standard error, and gone once it is done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::output::Output;

/// How often a sign of life moves.
const TICK: Duration = Duration::from_millis(200);

// Templates.
const STEPS: &str = "{wide_bar} {pos}/{len} {eta} {msg}";
const BYTES: &str = "{wide_bar} {bytes}/{total_bytes} {eta}";
const MORE_BYTES: &str = "{spinner} {msg} {bytes} {binary_bytes_per_sec}";
const WAITING: &str = "{spinner} {msg} {elapsed}";

/// A bar or a sign of life. Dropping it takes it off the terminal.
pub(super) struct Progress(ProgressBar);

// === impl Progress ===

impl Progress {
    /// Of a job's steps; their number comes later.
    pub(super) fn steps(output: Output) -> Self {
        Self(visible(output, ProgressBar::new_spinner()))
    }

    /// Of so many bytes.
    pub(super) fn bytes(output: Output, total: u64) -> Self {
        Self(visible(output, ProgressBar::new(total).with_style(style(BYTES))))
    }

    /// Of bytes of which nobody knows how many there will be.
    pub(super) fn more_bytes(output: Output, what: &'static str) -> Self {
        Self(visible(output, ProgressBar::new_spinner().with_style(style(MORE_BYTES)).with_message(what)))
    }

    /// Of something that just takes its time.
    pub(super) fn waiting(output: Output, what: &'static str) -> Self {
        let bar = visible(output, ProgressBar::new_spinner().with_style(style(WAITING)).with_message(what));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So much more is done.
    pub(super) fn add(&self, done: usize) {
        self.0.inc(done as u64);
    }

    /// How far a job is, as the admin API tells it.
    pub(super) fn show(&self, progress: &Value) {
        let count = |key: &str| progress[key].as_u64().unwrap_or(0);
        if count("total") > 0 {
            if self.0.length().is_none() {
                self.0.set_style(style(STEPS));
            }
            self.0.set_length(count("total"));
        }
        self.0.set_position(count("done"));
        self.0.set_message(progress["note"].as_str().unwrap_or_default().to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Programs are shown nothing; nor is who is at no terminal, as the bar itself sees to.
fn visible(output: Output, bar: ProgressBar) -> ProgressBar {
    if output.is_json() { ProgressBar::hidden() } else { bar }
}

/// A template that does not parse is the usual one, which a test rules out.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::{BYTES, MORE_BYTES, STEPS, WAITING};

    #[test]
    fn every_template_parses() {
        for template in [STEPS, BYTES, MORE_BYTES, WAITING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
