//! What a connection tells about the requests on it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use ipnet::IpNet;
use pingora::protocols::{http::ServerSession, raw_connect::ProxyDigest};

use super::{dating::Dating, framing::FramingError, messages::REFUSED};

/// The address of a client whom a proxy does not name in a way that can be read: nobody's.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a connection tells about every request on it.
#[derive(Debug)]
pub struct Facts {
    /// Who is at its other end, as far as the connection itself tells.
    pub client: SocketAddr,
    /// Whether it is over TLS.
    is_tls: bool,
    /// The networks of proxies whose `X-Forwarded-*` are believed; none when this connection is not of one.
    proxies: Option<Arc<[IpNet]>>,
    /// The date of the answer that is sent next.
    pub dating: Dating,
    /// Why a head was refused; the stand-in for it is the connection's last request.
    pub(super) refused_head: OnceLock<FramingError>,
    /// Why the body of the last request was refused.
    pub(super) refused_body: OnceLock<FramingError>,
}

/// Who asks, and by which name of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The client's address; unspecified where a proxy that is trusted names none that can be read.
    pub address: IpAddr,
    /// Whether the client speaks TLS.
    pub is_tls: bool,
    /// The host that the client asked, where that is not what `Host` says.
    pub host: Option<&'a str>,
}

// === impl Facts ===

impl Facts {
    /// Facts about a connection from `client`.
    pub fn new(client: SocketAddr, is_tls: bool, proxies: Option<Arc<[IpNet]>>) -> Self {
        Self {
            client,
            is_tls,
            proxies,
            dating: Dating::default(),
            refused_head: OnceLock::new(),
            refused_body: OnceLock::new(),
        }
    }

    /// The facts about one stream of the connection, of which only its own body can be refused.
    #[must_use]
    pub fn of_stream(&self) -> Self {
        Self::new(self.client, self.is_tls, self.proxies.clone())
    }

    /// These facts where [`Facts::of`] looks for them: Pingora has no place for what an application knows about a
    /// client's connection but the digest of a proxy in front of it.
    pub fn digest(self: &Arc<Self>) -> ProxyDigest {
        let (none, ()) = http::Response::new(()).into_parts();
        ProxyDigest::new(Box::new(none.into()), Some(Box::new(Arc::clone(self))))
    }

    /// The facts about the connection of a request; none when the connection is not of a listener here.
    pub fn of(session: &ServerSession) -> Option<&Facts> {
        let proxy = session.digest()?.proxy_digest.as_ref()?;
        proxy.user_data.as_ref()?.downcast_ref::<Arc<Facts>>().map(AsRef::as_ref)
    }

    /// Whether the client speaks TLS with the gate or whoever stands in front of it, as far as the connection tells.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether what headers say of the client counts.
    pub fn believes_headers(&self) -> bool {
        self.proxies.is_some()
    }

    /// Who sent a request with these headers. A header counts only from a proxy that is trusted.
    pub fn asker<'a>(&self, headers: &'a HeaderMap) -> Asker<'a> {
        let own = Asker { address: self.client.ip().to_canonical(), is_tls: self.is_tls, host: None };
        let Some(proxies) = &self.proxies else { return own };
        let is_tls = match values(headers, "x-forwarded-proto").last() {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => true,
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => false,
            _ => own.is_tls,
        };
        let host = values(headers, "x-forwarded-host").last();
        Asker { address: forwarded_for(headers, proxies).unwrap_or(own.address), is_tls, host }
    }

    /// Why the head was refused that this request stands in for.
    pub fn refused(&self, headers: &HeaderMap) -> Option<FramingError> {
        self.refused_head.get().copied().filter(|_| headers.contains_key(REFUSED))
    }

    /// Why the body that was being read was refused.
    pub fn refused_body(&self) -> Option<FramingError> {
        self.refused_body.get().copied()
    }
}

/// The client in `X-Forwarded-For`; `None` where the proxy speaks for nobody but itself. Each proxy adds at the end whom
/// it got the request from, so what stands left of the last that is no proxy of ours may be anybody's invention, and is
/// not even read. Where the client should stand and no address can be read it is [`NOBODY`]: somebody asked through the
/// proxy, and must not pass for it.
fn forwarded_for(headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let mut lines = headers.get_all("x-forwarded-for").iter().rev().peekable();
    lines.peek()?;
    let members = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = NOBODY;
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        let Some(address) = address(member) else { return Some(NOBODY) };
        client = address;
        if !proxies.iter().any(|proxy| proxy.contains(&address)) {
            break;
        }
    }
    Some(client)
}

/// An address, with or without a port.
fn address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?;
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Facts, NOBODY};

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        rows.iter().map(pair).collect()
    }

    #[test]
    fn only_a_trusted_proxy_says_for_whom_it_speaks() {
        let proxies = Some(["10.0.0.0/8".parse().unwrap()].into());
        let trusted = Facts::new("10.0.0.1:5".parse().unwrap(), false, proxies);
        let plain = Facts::new("192.0.2.9:5".parse().unwrap(), false, None);
        let rows = [
            ("198.51.100.7", "198.51.100.7"),
            ("1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("198.51.100.7:4000", "198.51.100.7"),
            ("[2001:db8::1]:4000", "2001:db8::1"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("198.51.100.7, , 10.0.0.2,", "198.51.100.7"),
            ("1.1.1.1, nonsense", "0.0.0.0"),
            ("1.1.1.1, nonsense, 10.0.0.2", "0.0.0.0"),
            ("", "0.0.0.0"),
        ];
        for (value, expected) in rows {
            let sent = headers(&[
                ("x-forwarded-for", value),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "a"),
            ]);
            let seen = |facts: &Facts| {
                let asker = facts.asker(&sent);
                (asker.address.to_string(), asker.is_tls, asker.host.map(str::to_owned))
            };
            assert_eq!(seen(&trusted), (expected.to_owned(), true, Some("a".to_owned())), "{value}");
            assert_eq!(seen(&plain), ("192.0.2.9".to_owned(), false, None), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_never_makes_a_caller_the_proxy() {
        let proxies = Some(["10.0.0.0/8".parse().unwrap()].into());
        let trusted = Facts::new("10.0.0.1:5".parse().unwrap(), false, proxies);
        let seen = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
            }
            trusted.asker(&headers).address
        };
        let outside: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(seen(&[b"\xff, 203.0.113.9"]), outside, "the proxy adds to the client's line");
        assert_eq!(seen(&[b"10.0.0.9, \xff", b"203.0.113.9"]), outside, "or adds a line of its own");
        assert_eq!(seen(&[b"203.0.113.9, 10.0.0.2"]), outside);
        assert_eq!(seen(&[b"203.0.113.9, \xff, 10.0.0.2"]), NOBODY);
        assert_eq!(seen(&[b"203.0.113.9", b"\xff"]), NOBODY);
        assert_eq!(seen(&[]), trusted.client.ip(), "the proxy's own request");
    }
}
