//! As much of HTTP/1.1 as a hub needs.

use std::io::{BufRead, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<Range<usize>>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Set where the second host was asked.
    pub(crate) of_cdn: bool,
}

/// Reads the next request; `None` where the connection ends.
pub(super) fn read_request(reader: &mut impl BufRead, of_cdn: bool) -> Option<Request> {
    let first = read_line(reader)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, range: None, authorization: None, body: Vec::new(), of_cdn };
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("range", value) => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                let last = if last.is_empty() { usize::MAX - 1 } else { last.parse().ok()? };
                request.range = Some(first.parse().ok()?..last + 1);
            }
            ("authorization", value) => request.authorization = Some(value.to_owned()),
            ("content-length", value) => length = value.parse().ok()?,
            ("transfer-encoding", value) => is_chunked = value == "chunked",
            _ => {}
        }
    }
    if !is_chunked {
        request.body = read_bytes(reader, length)?;
        return Some(request);
    }
    loop {
        let size = usize::from_str_radix(&read_line(reader)?, 16).ok()?;
        request.body.extend(read_bytes(reader, size)?);
        read_line(reader)?;
        if size == 0 {
            return Some(request);
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn read_bytes(reader: &mut impl BufRead, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// What a server says.
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(super) ends_after: Option<usize>,
    /// A pause in the middle of the body.
    pub(super) pause: Option<Duration>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), ends_after: None, pause: None }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn with_all(self, headers: &[(&'static str, String)]) -> Self {
        headers.iter().fold(self, |answer, (name, value)| answer.with(name, value))
    }

    pub(super) fn of(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Writes the answer; returns whether the connection goes on.
    pub(super) fn write(self, mut stream: &TcpStream, is_head: bool) -> bool {
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", self.status, self.body.len());
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let body = if is_head { &[] } else { &self.body[..self.ends_after.unwrap_or(usize::MAX).min(self.body.len())] };
        let (first, second) = body.split_at(body.len() / 2);
        let mut written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first));
        if let Some(pause) = self.pause {
            thread::sleep(pause);
        }
        written = written.and_then(|()| stream.write_all(second));
        if self.ends_after.is_some() {
            let _ = stream.shutdown(Shutdown::Both);
            return false;
        }
        written.is_ok()
    }
}
