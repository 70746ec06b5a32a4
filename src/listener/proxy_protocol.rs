//! The PROXY header that a load balancer puts before a connection's bytes, versions 1 and 2
//! (haproxy.org, proxy-protocol.txt §2).
//!
//! Exactly the header is read and not a byte more: what follows may be TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The start of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The start of version 1.
const WORD: &[u8] = b"PROXY ";
/// Longest line of version 1, with its CRLF.
const LONGEST_LINE: usize = 107;
/// Most bytes of addresses and extensions in version 2; load balancers send some dozens.
const LONGEST_REST: usize = 2048;

/// The client's address; none when the proxy speaks for itself (a health check), or does not say.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return version_2(stream).await;
    }
    if !start.starts_with(WORD) {
        return Err(bad("no PROXY header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE {
            return Err(bad("PROXY line without an end"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line[WORD.len()..line.len() - 2]);
    version_1(text.map_err(|_| bad("PROXY line that is not text"))?)
}

fn version_1(text: &str) -> io::Result<Option<SocketAddr>> {
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["UNKNOWN", ..] => Ok(None),
        [family @ ("TCP4" | "TCP6"), source, target, source_port, target_port] => {
            let address = |text: &str| {
                let address: IpAddr = text.parse().ok()?;
                (address.is_ipv4() == (family == "TCP4")).then_some(address)
            };
            let port = |text: &str| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|_| digits)
            };
            match (address(source), address(target), port(source_port), port(target_port)) {
                (Some(source), Some(_), Some(port), Some(_)) => Ok(Some(SocketAddr::new(source, port))),
                _ => Err(bad("PROXY line with bad addresses")),
            }
        }
        _ => Err(bad("PROXY line of an unknown family")),
    }
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_REST {
        return Err(bad("PROXY header that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        (0x20, _) | (0x21, 0x00 | 0x31 | 0x32) => Ok(None),
        (0x21, 0x11 | 0x12) if length >= 12 => {
            let address = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
            Ok(Some((address, u16::from_be_bytes([rest[8], rest[9]])).into()))
        }
        (0x21, 0x21 | 0x22) if length >= 36 => {
            let mut address = [0; 16];
            address.copy_from_slice(&rest[..16]);
            Ok(Some((Ipv6Addr::from(address), u16::from_be_bytes([rest[32], rest[33]])).into()))
        }
        _ => Err(bad("PROXY header of an unknown version, command or family")),
    }
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::{SIGNATURE, read};

    async fn of(bytes: &[u8]) -> Result<(Option<String>, Vec<u8>), String> {
        let mut rest = bytes;
        let read = read(&mut rest).await.map_err(|error| error.to_string())?;
        Ok((read.map(|address| address.to_string()), rest.to_vec()))
    }

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_behind_it() {
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [&SIGNATURE[..], &[command, family], &length, rest, b"GET"].concat()
        };
        let ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x0f, 0xa0, 0, 80];
        let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x1f, 0x90, 0, 80]].concat();
        let rows = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\nGET".to_vec(), Some("192.0.2.1:4000")),
            (b"PROXY TCP6 2001:db8::1 ::1 4000 80\r\nGET".to_vec(), Some("[2001:db8::1]:4000")),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET".to_vec(), None),
            (v2(0x21, 0x11, &ipv4), Some("192.0.2.1:4000")),
            (v2(0x21, 0x11, &[&ipv4[..], &[4, 0, 1, 7]].concat()), Some("192.0.2.1:4000")),
            (v2(0x21, 0x21, &ipv6), Some("[2001:db8::1]:8080")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(of(&bytes).await, Ok((expected.map(str::to_owned), b"GET".to_vec())), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: g\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4000\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +400 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 80\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 4000 80\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4000 80\r\n",
            b"PROXY  TCP4 192.0.2.1 10.0.0.1 4000 80\r\n",
            b"PROXY TCP4 x y 1 2\r\n",
            long.as_bytes(),
            b"PROXY TCP4",
            &[&SIGNATURE[..], &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat(),
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            assert!(of(bytes).await.is_err(), "{bytes:?}");
        }
    }
}
