//! The requests of one HTTP/2 connection.
//!
//! Frames, windows and heads are the h2 crate's, which counts what a client may reset or split up; Pingora takes the
//! streams apart. What neither does is done here: bodies must keep coming ([`Uploading`]), and how many requests of one
//! connection are worked on at once is bounded, also of those that its client has reset and counts no more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use pingora::{
    apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream},
    protocols::http::{ServerSession, v2::server::H2Options},
    server::ShutdownWatch,
};

use super::{facts::Facts, uploading::Uploading};
use crate::config::ClientLimits;

/// Most requests of one connection that are worked on at once. A client may have half as many open; the others are
/// those that it has given up and that the gate has not let go yet.
const AT_WORK: usize = 200;

/// An application that takes the requests of one connection.
pub struct Streams<A> {
    app: Arc<A>,
    facts: Arc<Facts>,
    limits: Arc<ClientLimits>,
    at_work: AtomicUsize,
}

/// One of the requests that are worked on.
struct AtWork<'a>(&'a AtomicUsize);

// === impl Streams ===

impl<A> Streams<A> {
    /// Takes the requests of the connection that `facts` are about, for `app`.
    pub fn new(app: Arc<A>, facts: Arc<Facts>, limits: Arc<ClientLimits>) -> Self {
        Self { app, facts, limits, at_work: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync> HttpServerApp for Streams<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _at_work = AtWork(&self.at_work);
        if self.at_work.fetch_add(1, Ordering::Relaxed) >= AT_WORK {
            // Dropping it resets the stream.
            return None;
        }
        let session = match session {
            ServerSession::H2(stream) if !stream.is_body_done() => {
                let uploading = Uploading::new(stream, &self.facts, Arc::clone(&self.limits));
                ServerSession::new_custom(Box::new(uploading))
            }
            other => other,
        };
        self.app.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }
}

// === impl AtWork ===

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
