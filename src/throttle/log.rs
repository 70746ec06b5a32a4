//! One log line for each time that a budget slows down, pauses or recovers, with the reason.

use std::fmt::Write as _;

use super::{
    Class, Resource, Scope, SignalKind,
    admission::Note,
    budget::{Change, LimitName},
};

/// Writes `note`: a recovery for information, all else as a warning.
pub(super) fn write(note: &Note) {
    let (class, budget) = (note.class.as_str(), budget(note));
    let changes = changes(&note.changes);
    if note.changes.contains(&Change::Recovered) {
        tracing::info!(class, budget, changes, "the service takes requests as before");
    } else {
        tracing::warn!(class, budget, changes, reason = reason(note), "slower towards the service");
    }
}

fn budget(note: &Note) -> String {
    match (note.identity, note.class) {
        (None, _) => "gate".to_owned(),
        (Some(identity), Class::Api) => format!("identity {identity}"),
        (Some(host), Class::Blob) => format!("host {host}"),
    }
}

fn changes(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match change {
            Change::Slowed { limit: LimitName::InFlight, to } => {
                write!(text, "{separator}at most {to:.0} in flight")
            }
            Change::Slowed { limit: LimitName::Rate, to } => write!(text, "{separator}at most {to:.1}/s"),
            Change::Paused(wait) => write!(text, "{separator}pause of {:.1} s", wait.as_secs_f64()),
            Change::Recovered => write!(text, "{separator}recovered"),
        };
    }
    text
}

fn reason(note: &Note) -> String {
    let what = match note.signal.kind {
        SignalKind::Slow => "served with a wish to slow down",
        SignalKind::Refused => "refused for load",
        SignalKind::Overloaded => "the service is overloaded",
        SignalKind::Fine | SignalKind::Failed => "answered",
    };
    let on = match note.signal.resource {
        Resource::Unknown => "",
        Resource::Concurrency => ", on requests in flight",
        Resource::Usage => ", on use over time",
    };
    let scope = if note.signal.scope == Scope::Address { ", for the address" } else { "" };
    let wait = note.signal.retry_after.map_or_else(String::new, |wait| format!(", Retry-After {wait:?}"));
    format!("{what}{on}{scope}{wait}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::throttle::{Class, Signal};

    #[test]
    fn a_line_says_what_changed_and_why() {
        let signal = Signal {
            kind: SignalKind::Refused,
            scope: Scope::Address,
            resource: Resource::Concurrency,
            retry_after: Some(Duration::from_secs(2)),
            ..Signal::default()
        };
        let slowed = Change::Slowed { limit: LimitName::InFlight, to: 14.0 };
        let paused = Change::Paused(Duration::from_secs(2));
        let note = Note { class: Class::Api, identity: None, changes: vec![slowed, paused], signal };
        assert_eq!(budget(&note), "gate");
        assert_eq!(changes(&note.changes), "at most 14 in flight, pause of 2.0 s");
        assert_eq!(reason(&note), "refused for load, on requests in flight, for the address, Retry-After 2s");
    }
}
