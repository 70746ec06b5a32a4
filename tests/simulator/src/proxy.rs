//! A small HTTP proxy for tests of what goes out through one: CONNECT and nothing else.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Connects, and carries bytes both ways.
    Tunnel,
    /// Answers with this status.
    Refuse(u16),
    /// Never answers.
    Silent,
    /// Closes the connection.
    Close,
    /// Answers with something that is not HTTP.
    Garbage,
}

/// A request to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Host and port that it is to connect to.
    pub target: String,
    /// The value of `Proxy-Authorization`.
    pub credential: Option<String>,
}

/// A running proxy; it ends with the runtime.
pub struct ConnectProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    conduct: Conduct,
    asked: Vec<Asked>,
    hosts: HashMap<String, SocketAddr>,
}

impl ConnectProxy {
    /// Starts a proxy on a free port of 127.0.0.1.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let state = State { conduct: Conduct::Tunnel, asked: Vec::new(), hosts: HashMap::new() };
        let proxy = Self { address: listener.local_addr()?, state: Arc::new(Mutex::new(state)) };
        let state = Arc::clone(&proxy.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move { drop(serve(stream, &state).await) });
            }
        });
        Ok(proxy)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does from now on.
    pub fn set_conduct(&self, conduct: Conduct) {
        self.state.lock().conduct = conduct;
    }

    /// Where it finds `target` (host and port), which need not exist for anybody else.
    pub fn knows(&self, target: &str, address: SocketAddr) {
        self.state.lock().hosts.insert(target.to_owned(), address);
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.clone()
    }
}

async fn serve(mut client: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let credential =
        head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: ")).map(str::to_owned);
    let conduct = {
        let mut state = state.lock();
        state.asked.push(Asked { target: target.clone(), credential });
        if head.starts_with("CONNECT ") { state.conduct } else { Conduct::Refuse(405) }
    };
    match conduct {
        Conduct::Silent => std::future::pending().await,
        Conduct::Close => Ok(()),
        Conduct::Garbage => client.write_all(b"\x05\x00 what?\r\n\r\n").await,
        Conduct::Refuse(status) => {
            let answer =
                format!("HTTP/1.1 {status} No\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno");
            client.write_all(answer.as_bytes()).await
        }
        Conduct::Tunnel => {
            let known = state.lock().hosts.get(&target).copied();
            let mut server = match known {
                Some(address) => TcpStream::connect(address).await?,
                None => TcpStream::connect(&target).await?,
            };
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
    }
}
