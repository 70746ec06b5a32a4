//! The `Date` of an answer that is older than its sending.
//!
//! A stored response is sent with the `Date` that it came with: its age is told by that (RFC 9110 §6.6.1, RFC 9111
//! §4.2.3). Pingora writes the time of sending over it, so the head is changed once more on its way to the socket, in
//! place: every date has the same length. HTTP/2 has no such place; there the time of sending stays.

use std::borrow::Cow;

use parking_lot::Mutex;

/// Bytes of a date (IMF-fixdate, RFC 9110 §5.6.7).
const LENGTH: usize = 29;
const FIELD: &[u8] = b"\r\ndate: ";

/// The date of the next answer on a connection; none: the time of sending.
#[derive(Debug, Default)]
pub struct Dating(Mutex<Option<[u8; LENGTH]>>);

// === impl Dating ===

impl Dating {
    /// Sets the date of the next answer; what is no date sets none.
    pub fn set(&self, date: Option<&[u8]>) {
        *self.0.lock() = date.and_then(|date| date.try_into().ok());
    }

    /// What is to be written in the place of `bytes`: a head with its date, all else as it is.
    pub(super) fn apply<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(date) = *self.0.lock() else { return Cow::Borrowed(bytes) };
        match place(bytes) {
            None => Cow::Borrowed(bytes),
            Some(at) => {
                let mut head = bytes.to_vec();
                head[at..at + LENGTH].copy_from_slice(&date);
                Cow::Owned(head)
            }
        }
    }

    /// Bytes went out: what comes next has no date of its own.
    pub(super) fn over(&self) {
        *self.0.lock() = None;
    }
}

/// Where the date stands, if `bytes` begin with the head of a final answer.
fn place(bytes: &[u8]) -> Option<usize> {
    let code = bytes.strip_prefix(b"HTTP/1.")?.get(2)?;
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &bytes[..end + 2])?;
    let at = head.windows(FIELD.len()).position(|field| field.eq_ignore_ascii_case(FIELD))? + FIELD.len();
    (*code != b'1' && head.get(at + LENGTH..at + LENGTH + 2) == Some(b"\r\n")).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::Dating;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NOW: &str = "Sat, 28 Nov 2026 18:00:00 GMT";

    fn applied(bytes: &str) -> String {
        let dating = Dating::default();
        dating.set(Some(DATE.as_bytes()));
        String::from_utf8(dating.apply(bytes.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn the_date_of_a_head_is_replaced_and_nothing_else() {
        for name in ["Date", "date"] {
            let head = |date: &str| {
                format!("HTTP/1.1 200 OK\r\nA: b\r\n{name}: {date}\r\nC: d\r\n\r\n\r\nDate: {NOW}\r\n")
            };
            assert_eq!(applied(&head(NOW)), head(DATE));
        }
        for other in [
            format!("HTTP/1.1 100 Continue\r\nDate: {NOW}\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nA: b\r\n\r\n\r\nDate: {NOW}\r\n"),
            format!("HTTP/1.1 200 OK\r\nDate: {NOW} or so\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nDate: {NOW}\r\n"),
            format!("\r\nDate: {NOW}\r\n\r\n"),
            "HTTP/1.".to_owned(),
            String::new(),
        ] {
            assert_eq!(applied(&other), other);
        }
    }

    #[test]
    fn without_a_date_of_its_own_a_head_stays_as_it_is() {
        let (dating, head) = (Dating::default(), format!("HTTP/1.1 200 OK\r\nDate: {NOW}\r\n\r\n"));
        dating.set(Some(DATE.as_bytes()));
        dating.over();
        assert_eq!(&*dating.apply(head.as_bytes()), head.as_bytes());
        dating.set(Some(b"yesterday"));
        assert_eq!(&*dating.apply(head.as_bytes()), head.as_bytes());
    }
}
