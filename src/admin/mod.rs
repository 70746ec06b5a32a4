//! The listener for operators: `/metrics`, `/livez`, `/readyz`. Never on the clients' listener.

mod figures;
mod load;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
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

/// Media type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Media type of the plain answers.
const PLAIN: &str = "text/plain; charset=utf-8";

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

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, &'static str, String) {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => (StatusCode::OK, PLAIN, "alive\n".to_owned()),
            "/readyz" if self.readiness.get() => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /livez and /readyz\n".to_owned()),
        }
    }

    fn metrics(&self) -> (StatusCode, &'static str, String) {
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
        let head = session.req_header();
        let (status, kind, text) = self.answer(&head.method, head.uri.path());
        let length = text.len();
        let body = if head.method == Method::HEAD { Vec::new() } else { text.into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response
    }
}
