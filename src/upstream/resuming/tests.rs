//! Downloads that break, against a source that plays a script.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;
use crate::throttle::{Class, ShedReason, ThrottleError};

const ID: &str = "1E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";
const OTHER: &str = "2E57CF2792A900D06C1CDFB3C453F35BC86F72788AA9724C96C929D1CC6B456A00";
const CONTENT: &[u8] = b"0123456789";

type Headers = Vec<(&'static str, String)>;

/// URL, first byte and entity tag of a request.
type Asked = (String, u64, Option<String>);

/// What the source answers, and where a response's body ends.
#[derive(Clone)]
enum Act {
    /// Status, headers, the bytes that come, and what comes after them.
    Answer(u16, Headers, Vec<u8>, End),
    Fails(UpstreamError),
}

#[derive(Clone)]
enum End {
    Orderly,
    Broken,
    Short,
    Stalled,
    Encoded,
}

#[derive(Clone, Default)]
struct Script {
    opens: Arc<Mutex<VecDeque<Act>>>,
    locations: Arc<Mutex<VecDeque<Option<&'static str>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

struct Pieces(VecDeque<Bytes>, End);

#[async_trait]
impl BodyStream for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        match self.0.pop_front() {
            Some(bytes) => Ok(Some(bytes)),
            None => self.1.outcome(),
        }
    }
}

impl End {
    fn outcome(&self) -> Result<Option<Bytes>, UpstreamError> {
        let host = "h".to_owned();
        match self {
            Self::Orderly => Ok(None),
            Self::Broken => Err(broken()),
            Self::Short => Err(UpstreamError::Length { host, announced: 10, received: 3 }),
            Self::Stalled => Err(UpstreamError::Timeout { host, phase: Phase::Idle }),
            Self::Encoded => Err(UpstreamError::Encoding("x".to_owned())),
        }
    }
}

#[async_trait]
impl Source for Script {
    async fn open(&self, url: &SignedUrl, part: Option<Part>) -> Result<UpstreamResponse, UpstreamError> {
        let (first, tag) = part.map_or((0, None), |part| (part.first, part.tag));
        let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
        self.asked.lock().push((url.reveal().to_string(), first, tag));
        match self.opens.lock().pop_front().expect("not asked more often than the script says") {
            Act::Answer(status, headers, bytes, end) => Ok(response(status, &headers, &bytes, end)),
            Act::Fails(error) => Err(error),
        }
    }

    async fn relocate(&self) -> Result<BlobLocation, UpstreamError> {
        let id = self.locations.lock().pop_front().expect("not asked more often than the script says");
        Ok(location("https://b/new", id))
    }
}

fn response(status: u16, headers: &Headers, bytes: &[u8], end: End) -> UpstreamResponse {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let pieces = bytes.chunks(2).map(Bytes::copy_from_slice).collect();
    UpstreamResponse {
        status: StatusCode::from_u16(status).unwrap(),
        reason: None,
        headers: headers.collect(),
        body: Box::new(Pieces(pieces, end)),
    }
}

fn broken() -> UpstreamError {
    UpstreamError::Broken { host: "h".to_owned(), reason: "reset".to_owned() }
}

fn expired() -> Act {
    Act::Fails(UpstreamError::Link { host: "h".to_owned(), status: StatusCode::FORBIDDEN })
}

fn status(status: u16) -> Act {
    let status = StatusCode::from_u16(status).unwrap();
    Act::Fails(UpstreamError::Download { host: "h".to_owned(), status })
}

fn location(url: &str, id: Option<&str>) -> BlobLocation {
    let storage_id = id.map(|id| id.parse().unwrap());
    BlobLocation { url: SignedUrl::new(url.parse().unwrap()), storage_id }
}

fn whole(until: usize, end: End) -> Act {
    let headers = vec![("content-length", "10".to_owned()), ("etag", "\"a\"".to_owned())];
    Act::Answer(200, headers, CONTENT[..until].to_vec(), end)
}

fn part(from: usize, until: usize, end: End) -> Act {
    let headers = vec![("content-range", format!("bytes {from}-9/10")), ("etag", "\"a\"".to_owned())];
    Act::Answer(206, headers, CONTENT[from..until].to_vec(), end)
}

struct Run {
    script: Script,
    registry: Registry,
    received: Vec<u8>,
    end: Result<(), UpstreamError>,
    took: Duration,
}

/// Downloads: the first act is the response that breaks.
async fn run(acts: Vec<Act>, locations: &[Option<&'static str>]) -> Run {
    let mut acts = VecDeque::from(acts);
    let Some(Act::Answer(status, headers, bytes, end)) = acts.pop_front() else { panic!("no response") };
    let script = Script { opens: Arc::new(Mutex::new(acts)), ..Script::default() };
    script.locations.lock().extend(locations);
    let registry = Registry::new();
    let (resumes, start) = (Resumes::new(&registry).unwrap(), Instant::now());
    let first = response(status, &headers, &bytes, end);
    let mut body = Resuming::wrap(first, script.clone(), location("https://b/old", Some(ID)), resumes).body;
    let (mut received, mut end) = (Vec::new(), None);
    while end.is_none() {
        match body.next().await {
            Ok(Some(bytes)) => received.extend_from_slice(&bytes),
            Ok(None) => end = Some(Ok(())),
            Err(error) => end = Some(Err(error)),
        }
    }
    let took = start.elapsed();
    let (end, again) = (end.unwrap(), body.next().await);
    assert_eq!(again.is_err(), end.is_err(), "an end is for good");
    assert!(script.locations.lock().is_empty());
    Run { script, registry, received, end, took }
}

impl Run {
    fn asked_from(&self) -> Vec<u64> {
        self.script.asked.lock().iter().map(|(_, first, _)| *first).collect()
    }

    /// Samples of the counters, without zeros.
    fn counted(&self) -> Vec<(String, f64)> {
        let mut samples = Vec::new();
        for family in self.registry.gather() {
            for metric in family.get_metric() {
                let label = metric.get_label().first().map_or("", |label| label.get_value());
                let short = family.get_name().trim_start_matches("feedgate_upstream_");
                samples
                    .push((format!("{short} {label}").trim().to_owned(), metric.get_counter().get_value()));
            }
        }
        samples.retain(|(_, value)| *value > 0.0);
        samples
    }

    fn fails_with(&self, text: &str) {
        let error = self.end.as_ref().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_on_where_it_broke_whatever_broke_it() {
    for end in [End::Broken, End::Short, End::Stalled, End::Orderly] {
        let acts = vec![whole(3, end.clone()), part(3, 8, end), part(8, 10, End::Orderly)];
        let run = run(acts, &[]).await;
        assert_eq!((&run.received[..], run.took), (CONTENT, Duration::ZERO));
        assert!(run.end.is_ok());
        let tag = Some("\"a\"".to_owned());
        let old = || "https://b/old".to_owned();
        assert_eq!(*run.script.asked.lock(), [(old(), 3, tag.clone()), (old(), 8, tag)]);
        let counted = [
            ("resumed_bytes_total", 11.0),
            ("resumed_downloads_total", 1.0),
            ("resumptions_total same_url", 2.0),
        ];
        assert_eq!(run.counted(), counted.map(|(name, value)| (name.to_owned(), value)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unbroken_download_asks_and_counts_nothing() {
    let run = run(vec![whole(10, End::Orderly)], &[]).await;
    assert_eq!((&run.received[..], run.asked_from(), run.counted()), (CONTENT, vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_break_before_the_first_byte_asks_for_the_whole() {
    let run = run(vec![whole(0, End::Broken), whole(10, End::Orderly)], &[]).await;
    assert_eq!((&run.received[..], run.asked_from()), (CONTENT, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_break_is_handed_on() {
    let run = run(vec![whole(3, End::Encoded)], &[]).await;
    assert!(matches!(run.end, Err(UpstreamError::Encoding(_))));
    assert!(run.asked_from().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_no_longer_good_is_replaced_by_one_to_the_same_content() {
    let acts =
        vec![whole(3, End::Broken), expired(), part(3, 6, End::Broken), expired(), part(6, 10, End::Orderly)];
    let run = run(acts, &[Some(ID), Some(ID)]).await;
    assert_eq!(&run.received[..], CONTENT);
    let urls: Vec<_> =
        run.script.asked.lock().iter().map(|(url, _, tag)| (url.clone(), tag.is_some())).collect();
    let [old, new] = ["https://b/old", "https://b/new"].map(str::to_owned);
    // A tag belongs to its URL.
    assert_eq!(urls, [(old, true), (new.clone(), false), (new.clone(), true), (new, false)]);
    assert!(run.counted().contains(&("resumptions_total new_url".to_owned(), 2.0)));
}

#[tokio::test(start_paused = true)]
async fn a_url_to_other_content_ends_the_download() {
    for id in [Some(OTHER), None] {
        let run = run(vec![whole(3, End::Broken), expired()], &[id]).await;
        run.fails_with("other content");
        assert_eq!(
            (run.received.len(), run.counted()),
            (3, vec![("resumptions_total failed".to_owned(), 1.0)])
        );
    }
    let twice = run(vec![whole(3, End::Broken), expired(), expired()], &[Some(ID)]).await;
    assert!(matches!(twice.end, Err(UpstreamError::Link { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_does_not_fit_is_not_taken() {
    let answer = |status, name, value: &str| {
        let range = ("content-range", "bytes 3-9/10".to_owned());
        let headers = vec![range, (name, value.to_owned())].into_iter().rev().collect();
        Act::Answer(status, headers, CONTENT[3..].to_vec(), End::Orderly)
    };
    let range = |value: &str| {
        let headers = vec![("content-range", value.to_owned())];
        Act::Answer(206, headers, CONTENT[3..].to_vec(), End::Orderly)
    };
    let rows = [
        (range("bytes 2-9/10"), "another part"),
        (range("bytes 4-9/10"), "another part"),
        (range("bytes */10"), "another part"),
        (range("pages 3-9/10"), "another part"),
        (range("bytes 3-10/11"), "length has changed"),
        (Act::Answer(206, vec![], vec![], End::Orderly), "another part"),
        (answer(206, "etag", "\"b\""), "content has changed"),
        (answer(206, "content-encoding", "gzip"), "content coding"),
        (answer(200, "content-length", "11"), "length has changed"),
        (answer(200, "etag", "\"b\""), "content has changed"),
        (status(416), "416"),
        (status(400), "400"),
    ];
    for (act, text) in rows {
        let run = run(vec![whole(3, End::Broken), act], &[]).await;
        run.fails_with(text);
        assert_eq!((run.received, run.script.asked.lock().len()), (CONTENT[..3].to_vec(), 1), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_rest_is_taken_and_the_rest_of_it_asked_for() {
    let piece = |range: &str, from: usize, until: usize| {
        let headers = vec![("content-range", format!("bytes {range}"))];
        Act::Answer(206, headers, CONTENT[from..until].to_vec(), End::Orderly)
    };
    let acts =
        vec![whole(3, End::Broken), piece("3-5/10", 3, 6), piece("6-6/*", 6, 7), piece("7-9/*", 7, 10)];
    let run = run(acts, &[]).await;
    assert_eq!((&run.received[..], run.asked_from(), run.end.is_ok()), (CONTENT, vec![3, 6, 7], true));

    // Without a length nobody knows where the end is.
    let unknown = Act::Answer(200, vec![], CONTENT[..3].to_vec(), End::Broken);
    super::tests::run(vec![unknown, piece("3-9/*", 3, 10)], &[]).await.fails_with("nobody says how long");

    // A host that sends nothing of what it says does not keep the gate for ever.
    let empty = || piece("3-5/10", 3, 3);
    let run = super::tests::run(vec![whole(3, End::Broken), empty(), empty(), empty()], &[]).await;
    assert!(
        matches!(run.end, Err(UpstreamError::Length { announced: 10, received: 3, .. })),
        "{:?}",
        run.end
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_without_ranges_sends_the_start_again_and_it_is_dropped() {
    let run = run(vec![whole(3, End::Broken), whole(8, End::Broken), whole(10, End::Orderly)], &[]).await;
    assert_eq!((&run.received[..], run.asked_from()), (CONTENT, vec![3, 8]));
    assert!(!run.counted().iter().any(|(name, _)| name == "resumed_bytes_total"), "nothing is saved");
}

#[tokio::test(start_paused = true)]
async fn a_large_start_is_not_received_again() {
    for (length, fits) in [(CHEAP, true), (CHEAP + 1, false)] {
        let start = vec![7; usize::try_from(length).unwrap()];
        let first = Act::Answer(200, vec![], start.clone(), End::Broken);
        let again = Act::Answer(200, vec![], [&start[..], b"end"].concat(), End::Orderly);
        let run = run(vec![first, again], &[]).await;
        assert_eq!((run.end.is_ok(), run.received.ends_with(b"end")), (fits, fits), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_was_not_told_is_learned_from_the_part() {
    let first = Act::Answer(200, vec![], CONTENT[..3].to_vec(), End::Broken);
    let run = run(vec![first, part(3, 5, End::Orderly), part(5, 10, End::Orderly)], &[]).await;
    assert_eq!((&run.received[..], run.asked_from()), (CONTENT, vec![3, 5]));
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_the_length_are_never_handed_on() {
    let headers = vec![("content-range", "bytes 8-9/10".to_owned())];
    let long = Act::Answer(206, headers, b"89!!".to_vec(), End::Orderly);
    let run = run(vec![whole(8, End::Broken), long], &[]).await;
    assert!(matches!(run.end, Err(UpstreamError::Length { announced: 10, received: 12, .. })));
    assert_eq!(run.received, CONTENT);
}

#[tokio::test(start_paused = true)]
async fn resumptions_that_bring_nothing_are_few_and_ever_later() {
    let shed = UpstreamError::Shed(ThrottleError {
        class: Class::Blob,
        reason: ShedReason::Late,
        waited: Duration::ZERO,
        pause_left: Duration::ZERO,
    });
    let passing = [Act::Fails(broken()), Act::Fails(shed), status(503), status(429), part(3, 3, End::Broken)];
    for act in passing {
        let run = run([vec![whole(3, End::Broken)], vec![act; 3]].concat(), &[]).await;
        assert!(run.end.is_err());
        assert_eq!((run.asked_from(), run.took), (vec![3, 3, 3], PAUSE * 3));
    }
    // Progress begins the count anew.
    let acts = vec![whole(3, End::Broken), status(503), status(503), part(3, 5, End::Broken)];
    let more = vec![status(503), status(503), part(5, 10, End::Orderly)];
    assert_eq!(run([acts, more].concat(), &[]).await.received, CONTENT);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_only_trickles_is_given_up_and_one_that_stalls_between_is_not() {
    let slow = usize::try_from(SLOW).unwrap();
    let trickles = |from: usize| part(from, from + 1, End::Stalled);
    let run =
        run(std::iter::once(whole(1, End::Stalled)).chain((1..=slow).map(trickles)).collect(), &[]).await;
    assert!(matches!(run.end, Err(UpstreamError::Timeout { .. })));
    assert_eq!((run.received.len(), run.asked_from().len()), (slow + 1, slow));

    let (piece, pieces) = (usize::try_from(LITTLE).unwrap(), 2 * slow);
    let length = piece * (pieces + 1);
    let answer = |number: usize| {
        let (from, end) = (number * piece, if number == pieces { End::Orderly } else { End::Stalled });
        let headers = vec![("content-range", format!("bytes {from}-{}/{length}", length - 1))];
        Act::Answer(206, headers, vec![7; piece], end)
    };
    let first = Act::Answer(200, vec![("content-length", length.to_string())], vec![7; piece], End::Stalled);
    let run = super::tests::run(std::iter::once(first).chain((1..=pieces).map(answer)).collect(), &[]).await;
    assert!(run.end.is_ok() && run.received.len() == length);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_all_the_time_is_given_up() {
    let length = 100;
    let answer = |from: usize| {
        let headers = vec![("content-range", format!("bytes {from}-{}/{length}", length - 1))];
        Act::Answer(206, headers, vec![7], End::Broken)
    };
    let first = Act::Answer(200, vec![("content-length", length.to_string())], vec![7], End::Broken);
    let few = usize::try_from(FEW).unwrap();
    let run = run(std::iter::once(first).chain((1..=few).map(answer)).collect(), &[]).await;
    assert!(matches!(run.end, Err(UpstreamError::Broken { .. })));
    assert_eq!((run.received.len(), run.asked_from().len()), (few + 1, few));
}

#[test]
fn only_strong_tags_are_sent_back() {
    for (tag, strong) in [("\"a\"", true), ("W/\"a\"", false), ("a", false)] {
        let headers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static(tag))]);
        assert_eq!(strong_tag(&headers).is_some(), strong, "{tag}");
    }
}
