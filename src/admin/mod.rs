//! The listener for operators: `/metrics`, `/livez`, `/readyz`, and the modes of feeds. Never on the clients' listener.

mod figures;
mod load;
mod mode;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::{
    apps::http_app::{HttpServer, ServeHttp},
    protocols::http::ServerSession,
    services::listening::Service,
};
use prometheus::{Registry, TextEncoder};

pub use figures::Figures;
pub use load::Load;

use crate::handler::Modes;

/// Media type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Media type of the plain answers.
const PLAIN: &str = "text/plain; charset=utf-8";
/// Most bytes of a body that are read.
const MAX_BODY: usize = 4096;
/// Longest wait for it.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Status, media type and text.
type Answer = (StatusCode, &'static str, String);

/// Whether the gate takes requests.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

/// The operators' endpoints.
pub struct Admin {
    /// All metrics.
    pub registry: Registry,
    /// Gauges that are read off when somebody looks.
    pub figures: Figures,
    /// Whether the gate takes requests.
    pub readiness: Readiness,
    /// Modes of feeds, which may be switched.
    pub modes: Modes,
}

// === impl Readiness ===

impl Readiness {
    /// Says whether requests are taken.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether requests are taken.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Admin ===

impl Admin {
    /// The endpoints as a Pingora service.
    pub fn service(self) -> Service<HttpServer<Self>> {
        Service::new("admin".to_owned(), HttpServer::new_app(self))
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Answer {
        if path == mode::PATH {
            return mode::answer(&self.modes, method, body);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => (StatusCode::OK, PLAIN, "alive\n".to_owned()),
            "/readyz" if self.readiness.get() => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining\n".to_owned()),
            _ => {
                let text = format!("there are /metrics, /livez, /readyz and {}\n", mode::PATH);
                (StatusCode::NOT_FOUND, PLAIN, text)
            }
        }
    }

    fn metrics(&self) -> Answer {
        self.figures.refresh();
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (method, path) =
            (session.req_header().method.clone(), session.req_header().uri.path().to_owned());
        let asked = if method == Method::PUT { read_body(session).await } else { Vec::new() };
        let (status, kind, text) = self.answer(&method, &path, &asked);
        let length = text.len();
        let body = if method == Method::HEAD { Vec::new() } else { text.into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response
    }
}

/// The start of a body; what is too long or too slow is no JSON then, and refused as that.
async fn read_body(session: &mut ServerSession) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(bytes)) = session.read_request_body().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_BODY {
                break;
            }
        }
    };
    // What came in time is judged below.
    let _ = tokio::time::timeout(BODY_PATIENCE, read).await;
    body
}
