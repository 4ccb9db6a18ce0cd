//! Reads one HTTP/1.1 reply from the bytes of a connection.
//!
//! A load generator must cost less than the server it measures, and needs only the status, where the body ends and
//! whether the connection may be used again, so nothing else is parsed and no header is stored.
//! Head and body are bounded; a reply ends by its length, its last chunk or the end of the connection (RFC 9112 §6.3).

use std::ops::Range;

/// A server that sends a longer head than this is broken.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Enough for every body that a function may return, and small enough for a thousand clients.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Size and extensions of one chunk, or one trailer line.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;

/// Collects the bytes of one reply at a time. Call [`Reader::reset`] before each request.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    decoded: Vec<u8>,
    stage: Stage,
    head_request: bool,
}

/// A whole reply. Its body is [`Reader::body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Whether the connection takes another request.
    pub(super) keep_alive: bool,
    body: Place,
}

/// The bytes are not HTTP/1.1, or too many. The text says which rule they break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Reader {
    /// `head_request`: replies to HEAD announce a body and send none.
    pub(super) fn new(head_request: bool) -> Self {
        Self {
            head_request,
            ..Self::default()
        }
    }

    /// Forgets the last reply.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.decoded.clear();
        self.stage = Stage::default();
    }

    /// Takes what arrived and says whether the reply is whole.
    pub(super) fn feed(&mut self, arrived: &[u8]) -> Result<Option<Reply>, Malformed> {
        self.bytes.extend_from_slice(arrived);
        loop {
            let head = match &mut self.stage {
                Stage::Head { searched } => {
                    let Some(end) = find_head_end(&self.bytes, *searched) else {
                        // The blank line may arrive in pieces.
                        *searched = self.bytes.len().saturating_sub(3);
                        return within(self.bytes.len(), HEAD_BYTES_MAX, "head too long");
                    };
                    within(end, HEAD_BYTES_MAX, "head too long")?;
                    let head = parse_head(&self.bytes[..end], self.head_request)?;
                    // RFC 9110 §15.2: any number of interim replies may come first.
                    if head.status < 200 {
                        self.bytes.drain(..end);
                        continue;
                    }
                    let at = end;
                    self.stage = Stage::Body {
                        head,
                        start: end,
                        at,
                    };
                    continue;
                }
                Stage::Body { head, start, at } => match head.length {
                    Length::Exact(length) => {
                        let end = *start + length;
                        if self.bytes.len() < end {
                            return Ok(None);
                        }
                        head.reply(Place::Plain(*start..end), self.bytes.len() == end)
                    }
                    Length::Chunked => match decode_chunks(&self.bytes, at, &mut self.decoded)? {
                        Some(end) => head.reply(Place::Decoded, self.bytes.len() == end),
                        None => return Ok(None),
                    },
                    Length::UntilClose => {
                        let length = self.bytes.len() - *start;
                        return within(length, BODY_BYTES_MAX, "body too long");
                    }
                },
            };
            return Ok(Some(head));
        }
    }

    /// The connection ended: the reply is whole if that is how its body ends.
    pub(super) fn end(&self) -> Option<Reply> {
        match &self.stage {
            Stage::Body { head, start, .. } if head.length == Length::UntilClose => {
                Some(head.reply(Place::Plain(*start..self.bytes.len()), false))
            }
            _ => None,
        }
    }

    /// The body of `reply`, which this reader returned last.
    pub(super) fn body(&self, reply: &Reply) -> &[u8] {
        match &reply.body {
            Place::Plain(range) => self.bytes.get(range.clone()).unwrap_or_default(),
            Place::Decoded => &self.decoded,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Plain(Range<usize>),
    Decoded,
}

#[derive(Debug)]
enum Stage {
    Head { searched: usize },
    Body { head: Head, start: usize, at: usize },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head { searched: 0 }
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    keep_alive: bool,
    length: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Exact(usize),
    Chunked,
    UntilClose,
}

impl Head {
    /// `drained`: nothing follows the reply. Bytes nobody asked for make the connection useless.
    fn reply(&self, body: Place, drained: bool) -> Reply {
        Reply {
            status: self.status,
            keep_alive: self.keep_alive && drained,
            body,
        }
    }
}

fn within(length: usize, max: usize, problem: &'static str) -> Result<Option<Reply>, Malformed> {
    if length > max {
        return Err(Malformed(problem));
    }
    Ok(None)
}

fn find_head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes
        .get(from..)?
        .windows(4)
        .position(|four| four == b"\r\n\r\n")?;
    Some(from + found + 4)
}

/// `head` ends with the blank line.
fn parse_head(head: &[u8], head_request: bool) -> Result<Head, Malformed> {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (minor, status) = parse_status_line(lines.next().unwrap_or_default())?;
    // RFC 9112 §9.3: connections persist by default since HTTP/1.1.
    let mut keep_alive = minor >= 1;
    let mut length: Option<usize> = None;
    let mut chunked = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .ok_or(Malformed("header without a colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let announced = parse_number(value, 10).ok_or(Malformed("bad content length"))?;
            if announced > BODY_BYTES_MAX {
                return Err(Malformed("body too long"));
            }
            // RFC 9112 §6.3: two different lengths are an attack or a bug.
            if length.is_some_and(|earlier| earlier != announced) {
                return Err(Malformed("two content lengths"));
            }
            length = Some(announced);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = has_token(value, b"chunked");
        } else if name.eq_ignore_ascii_case(b"connection") {
            keep_alive =
                (keep_alive || has_token(value, b"keep-alive")) && !has_token(value, b"close");
        }
    }
    // RFC 9112 §6.3 in its order: no body, chunks, a length, the end of the connection.
    let bodiless = head_request || status < 200 || status == 204 || status == 304;
    let length = match length {
        _ if bodiless => Length::Exact(0),
        _ if chunked => Length::Chunked,
        Some(length) => Length::Exact(length),
        None => Length::UntilClose,
    };
    Ok(Head {
        status,
        keep_alive,
        length,
    })
}

/// `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 §4); the minor version and the status.
fn parse_status_line(line: &[u8]) -> Result<(u8, u16), Malformed> {
    let rest = line
        .strip_prefix(b"HTTP/1.")
        .ok_or(Malformed("not an HTTP/1 reply"))?;
    let [minor @ b'0'..=b'9', b' ', status @ ..] = rest else {
        return Err(Malformed("bad status line"));
    };
    let (digits, reason) = status
        .split_at_checked(3)
        .ok_or(Malformed("bad status line"))?;
    if !reason.is_empty() && reason[0] != b' ' {
        return Err(Malformed("bad status line"));
    }
    let status = parse_number(digits, 10)
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..1000).contains(status))
        .ok_or(Malformed("bad status"))?;
    Ok((minor - b'0', status))
}

/// Digits only: no sign, no spaces, nothing empty, nothing that overflows.
fn parse_number(digits: &[u8], radix: u32) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |value, &byte| {
        let digit = usize::try_from(char::from(byte).to_digit(radix)?).ok()?;
        value
            .checked_mul(usize::try_from(radix).ok()?)?
            .checked_add(digit)
    })
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Decodes whole chunks from `at` on (RFC 9112 §7.1); returns where the reply ends once the last chunk and the trailers are in.
fn decode_chunks(
    bytes: &[u8],
    at: &mut usize,
    decoded: &mut Vec<u8>,
) -> Result<Option<usize>, Malformed> {
    loop {
        let Some((line, data)) = next_line(bytes, *at)? else {
            return Ok(None);
        };
        let digits = line
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let size = parse_number(digits, 16).ok_or(Malformed("bad chunk size"))?;
        if size > BODY_BYTES_MAX - decoded.len().min(BODY_BYTES_MAX) {
            return Err(Malformed("body too long"));
        }
        if size == 0 {
            return end_of_trailers(bytes, data);
        }
        let Some(chunk) = bytes.get(data..data + size + 2) else {
            return Ok(None);
        };
        let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
            return Err(Malformed("chunk without an end"));
        };
        decoded.extend_from_slice(chunk);
        *at = data + size + 2;
    }
}

fn end_of_trailers(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Malformed> {
    let start = at;
    while let Some((line, next)) = next_line(bytes, at)? {
        if line.is_empty() {
            return Ok(Some(next));
        }
        at = next;
        within(at - start, HEAD_BYTES_MAX, "trailers too long")?;
    }
    Ok(None)
}

/// The line from `at` without its end, and where the next one starts.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest
        .windows(2)
        .take(CHUNK_LINE_BYTES_MAX)
        .position(|two| two == b"\r\n")
    {
        Some(end) => Ok(Some((&rest[..end], at + end + 2))),
        None if rest.len() > CHUNK_LINE_BYTES_MAX => Err(Malformed("chunk line too long")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` cut at `cuts` and returns status, body and keep-alive.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<Option<(u16, Vec<u8>, bool)>, Malformed> {
        let mut reader = Reader::new(false);
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        edges.extend([0, bytes.len()]);
        edges.sort_unstable();
        let mut last = None;
        for pair in edges.windows(2) {
            if let Some(reply) = reader.feed(&bytes[pair[0]..pair[1]])? {
                last = Some((reply.status, reader.body(&reply).to_vec(), reply.keep_alive));
            }
        }
        Ok(last)
    }

    #[track_caller]
    fn check(bytes: &[u8], expect: Option<(u16, &[u8], bool)>) {
        let expect = expect.map(|(status, body, keep)| (status, body.to_vec(), keep));
        assert_eq!(read(bytes, &[]), Ok(expect));
    }

    #[test]
    fn ends_by_length_chunks_or_status() {
        check(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            Some((200, b"hi", true)),
        );
        check(b"HTTP/1.1 200 OK\r\nCONTENT-Length: 3\r\n\r\nhi", None);
        check(b"HTTP/1.1 204\r\n\r\n", Some((204, b"", true)));
        check(
            b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some((200, b"", false)),
        );
        check(
            b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n",
            Some((200, b"", false)),
        );
        check(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nt: 1\r\n\r\n",
            Some((503, b"abc", true)),
        );
        // What follows a reply unasked makes the connection useless.
        check(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nhi",
            Some((200, b"h", false)),
        );
    }

    #[test]
    fn ends_with_the_connection() {
        let mut reader = Reader::new(false);
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhi"), Ok(None));
        let reply = reader.end().unwrap();
        assert_eq!((reader.body(&reply), reply.keep_alive), (&b"hi"[..], false));
        let mut cut = Reader::new(false);
        assert_eq!(
            cut.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"),
            Ok(None)
        );
        assert_eq!(cut.end(), None);
    }

    #[test]
    fn a_reply_to_head_has_no_body() {
        let mut reader = Reader::new(true);
        let reply = reader
            .feed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
            .unwrap();
        assert_eq!(reply.unwrap().status, 200);
    }

    #[test]
    fn refuses_what_is_not_a_reply() {
        for bytes in [
            &b"SMTP ready\r\n\r\n"[..],
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert!(read(bytes, &[]).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(read(&vec![b'a'; HEAD_BYTES_MAX + 1], &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(any::<usize>(), 0..4)) {
            let _any = read(&bytes, &cuts);
            let mut replylike = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            replylike.extend(&bytes);
            let _any = read(&replylike, &cuts);
        }

        #[test]
        fn cuts_change_nothing(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            chunk in 1usize..50,
            chunked in any::<bool>(),
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
            if chunked {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for part in body.chunks(chunk) {
                    bytes.extend(format!("{:x}\r\n", part.len()).bytes());
                    bytes.extend(part);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            } else {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(&body);
            }
            prop_assert_eq!(read(&bytes, &cuts), Ok(Some((200, body, true))));
        }
    }
}
