//! Carries the endpoints: reads requests off Pingora's sessions and writes the answers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora::{
    apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream},
    http::ResponseHeader,
    protocols::http::ServerSession,
    server::ShutdownWatch,
    services::listening::Service,
};
use tokio::sync::mpsc;

use super::{
    exchange::{Answer, Body, Content, Request},
    guard::Guard,
    problem::Problem,
    router::{Intake, Match, Router},
};

/// Longest wait for a body that is read whole, and for the rest of one that nobody wants.
const BODY_PATIENCE: Duration = Duration::from_secs(5);
/// Pieces of a body that wait for the endpoint.
const PIECES: usize = 4;
/// Seconds that an idle connection is kept.
const KEEPALIVE: u64 = 60;

/// How often the end of answers is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// The endpoints on one listener.
pub struct Server {
    router: Arc<Router>,
    guard: Guard,
    answering: Answering,
}

/// Requests of operators that are being answered. Cheap to clone; clones share the count.
#[derive(Clone, Default)]
pub struct Answering(Arc<AtomicUsize>);

/// One of them, as long as it lives.
struct Answered(Answering);

// === impl Answering ===

impl Answering {
    fn begin(&self) -> Answered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answered(self.clone())
    }

    /// Waits until there are none.
    pub async fn over(&self) {
        while self.0.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Server ===

impl Server {
    /// The endpoints as a Pingora service behind `guard`.
    pub fn service(router: Arc<Router>, guard: Guard, answering: Answering) -> Service<Self> {
        Service::new("admin".to_owned(), Self { router, guard, answering })
    }

    async fn answer(&self, session: &mut ServerSession) -> Answer {
        let head = session.req_header();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let found = match self.admit(&method, uri.path(), &head.headers).await {
            Ok(found) => found,
            Err(problem) => return problem.into(),
        };
        let done = run(session, found, uri.query().unwrap_or_default()).await;
        let answer = done.unwrap_or_else(Answer::from);
        if !matches!(method, Method::GET | Method::HEAD) {
            tracing::info!(target: "admin", %method, path = uri.path(), status = answer.status.as_u16(), "operator");
        }
        answer
    }

    async fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Match<'_>, Problem> {
        let found = self.router.find(method, path);
        // What there is, is told to those only who may use it.
        if !found.as_ref().is_ok_and(|found| found.route.open) {
            self.guard.admit(method, headers).await?;
        }
        found
    }
}

#[async_trait]
impl HttpServerApp for Server {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // An error is a connection that broke before it said anything.
        if !session.read_request().await.ok()? {
            return None;
        }
        let _answered = self.answering.begin();
        session.set_keepalive((!*shutdown.borrow()).then_some(KEEPALIVE));
        session.set_total_drain_timeout(Some(BODY_PATIENCE));
        let answer = self.answer(&mut session).await;
        write(&mut session, answer).await?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

async fn run(session: &mut ServerSession, found: Match<'_>, query: &str) -> Result<Answer, Problem> {
    if session.req_header().headers.contains_key(header::EXPECT) && !session.is_body_empty() {
        // A client that is gone is noticed below.
        let _ = session.write_continue_response().await;
    }
    let Match { route, parameters } = found;
    let request = |body| Request { method: route.method.clone(), parameters, query: query.to_owned(), body };
    match route.intake {
        Intake::Whole(most) => {
            let body = read_whole(session, most).await?;
            route.run(request(Body::Whole(body))).await
        }
        Intake::Pieces => {
            let (sender, receiver) = mpsc::channel(PIECES);
            let mut running = route.run(request(Body::Pieces(receiver)));
            tokio::select! {
                answer = &mut running => answer,
                () = pump(session, sender) => running.await,
            }
        }
    }
}

async fn read_whole(session: &mut ServerSession, most: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    let read = async {
        while let Some(piece) = session.read_request_body().await.map_err(|_| broken())? {
            if body.len() + piece.len() > most {
                let detail = format!("the body is longer than {most} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
            }
            body.extend_from_slice(&piece);
        }
        Ok(())
    };
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long to come");
    tokio::time::timeout(BODY_PATIENCE, read).await.map_err(late)??;
    Ok(body.freeze())
}

fn broken() -> Problem {
    Problem::invalid("the body broke off")
}

/// Hands the body on until it ends or nobody wants more.
async fn pump(session: &mut ServerSession, sender: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let (piece, more) = match session.read_request_body().await {
            Ok(Some(piece)) => (Ok(piece), true),
            Ok(None) => return,
            Err(error) => (Err(io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string())), false),
        };
        if sender.send(piece).await.is_err() || !more {
            return;
        }
    }
}

/// `None` when the connection is of no more use.
async fn write(session: &mut ServerSession, answer: Answer) -> Option<()> {
    let is_head = session.req_header().method == Method::HEAD;
    let mut head = ResponseHeader::build(answer.status, None).ok()?;
    for (name, value) in &answer.headers {
        head.append_header(name, value).ok()?;
    }
    match answer.body {
        Content::Whole(body) => {
            head.insert_header(header::CONTENT_LENGTH, body.len()).ok()?;
            session.write_response_header(Box::new(head)).await.ok()?;
            if !is_head && !body.is_empty() {
                session.write_response_body(body, true).await.ok()?;
            }
        }
        Content::Pieces(mut pieces) => {
            if session.req_header().version == Version::HTTP_11 {
                head.insert_header(header::TRANSFER_ENCODING, "chunked").ok()?;
            } else {
                session.set_keepalive(None);
            }
            session.write_response_header(Box::new(head)).await.ok()?;
            while let Some(piece) = if is_head { None } else { pieces.next().await } {
                let piece =
                    piece.map_err(|error| tracing::warn!(%error, "an answer to an operator broke off"));
                session.write_response_body(piece.ok()?, false).await.ok()?;
            }
            session.write_response_body(Bytes::new(), true).await.ok()?;
        }
    }
    Some(())
}
