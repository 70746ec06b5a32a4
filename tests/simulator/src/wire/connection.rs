//! One accepted connection: request after request until somebody has enough.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::rustls::HandshakeKind;

use super::request::{self, ReadError, Request};
use super::stream::Stream;
use super::transmit::{self, End, Form, Plan};
use crate::fault::FaultKind;
use crate::hub::Hub;
use crate::log::{Listener, Logged, Violation, ViolationKind};
use crate::service::error::{self, RefusalContext, SignIn};
use crate::service::reply::{Reply, reason};

const HTML: &str = "<!DOCTYPE html><html><head><title>Azure DevOps</title></head><body><h1>Something went wrong</h1></body></html>\n";
/// What a client may send to the blob host (facts §8), beside the headers that HTTP itself needs.
const BLOB_HEADERS: [&str; 12] = [
    "host",
    "accept",
    "accept-encoding",
    "user-agent",
    "range",
    "connection",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "content-length",
];

/// Serves one connection until its end. `ended` tells when the whole simulator goes.
pub(crate) async fn run(hub: Arc<Hub>, listener: Listener, tcp: TcpStream, mut ended: watch::Receiver<()>) {
    let connection = hub.log.accepted.fetch_add(1, Ordering::SeqCst);
    hub.log.open.fetch_add(1, Ordering::SeqCst);
    let stream = tokio::select! {
        stream = secure(&hub, tcp) => stream,
        _ = ended.changed() => None,
    };
    if let Some(mut stream) = stream {
        let end = tokio::select! {
            end = converse(&hub, listener, &mut stream, connection) => end,
            _ = ended.changed() => End::Reset,
        };
        match end {
            End::Reset => stream.reset_on_close(),
            End::KeepAlive | End::Close | End::Stall => drop(stream.shutdown().await),
        }
    }
    hub.log.open.fetch_sub(1, Ordering::SeqCst);
}

async fn secure(hub: &Hub, tcp: TcpStream) -> Option<Stream> {
    match &hub.tls {
        None => Some(Stream::Plain(tcp)),
        Some(tls) => {
            let stream = tls.accept(tcp).await.ok()?;
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                hub.log.resumed.fetch_add(1, Ordering::SeqCst);
            }
            Some(Stream::Tls(Box::new(stream)))
        }
    }
}

async fn converse(hub: &Hub, listener: Listener, stream: &mut Stream, connection: u64) -> End {
    let mut buffer = BytesMut::new();
    loop {
        let end = match request::read_head(stream, &mut buffer, listener).await {
            Ok(request) => receive(hub, stream, &mut buffer, (request, connection)).await,
            Err(ReadError::Malformed) => {
                let form = Form { head_only: false, keep_alive: false, gzip: false };
                let reply = Reply::new(400, "text/html", "<h2>Bad Request - Invalid Header</h2>");
                Plan::new(reply, form, hub.pace(listener), None).send(stream, || ()).await.end
            }
            Err(ReadError::Closed | ReadError::Io) => End::Close,
        };
        if end != End::KeepAlive {
            return end;
        }
    }
}

/// A request from its head on: refused at once, or read to its end and answered.
async fn receive(
    hub: &Hub,
    stream: &mut Stream,
    buffer: &mut BytesMut,
    (mut request, connection): (Request, u64),
) -> End {
    if let Some((status, head)) = hub.faults.strike_early(|| describe(hub, &request, connection)) {
        let ticket = hub.log.keeps_entries.then(|| hub.log.begin(head));
        let form = Form { keep_alive: false, ..hub.form(&request) };
        let plan = Plan::new(Reply::empty(status), form, hub.pace(request.listener), None);
        let planned = plan.outcome();
        return plan.send(stream, || hub.finish(ticket, planned)).await.end;
    }
    match request::read_body(stream, buffer, &request).await {
        Ok(body) => {
            request.body = body;
            exchange(hub, stream, &request, connection).await
        }
        Err(_) => End::Close,
    }
}

/// One request and its answer.
async fn exchange(hub: &Hub, stream: &mut Stream, request: &Request, connection: u64) -> End {
    let counted = hub.log.in_flight.count();
    let logged = describe(hub, request, connection);
    record_violations(hub, request);
    let fault = hub.faults.strike(&logged);
    let admission = hub.throttles.admit(&logged);
    let ticket = hub.log.keeps_entries.then(|| hub.log.begin(logged));
    if fault == Some(FaultKind::Hang) {
        transmit::wait_for_leave(stream).await;
        return End::Close;
    }
    let pace = hub.pace(request.listener);
    let patience = pace.first_byte + admission.delay + first_byte_delay(fault.as_ref());
    if !patience.is_zero() {
        pace.pause(patience).await;
    }
    let substitute = fault.as_ref().and_then(|fault| substitute(fault, hub));
    let mut reply = match substitute.or_else(|| admission.refusal.clone()) {
        Some(reply) => reply,
        None => hub.service.respond(request).await,
    };
    reply.headers.extend(admission.headers.iter().cloned());
    if let Some(FaultKind::ExtraHeaders(headers)) = &fault {
        reply.headers.extend(headers.iter().map(|(name, value)| (name.clone().into(), value.clone().into())));
    }
    hub.ask_to_wait(ticket, &reply);
    let plan = Plan::new(reply, hub.form(request), pace, fault.as_ref());
    let planned = plan.outcome();
    let outcome = plan.send(stream, || {
        hub.finish(ticket, planned);
        drop((counted, admission));
    });
    let outcome = outcome.await;
    if outcome.bytes_sent < planned.bytes_sent {
        hub.finish(ticket, outcome);
    }
    hub.log.answered.fetch_add(1, Ordering::Relaxed);
    outcome.end
}

fn describe(hub: &Hub, request: &Request, connection: u64) -> Logged {
    let headers = request.headers.iter().map(|(name, value)| match name.as_str() {
        "authorization" => (name.clone(), hub.name_credential(request, value)),
        _ => (name.clone(), value.clone()),
    });
    Logged {
        listener: request.listener,
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: headers.collect(),
        body_length: request.body.len() as u64,
        status: 0,
        bytes_sent: 0,
        at: Instant::now(),
        answered_at: None,
        retry_after: None,
        completed: false,
        connection,
    }
}

fn record_violations(hub: &Hub, request: &Request) {
    for (name, _) in &request.headers {
        let kind = match (request.listener, name.as_str()) {
            (Listener::Blob, "authorization" | "cookie" | "x-nuget-apikey") => {
                ViolationKind::CredentialAtBlobHost
            }
            (Listener::Blob, name) if !BLOB_HEADERS.contains(&name) => ViolationKind::StrangeHeaderAtBlobHost,
            (_, name) if name.starts_with("sec-fetch-") => ViolationKind::BrowserHeader,
            _ => continue,
        };
        let (listener, path) = (request.listener, request.path.clone());
        hub.log.violation(Violation { kind, listener, path, header: name.clone() });
    }
}

fn first_byte_delay(fault: Option<&FaultKind>) -> std::time::Duration {
    match fault {
        Some(FaultKind::Slow { first_byte_delay, .. }) => *first_byte_delay,
        _ => std::time::Duration::ZERO,
    }
}

/// The reply of a fault that doesn't need the honest one.
fn substitute(fault: &FaultKind, hub: &Hub) -> Option<Reply> {
    let signed_out = |sign_in: SignIn| {
        let url = "https://pkgs.dev.azure.com/";
        error::sign_in(&RefusalContext { ids: hub.service.next_ids(), url, tenant: None, sign_in })
    };
    Some(match fault {
        FaultKind::Html200 => Reply::new(200, "text/html; charset=utf-8", HTML),
        FaultKind::SignIn203 => signed_out(SignIn::Page203),
        FaultKind::SignIn302 => signed_out(SignIn::Redirect302),
        FaultKind::BadRedirect(location) => Reply::empty(303).header("Location", location.clone()),
        FaultKind::Status { status, reason: phrase, body, headers } => {
            let phrase = if phrase.is_empty() { reason(*status).to_owned() } else { phrase.clone() };
            let mut reply = Reply::empty(*status).reason(phrase);
            reply.body = crate::service::reply::Body::Bytes(body.clone().into());
            reply.headers =
                headers.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect();
            reply
        }
        _ => return None,
    })
}
