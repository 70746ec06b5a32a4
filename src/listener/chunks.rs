//! A chunked body, checked byte by byte as it comes (RFC 9112 §7.1).

use super::{framing::FramingError, head::field_line};

/// Most digits of a chunk's size: 2^60 is more than any body, and less than any number here.
const DIGITS: usize = 15;
/// Longest line of a size with its extensions. Nobody sends any.
const SIZE_LINE: usize = 256;
/// Most bytes of trailers.
const TRAILERS: usize = 8 << 10;
/// What may not come after the body: it would change how the message is read, or who sent it (RFC 9110 §6.5.1).
const FORBIDDEN: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"host", b"authorization", b"content-encoding"];

/// Where in the body the next byte is.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// The present line, where one is kept.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Size,
    SizeEnd,
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
}

// === impl Chunks ===

impl Chunks {
    /// A body that begins.
    pub fn new() -> Self {
        Self { state: State::Size, line: Vec::new(), trailers: 0 }
    }

    /// Looks at `bytes`, which are new; how many belong to the body, and whether it ends there.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), FramingError> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data(left) = self.state {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += take;
                let left = left - take as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.step(byte)? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Takes a byte that is not data; whether it is the last one.
    fn step(&mut self, byte: u8) -> Result<bool, FramingError> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') => State::SizeEnd,
            (State::Size, b'\t' | b' '..=b'~') if self.line.len() < SIZE_LINE => self.keep(byte),
            (State::Size, _) => {
                return Err(FramingError::ambiguous("a chunk's size line is too long or not text"));
            }
            (State::SizeEnd, b'\n') => match size(&std::mem::take(&mut self.line))? {
                0 => State::Trailer,
                size => State::Data(size),
            },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::DataCr | State::DataLf, _) => {
                return Err(FramingError::ambiguous("a chunk is not as long as its size says"));
            }
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) if self.trailers < TRAILERS => self.keep(byte),
            (State::Trailer, _) => return Err(FramingError::ambiguous("trailers are too long or not text")),
            (State::TrailerEnd, b'\n') if self.line.is_empty() => return Ok(true),
            (State::TrailerEnd, b'\n') => {
                let line = std::mem::take(&mut self.line);
                let (name, _) = field_line(&line)?;
                if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
                    return Err(FramingError::ambiguous("a trailer that belongs into the head"));
                }
                State::Trailer
            }
            (State::SizeEnd | State::TrailerEnd, _) => {
                return Err(FramingError::ambiguous("a CR that ends no line of a chunk"));
            }
            (State::Data(left), _) => State::Data(left),
        };
        Ok(false)
    }

    fn keep(&mut self, byte: u8) -> State {
        self.line.push(byte);
        if matches!(self.state, State::Trailer) {
            self.trailers += 1;
        }
        self.state
    }
}

/// Hexadecimal digits, then nothing or an extension.
fn size(line: &[u8]) -> Result<u64, FramingError> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let number = std::str::from_utf8(&line[..digits]).ok().filter(|text| text.len() <= DIGITS);
    let number = number.and_then(|text| u64::from_str_radix(text, 16).ok());
    match (number, line.get(digits)) {
        (Some(number), None | Some(b';')) => Ok(number),
        _ => Err(FramingError::ambiguous("a chunk's size is not a hexadecimal number")),
    }
}

#[cfg(test)]
mod tests {
    use super::Chunks;
    use crate::listener::FramingError;

    fn read(text: &str) -> Result<(usize, bool), FramingError> {
        let whole = Chunks::new().advance(text.as_bytes());
        let mut chunks = Chunks::new();
        let mut stepwise = Ok((0, false));
        for byte in text.bytes() {
            stepwise = match chunks.advance(&[byte]) {
                Ok((one, end)) => stepwise.map(|(length, _): (usize, bool)| (length + one, end)),
                Err(error) => Err(error),
            };
            if !matches!(stepwise, Ok((_, false))) {
                break;
            }
        }
        assert_eq!(whole, stepwise, "{text:?}");
        whole
    }

    #[test]
    fn a_body_ends_after_its_last_chunk_and_its_trailers() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "00A;name=\"v\"\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\n",
            "2\r\n\r\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(&format!("{body}GET")), Ok((body.len(), true)), "{body:?}");
            assert_eq!(read(&body[..body.len() - 1]), Ok((body.len() - 1, false)), "{body:?}");
        }
    }

    #[test]
    fn odd_chunks_are_refused() {
        for body in [
            "\r\n",
            ";\r\n",
            "5 \r\n",
            " 5\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-1\r\n",
            "5\n",
            "5\r5",
            "5;a\nb\r\n",
            "5;a\0",
            "g\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n",
            "5\r\nhello\rX",
            "1000000000000000\r\n",
            "00000000000000000005\r\n",
            "0\r\nA\r\n",
            "0\r\nA : b\r\n",
            "0\r\n b: c\r\n",
            "0\r\nContent-Length: 5\r\n",
            "0\r\nHost: x\r\n",
            "0\r\n\n",
            "0\r\nA: \0",
        ] {
            assert!(read(body).is_err(), "{body:?}");
        }
        assert!(read(&format!("5;{}", "a".repeat(300))).is_err());
        assert!(read(&format!("0\r\nA: {}", "a".repeat(9000))).is_err());
    }
}
