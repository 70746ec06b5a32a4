//! The task that follows one feed: asks, makes old what changed, and says how it goes.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Followed, Outcome,
    plan::{After, Plan, after, effects, plan, whole},
};
use crate::{
    config::changes::UpstreamSources,
    document::{
        DocumentError,
        changes::{Batch, FeedFacts, Latest, Token},
        without_bom,
    },
    handler::Handler,
    ident::FeedRef,
    route::{Document, DocumentRoute, Effect},
    upstream::{Answer, Expect, Refused, Service, Target, UpstreamError, UpstreamRequest},
};

/// How long what a feed says of itself is believed.
const FACTS: Duration = Duration::from_secs(3600);
/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Changes that are asked for at a time (facts §5.4: 1000 by default, 2000 at most).
const BATCH: usize = 1000;
/// Most batches of one poll; a feed with more changes is made old as a whole.
const MOST_BATCHES: usize = 100;

/// Follows one feed.
pub(super) struct Poller {
    handler: Handler,
    index: usize,
    known: Option<Known>,
    mode: Option<Mode>,
}

/// What is known of the feed, since when.
#[derive(Clone)]
struct Known {
    /// With its identity.
    feed: FeedRef,
    facts: FeedFacts,
    since: Instant,
}

/// How it goes, for the log: a line for each change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Documents are fresh for longer.
    Longer,
    /// Changes are seen, and upstream sources keep documents from being fresh for longer.
    Usual,
    /// Changes are not seen.
    Failing,
}

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("the file of the credential cannot be read: {0}")]
    File(std::io::Error),
    #[error("the credential cannot be sent")]
    Credential,
    #[error("the service refuses the credential: status {0}")]
    Denied(StatusCode),
    #[error("the service answers with status {0}")]
    Rejected(StatusCode),
    #[error("the service is busy or failing: status {status}")]
    Failing { status: StatusCode, retry_after: Option<Duration> },
    #[error("the gate is offline for the feed")]
    Offline,
    #[error("no answer within {LIMIT:?}")]
    Timeout,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the answer is not understood: {0}")]
    Answer(#[from] DocumentError),
}

// === impl Poller ===

impl Poller {
    /// Follows the feed with this number in the configuration.
    pub(super) fn new(handler: Handler, index: usize) -> Self {
        Self { handler, index, known: None, mode: None }
    }

    /// Polls for ever.
    pub(super) async fn run(mut self) {
        loop {
            let polled = self.poll().await;
            self.note(&polled);
            let wished = match polled {
                Err(PollError::Failing { retry_after, .. }) => retry_after.unwrap_or_default(),
                Ok(_) | Err(_) => Duration::ZERO,
            };
            // Several gates, or feeds, must not ask in step.
            let interval = self.followed().settings.interval.mul_f64(rand::random_range(0.9..1.1));
            sleep(interval.max(wished)).await;
        }
    }

    fn followed(&self) -> &Followed {
        &self.handler.parts.changes.feeds[self.index]
    }

    async fn poll(&mut self) -> Result<Outcome, PollError> {
        let authorization = self.authorization().await?;
        let authorization = authorization.as_ref();
        let latest = Latest::read(&self.ask(authorization, "feedchanges", "").await?)?;
        let another = |known: &Known| latest.feed.as_ref().is_some_and(|feed| *feed != known.facts.id);
        let known = match self.known.take().filter(|known| known.since.elapsed() < FACTS && !another(known)) {
            Some(known) => known,
            None => self.introduce(authorization).await?,
        };
        self.known = Some(known.clone());
        match plan(self.handler.parts.changes.tokens.get(known.feed.whole_key()), latest.token) {
            Plan::Rest => Ok(Outcome::Unchanged),
            Plan::Read(from) => self.read(authorization, &known.feed, from, latest.token).await,
            Plan::Begin => {
                self.made_old(&known.feed, &[whole(&known.feed, false)], latest.token).await;
                Ok(Outcome::Began)
            }
            Plan::StartOver => Ok(self.start_over(&known.feed, latest.token).await),
        }
    }

    async fn introduce(&self, authorization: Option<&HeaderValue>) -> Result<Known, PollError> {
        let facts = FeedFacts::read(&self.ask(authorization, "Feeds", "").await?)?;
        let feed = self.followed().settings.feed.feed().clone();
        let project = facts.project.as_deref().unwrap_or("-");
        let identity = format!("{}/{project}/{}", feed.org.folded(), facts.id);
        Ok(Known { feed: feed.identified(&identity), facts, since: Instant::now() })
    }

    /// Reads what changed after `from`.
    async fn read(
        &self,
        authorization: Option<&HeaderValue>,
        feed: &FeedRef,
        mut from: Token,
        latest: Token,
    ) -> Result<Outcome, PollError> {
        for _ in 0..MOST_BATCHES {
            let below = format!("/packagechanges?continuationToken={}&batchSize={BATCH}", from.0);
            let batch = match self.ask(authorization, "Feeds", &below).await {
                Ok(body) => Batch::read(&body),
                Err(PollError::Rejected(status)) => Err(DocumentError::Shape(format!("status {status}"))),
                Err(error) => return Err(error),
            };
            let Ok(batch) = batch.inspect_err(|error| self.lost(error)) else { break };
            let next = after(&batch, from, latest);
            let (After::More(token) | After::CaughtUp(token)) = next else { break };
            self.handler.parts.changes.metrics.changed(&self.followed().label, batch.count);
            self.made_old(feed, &effects(feed, &batch.changes), token).await;
            if next == After::CaughtUp(token) {
                return Ok(Outcome::Changed);
            }
            from = token;
        }
        Ok(self.start_over(feed, latest).await)
    }

    fn lost(&self, error: &DocumentError) {
        tracing::warn!(feed = self.followed().label, %error, "changes of the feed are not understood");
    }

    async fn start_over(&self, feed: &FeedRef, latest: Token) -> Outcome {
        self.made_old(feed, &[whole(feed, true)], latest).await;
        Outcome::StartedOver
    }

    /// What changed is old before the token says that it was read.
    async fn made_old(&self, feed: &FeedRef, effects: &[Effect], read: Token) {
        self.handler.parts.generations.raise_all(&feed.org, effects).await;
        self.handler.parts.changes.tokens.put(feed.whole_key(), read).await;
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, PollError> {
        let Some(credential) = &self.followed().settings.credential else { return Ok(None) };
        let pat = credential.read().await.map_err(PollError::File)?;
        let pat = pat.reveal();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("feedgate:{pat}"));
        let mut value =
            HeaderValue::from_str(&format!("Basic {basic}")).map_err(|_| PollError::Credential)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Asks for `_apis/packaging/{resource}/{feed}{below}`.
    async fn ask(
        &self,
        authorization: Option<&HeaderValue>,
        resource: &str,
        below: &str,
    ) -> Result<Bytes, PollError> {
        let feed = self.followed().settings.feed.feed();
        self.handler.online(Some(feed)).map_err(|_| PollError::Offline)?;
        let route = DocumentRoute { feed: feed.clone(), document: Document::ServiceIndex };
        let place = route.feed_path().replacen("/_packaging/", &format!("/_apis/packaging/{resource}/"), 1);
        let accept = HeaderValue::from_static("application/json");
        let target = Target::Service {
            service: Service::Feeds,
            org: feed.org.clone(),
            path: format!("{place}{below}"),
        };
        let request = UpstreamRequest {
            headers: HeaderMap::from_iter([(header::ACCEPT, accept)]),
            authorization: authorization.cloned(),
            ..UpstreamRequest::get(target, self.handler.asker_unasked())
        };
        let parts = &self.handler.parts;
        let answer = async {
            match parts.service.document(request, Expect::Json).await? {
                Answer::Success(response) => Ok(parts.service.read(response).await?),
                Answer::Refused(refused) => Err(PollError::of(&refused)),
            }
        };
        timeout(LIMIT, answer).await.unwrap_or(Err(PollError::Timeout)).map(without_bom)
    }

    /// Takes note of how a poll went: for the documents, the metrics and the log.
    fn note(&mut self, polled: &Result<Outcome, PollError>) {
        let (followed, now) = (self.followed(), Instant::now());
        let Followed { settings, label, state } = followed;
        let known = self.known.as_ref().filter(|_| polled.is_ok());
        let longer = known.filter(|known| {
            settings.upstream_sources == UpstreamSources::Ignore || !known.facts.upstream_sources
        });
        {
            let mut state = state.lock();
            // Until well after the next poll, which renews or ends it.
            let until = now + 2 * settings.interval + 3 * LIMIT;
            state.longer = longer.map(|known| (known.feed.whole_key().to_owned(), until));
            state.told_at = if known.is_some() { now } else { state.told_at };
        }
        let outcome = polled.as_ref().map_or_else(PollError::outcome, |outcome| *outcome);
        self.handler.parts.changes.metrics.polled(label, outcome);
        let mode = match (known, longer) {
            (_, Some(_)) => Mode::Longer,
            (Some(_), None) => Mode::Usual,
            (None, None) => Mode::Failing,
        };
        if self.mode != Some(mode) {
            mode.tell(label, polled.as_ref().err());
            self.mode = Some(mode);
        }
    }
}

// === impl Mode ===

impl Mode {
    fn tell(self, feed: &str, error: Option<&PollError>) {
        match (self, error) {
            (Self::Longer, _) => tracing::info!(feed, "changes are followed: documents are fresh for longer"),
            (Self::Usual, _) => tracing::info!(
                feed,
                "changes are followed; the feed has upstream sources, so the usual freshness holds"
            ),
            (Self::Failing, error) => {
                let error = error.map(ToString::to_string);
                tracing::warn!(feed, error, "changes cannot be followed: the usual freshness holds");
            }
        }
    }
}

// === impl PollError ===

impl PollError {
    fn of(refused: &Refused) -> Self {
        let status = refused.refusal().status;
        match refused {
            Refused::Unauthorized(_) | Refused::Forbidden(_) => Self::Denied(status),
            Refused::NotFound(_) | Refused::Rejected(_) => Self::Rejected(status),
            Refused::Busy { retry_after, .. } => Self::Failing { status, retry_after: *retry_after },
            Refused::Failed(_) => Self::Failing { status, retry_after: None },
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::File(_) | Self::Credential | Self::Denied(_) => Outcome::Denied,
            _ => Outcome::Failed,
        }
    }
}
