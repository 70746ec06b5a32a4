//! What a load meant to the service, read from its log: requests, refusals, and requests sent although the service had
//! asked to be left alone.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::log::{Listener, Logged};

/// A request that arrives this soon after a refusal left has crossed it on the line, or was sent by somebody whom a
/// busy machine had not let read it yet.
pub const CROSSING: Duration = Duration::from_millis(50);

/// Figures of the API doors; the blob host has no limits of this kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// Requests that arrived.
    pub requests: usize,
    /// When refusals for load (429, 500, 503) came, counted from the first request.
    pub refused: Vec<Duration>,
    /// Requests that arrived within the `Retry-After` of a refusal of the same identity (the credential's label and
    /// the organisation), those that crossed it left aside.
    pub inside_retry_after: usize,
    /// From the first request to the last.
    pub span: Duration,
}

/// A refusal: when it was sent, and the end of its `Retry-After`.
type Refusal = (Instant, Instant);

// === impl Strain ===

impl Strain {
    /// What is in this log.
    pub fn of(requests: &[Logged]) -> Self {
        let mut api: Vec<&Logged> = requests.iter().filter(|one| one.listener != Listener::Blob).collect();
        api.sort_by_key(|one| one.at);
        let Some(first) = api.first().map(|one| one.at) else { return Self::default() };
        let refused = api.iter().filter(|one| is_refusal(one)).map(|one| one.at - first).collect();
        let span = api.last().map_or(Duration::ZERO, |last| last.at - first);
        Self { requests: api.len(), refused, inside_retry_after: inside(&api), span }
    }

    /// Refusals later than `from` after the first request.
    pub fn refused_after(&self, from: Duration) -> usize {
        self.refused.iter().filter(|at| **at > from).count()
    }

    /// Refusals in each second that had some.
    pub fn refused_by_second(&self) -> Vec<(u64, usize)> {
        let mut seconds: Vec<(u64, usize)> = Vec::new();
        for second in self.refused.iter().map(Duration::as_secs) {
            match seconds.last_mut() {
                Some((last, count)) if *last == second => *count += 1,
                _ => seconds.push((second, 1)),
            }
        }
        seconds
    }
}

fn is_refusal(request: &Logged) -> bool {
    matches!(request.status, 429 | 500 | 503)
}

fn identity(request: &Logged) -> (&str, &str) {
    (request.header("authorization").unwrap_or_default(), request.path.split('/').nth(1).unwrap_or_default())
}

fn inside(api: &[&Logged]) -> usize {
    let mut refusals: HashMap<_, Vec<Refusal>> = HashMap::new();
    for one in api.iter().filter(|one| is_refusal(one)) {
        if let (Some(sent), Some(wait)) = (one.answered_at, one.retry_after) {
            refusals.entry(identity(one)).or_default().push((sent + CROSSING, sent + wait));
        }
    }
    let within =
        |at: Instant, own: &Vec<Refusal>| own.iter().any(|(from, until)| (*from..*until).contains(&at));
    api.iter().filter(|one| refusals.get(&identity(one)).is_some_and(|own| within(one.at, own))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(start: Instant, at: u64, who: &str, refused: bool) -> Logged {
        let at = start + Duration::from_millis(at);
        Logged {
            listener: Listener::Pkgs,
            method: "GET".to_owned(),
            path: "/contoso/x".to_owned(),
            query: String::new(),
            headers: vec![("authorization".to_owned(), who.to_owned())],
            body_length: 0,
            status: if refused { 429 } else { 303 },
            bytes_sent: 0,
            at,
            answered_at: Some(at + Duration::from_millis(1)),
            retry_after: refused.then_some(Duration::from_secs(2)),
            completed: true,
            connection: 0,
        }
    }

    #[test]
    fn requests_inside_a_pause_are_those_of_its_identity_after_it_was_known() {
        let start = Instant::now();
        let log = [
            request(start, 0, "Basic a", false),
            request(start, 100, "Basic a", true),
            request(start, 110, "Basic a", true),
            request(start, 900, "Basic a", false),
            request(start, 900, "Basic b", false),
            request(start, 2_000, "Basic a", true),
            request(start, 2_112, "Basic a", false),
            request(start, 4_100, "Basic a", false),
        ];
        let strain = Strain::of(&log);
        assert_eq!(
            (strain.requests, strain.refused.len(), strain.refused_after(Duration::from_secs(1))),
            (8, 3, 1)
        );
        assert_eq!(strain.refused_by_second(), [(0, 2), (2, 1)]);
        assert_eq!(strain.inside_retry_after, 3, "at 900, 2000 and 2112 ms");
        assert_eq!(strain.span, Duration::from_millis(4_100));
    }
}
