//! A client of a gate's admin API, over TCP or a unix socket.
//!
//! One connection for each request: there are few. Errors of the API come back as [`Refused`], with the words of its
//! problem document. Long work is followed by [`Client::job`], which also ends it when the person presses Ctrl-C.
//!
//! An answer may take as long as it does: what a person asks for can be much work. But a gate that says nothing for some
//! time is asked for a sign of life on another connection, so that no command waits for one that is stopped or unreachable.

use std::{fmt, path::PathBuf, pin::pin, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{output::Output, progress::Progress};
use crate::{config::Admin, redact::Secret};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a gate may say nothing before it is asked for a sign of life, and how long that may take.
const QUIET: Duration = Duration::from_secs(10);
const SIGN: Duration = Duration::from_secs(5);
/// How often a job is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Where a gate's admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// Host and port.
    Tcp(String),
    /// Path of a unix socket.
    Unix(PathBuf),
}

/// A client of one gate.
pub struct Client {
    address: AdminAddress,
    token: Option<Secret<String>>,
    quiet: Duration,
    sign: Duration,
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({status}{})", if code.is_empty() { String::new() } else { format!(", {code}") })]
pub struct Refused {
    /// Its status.
    pub status: StatusCode,
    /// The word for programs; empty when the answer was no problem document.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
}

// === impl AdminAddress ===

impl FromStr for AdminAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be http://HOST:PORT or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(RULE) } else { Ok(Self::Unix(path.into())) };
        }
        let uri: http::Uri = text.parse().map_err(|_| RULE)?;
        let bare = matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/" | ""));
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) if bare && !authority.as_str().contains('@') => {
                let port = authority.port_u16().unwrap_or(80);
                Ok(Self::Tcp(format!("{}:{port}", authority.host())))
            }
            _ => Err(RULE),
        }
    }
}

impl From<&Admin> for AdminAddress {
    /// The socket if there is one; an address of all interfaces is reached by loopback.
    fn from(admin: &Admin) -> Self {
        if let Some(socket) = &admin.socket {
            return Self::Unix(socket.clone());
        }
        let mut address = admin.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        Self::Tcp(address.to_string())
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl Client ===

impl Client {
    /// A client of the gate at `address`, which may want a token.
    pub fn new(address: AdminAddress, token: Option<Secret<String>>) -> Self {
        Self { address, token, quiet: QUIET, sign: SIGN }
    }

    /// GETs a path with its query; the JSON of the answer.
    ///
    /// # Errors
    /// When there is no gate, or the answer is [`Refused`] or no JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.alive(async { json(self.exchange(Method::GET, path, empty()).await?).await }).await
    }

    /// Sends a JSON value; the JSON of the answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed();
        self.alive(async { json(self.exchange(method, path, body).await?).await }).await
    }

    /// GETs a path; its status and text, whatever they are.
    ///
    /// # Errors
    /// When there is no gate or its answer breaks off.
    pub async fn text(&self, path: &str) -> Result<(StatusCode, String)> {
        let asked = async {
            let response = self.exchange(Method::GET, path, empty()).await?;
            let status = response.status();
            let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        self.alive(asked).await
    }

    /// Sends a request with a body of any kind; the answer as it comes, when it is a success. Reading it is for
    /// [`Client::alive`].
    ///
    /// # Errors
    /// When there is no gate, or the answer is [`Refused`].
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: BoxBody<Bytes, std::io::Error>,
    ) -> Result<Response<Incoming>> {
        let response = self.alive(self.exchange(method, path, body)).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await.into()) }
    }

    /// Starts long work by a POST and follows it to its end: its result. Progress is shown on standard error unless
    /// `output` is for programs.
    ///
    /// # Errors
    /// As [`Client::get`]; when the work failed, or was cancelled by Ctrl-C.
    pub async fn job(&self, path: &str, body: &Value, output: Output) -> Result<Value> {
        let mut job = self.send(Method::POST, path, body).await?;
        let one = format!("/admin/v1/jobs/{}", job["id"].as_str().context("the answer names no job")?);
        let bar = Progress::steps(output);
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        while job["state"] == "running" {
            bar.show(&job["progress"]);
            let look = async {
                tokio::time::sleep(POLL).await;
                self.get(&one).await
            };
            tokio::select! {
                looked = look => job = looked?,
                _ = &mut interrupted => {
                    self.send(Method::DELETE, &one, &Value::Null).await?;
                    bail!("cancelled");
                }
            }
        }
        drop(bar);
        match job["state"].as_str() {
            Some("done") => Ok(job["result"].take()),
            Some("failed") => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, &job["problem"]).into()),
            _ => bail!("the job was cancelled"),
        }
    }

    /// Waits for `work` as long as the gate lives.
    ///
    /// # Errors
    /// Those of `work`; when the gate gives no sign of life.
    pub async fn alive<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(self.quiet, &mut work).await {
                return done;
            }
            let Ok(sign) = timeout(self.sign, self.exchange(Method::GET, "/livez", empty())).await else {
                bail!("the gate at {} takes connections and answers nothing: is it stopped?", self.address)
            };
            sign?;
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: BoxBody<Bytes, std::io::Error>,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).body(body).context("the request")?;
        let host = match &self.address {
            AdminAddress::Tcp(authority) => HeaderValue::from_str(authority).context("the address")?,
            AdminAddress::Unix(_) => HeaderValue::from_static("localhost"),
        };
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            request.headers_mut().insert(header::AUTHORIZATION, bearer.context("the admin token")?);
        }
        let told = || format!("no gate answers at {}", self.address);
        let asked = match &self.address {
            AdminAddress::Tcp(authority) => {
                let stream = timeout(CONNECT, TcpStream::connect(authority)).await.with_context(told)?;
                speak(stream.with_context(told)?, request).await
            }
            AdminAddress::Unix(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await.with_context(told)?;
                speak(stream.with_context(told)?, request).await
            }
        };
        asked.with_context(told)
    }
}

async fn speak<S>(stream: S, request: Request<BoxBody<Bytes, std::io::Error>>) -> Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are the exchange's too, and told there.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn json(response: Response<Incoming>) -> Result<Value> {
    if !response.status().is_success() {
        return Err(refused(response).await.into());
    }
    let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
    serde_json::from_slice(&body).context("the answer is no JSON")
}

async fn refused(response: Response<Incoming>) -> Refused {
    let status = response.status();
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let value = body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    problem(status, &value)
}

fn problem(status: StatusCode, value: &Value) -> Refused {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let detail = if text("detail").is_empty() { "the gate refused".to_owned() } else { text("detail") };
    let told = value["status"].as_u64().and_then(|code| u16::try_from(code).ok());
    let told = told.and_then(|code| StatusCode::from_u16(code).ok());
    Refused { status: told.unwrap_or(status), code: text("code"), detail }
}

fn empty() -> BoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::{AdminAddress, Client};
    use crate::config::Admin;

    /// A gate that answers signs of life at once, if it has any, and everything else after three of them.
    async fn gate(lives: bool) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Semaphore::new(0));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    let read = stream.read(&mut head).await.unwrap();
                    if !lives {
                        std::future::pending::<()>().await;
                    }
                    if head[..read].starts_with(b"GET /livez ") {
                        asked.add_permits(1);
                    } else {
                        asked.acquire_many(3).await.unwrap().forget();
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                });
            }
        });
        let quiet = Duration::from_millis(20);
        Client { quiet, ..Client::new(AdminAddress::Tcp(address), None) }
    }

    #[tokio::test]
    async fn a_gate_that_lives_is_waited_for_and_no_other() {
        let client = gate(true).await;
        assert_eq!(client.get("/long").await.unwrap(), serde_json::json!({}));
        let client = Client { sign: Duration::from_millis(20), ..gate(false).await };
        let error = format!("{:#}", client.get("/long").await.unwrap_err());
        assert!(error.contains("takes connections and answers nothing"), "{error}");
    }

    #[test]
    fn an_address_is_http_or_a_socket() {
        for (text, expected) in [
            ("http://127.0.0.1:4874", Some("http://127.0.0.1:4874")),
            ("http://gate/", Some("http://gate:80")),
            ("http://[::1]:1", Some("http://[::1]:1")),
            ("unix:/run/feedgate.sock", Some("unix:/run/feedgate.sock")),
            ("unix:", None),
            ("https://gate:1", None),
            ("gate:1", None),
            ("http://gate:1/admin", None),
            ("http://user@gate:1", None),
        ] {
            let parsed = text.parse::<AdminAddress>().ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_gate_is_found_by_its_own_configuration() {
        let of = |address: &str, socket: Option<&str>| {
            let (address, socket) = (address.parse().unwrap(), socket.map(Into::into));
            AdminAddress::from(&Admin { address, socket, token: None }).to_string()
        };
        assert_eq!(of("127.0.0.1:4874", None), "http://127.0.0.1:4874");
        assert_eq!(of("0.0.0.0:4874", None), "http://127.0.0.1:4874");
        assert_eq!(of("[::]:4874", None), "http://[::1]:4874");
        assert_eq!(of("127.0.0.1:4874", Some("a.sock")), "unix:a.sock");
    }
}
