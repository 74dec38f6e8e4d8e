//! What lies between the program and the server: it passes everything on, but where it is told to make a mistake.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A mistake, made with one request.
pub(crate) enum Mistake {
    /// An answer of the proxy's own: status, headers, body.
    Answer(u16, &'static str, &'static str),
    /// The connection ends after so many bytes of the answer's body.
    Short(usize),
    /// The request comes to the server, and its answer is lost.
    LoseAnswer,
    /// The connection ends before the server has heard of the request.
    LoseRequest,
    /// The conditions of the request are lost: the server never hears of them.
    Unconditional,
    /// The tags of the answer's body are lost.
    WithoutTags,
    /// Something happens on the server first.
    First(Box<dyn FnOnce() + Send>),
}

/// A request as tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, without the signs that stand for characters.
    pub(crate) target: String,
}

struct Planned {
    method: &'static str,
    part: String,
    /// Requests that it leaves alone before.
    skip: usize,
    /// Times that it is made; `None` for ever.
    times: usize,
    make: Box<dyn FnMut() -> Mistake + Send>,
}

#[derive(Default)]
struct Shared {
    planned: Mutex<Vec<Planned>>,
    seen: Mutex<Vec<Seen>>,
}

pub(crate) struct FaultyProxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl FaultyProxy {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                thread::spawn(move || {
                    // A client that is gone is no matter.
                    let _ = own.serve(stream, server);
                });
            }
        });
        Self { port, shared }
    }

    /// Plans mistakes for requests by this method whose target holds `part`, after `skip` of them.
    pub(crate) fn plan(
        &self,
        method: &'static str,
        part: &str,
        skip: usize,
        times: usize,
        make: impl FnMut() -> Mistake + Send + 'static,
    ) {
        let planned = Planned { method, part: part.to_owned(), skip, times, make: Box::new(make) };
        self.shared.planned.lock().unwrap().push(planned);
    }

    /// Plans one mistake for the first such request.
    pub(crate) fn once(&self, method: &'static str, part: &str, mistake: Mistake) {
        let mut mistake = Some(mistake);
        self.plan(method, part, 0, 1, move || mistake.take().unwrap());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Whether all mistakes that were planned a number of times were made.
    pub(crate) fn is_through(&self) -> bool {
        self.shared.planned.lock().unwrap().iter().all(|planned| planned.times == 0)
    }
}

impl Shared {
    fn mistake(&self, seen: &Seen) -> Option<Mistake> {
        let mut planned = self.planned.lock().unwrap();
        let of =
            planned.iter_mut().filter(|planned| planned.method == seen.method && seen.target.contains(&planned.part));
        for planned in of {
            if planned.skip > 0 {
                planned.skip -= 1;
            } else if planned.times > 0 {
                planned.times -= 1;
                return Some((planned.make)());
            }
        }
        None
    }

    fn serve(&self, client: TcpStream, server: u16) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        while let Some((mut head, body)) = read_message(&mut reader)? {
            let mut words = head[0].split(' ');
            let method = words.next().unwrap_or_default().to_owned();
            let seen = Seen { method, target: decoded(words.next().unwrap_or_default()) };
            self.seen.lock().unwrap().push(seen.clone());
            let mistake = self.mistake(&seen);
            let (mut short, mut is_lost, mut is_without_tags) = (None, false, false);
            match mistake {
                Some(Mistake::Answer(status, headers, text)) => {
                    let len = text.len();
                    write!(client, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {len}\r\n\r\n{text}")?;
                    continue;
                }
                Some(Mistake::LoseRequest) => return Ok(()),
                Some(Mistake::Short(bytes)) => short = Some(bytes),
                Some(Mistake::LoseAnswer) => is_lost = true,
                Some(Mistake::WithoutTags) => is_without_tags = true,
                Some(Mistake::Unconditional) => {
                    head.retain(|line| !line.to_ascii_lowercase().starts_with("if-"));
                }
                Some(Mistake::First(happen)) => happen(),
                None => {}
            }
            head.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
            head.push("Connection: close".to_owned());
            let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
            upstream.write_all((head.join("\r\n") + "\r\n\r\n").as_bytes())?;
            upstream.write_all(&body)?;
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer)?;
            if is_lost {
                return Ok(());
            }
            if is_without_tags {
                // As long as before: what stands there now means nothing to anybody.
                answer = String::from_utf8(answer).unwrap().replace("ETag>", "Etag>").into_bytes();
            }
            let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(0) + 4;
            if let Some(short) = short {
                return client.write_all(&answer[..(end + short).min(answer.len())]);
            }
            let text = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            client.write_all(&answer)?;
            // Without a length the end of the connection is that of the answer.
            if seen.method != "HEAD" && !text.contains("content-length:") {
                return Ok(());
            }
            if text.contains("connection: close") {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A target with the characters that `%` and two digits stand for: Google's way writes `/` so, and each `-` and `.`.
pub(crate) fn decoded(target: &str) -> String {
    let mut parts = target.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        text.push_str(&part[2..]);
    }
    text
}

/// The lines of a message's head, and its body; `None` at the end of the connection.
pub(crate) fn read_message(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<(Vec<String>, Vec<u8>)>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
