//! Google Cloud Storage as its documents describe the XML interface, over the S3 server of the tests.
//!
//! Emulators in registries do not speak this interface with puts and uploads by parts. Google made it nearly that of S3, and this
//! translates what differs: who asks, generations and the conditions on them, tags of what was uploaded by parts, and answers
//! to the removal of what is not there. It refuses what Google does not promise, so that nothing rests on the server of S3.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use super::proxy::{decoded, read_message};
use super::server::AUTHORIZATION;

/// What a command is told of the server at this address: an account of a service that needs no token.
pub(crate) fn variables(mut command: Command, endpoint: &str) -> Command {
    let account = serde_json::json!({
        "gcs_base_url": endpoint, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "",
    });
    command.env("GOOGLE_SERVICE_ACCOUNT_KEY", account.to_string());
    command
}

pub(crate) struct GoogleServer {
    pub(crate) port: u16,
}

impl GoogleServer {
    /// Starts one, whose buckets are those of the S3 server at this port.
    pub(crate) fn over(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let translation = Arc::new(Translation { server, objects: Mutex::default() });
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let translation = Arc::clone(&translation);
                thread::spawn(move || {
                    // A client that is gone is no matter.
                    let _ = translation.serve(stream);
                });
            }
        });
        Self { port }
    }
}

struct Translation {
    /// The port of the S3 server.
    server: u16,
    objects: Mutex<Generations>,
}

/// The tag and the generation that each object had when it was last looked at, by path. Tests also write past this server.
#[derive(Default)]
struct Generations {
    known: HashMap<String, (String, u64)>,
    last: u64,
}

struct Request {
    method: String,
    /// Path and query as they came; the path alone, with what its signs stand for.
    target: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Translation {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        // The proxy before it asks once on each connection, and reads to its end.
        let Some((head, body)) = read_message(&mut BufReader::new(client.try_clone()?))? else { return Ok(()) };
        let request = Request::of(&head, body);
        let answer = self.answer(&request)?;
        client.write_all(&answer.bytes(request.method == "HEAD"))
    }

    fn answer(&self, request: &Request) -> std::io::Result<Answer> {
        // A token that is empty is not sent with every request.
        if request.header("authorization").is_some_and(|value| !value.starts_with("Bearer")) {
            return Ok(Answer::refusal(401, "AuthenticationRequired"));
        }
        let of_upload = request.asks("uploads") || request.asks("uploadId");
        let generation = request.header("x-goog-if-generation-match");
        let is_write = request.method != "GET" && request.method != "HEAD";
        let foreign = |name: &str| name.starts_with("x-amz-") || (is_write && name.starts_with("if-"));
        // "Preconditions are not supported" in uploads by parts, and writes have those of generations alone.
        if (of_upload && generation.is_some()) || request.headers.iter().any(|(name, _)| foreign(name)) {
            return Ok(Answer::refusal(400, "InvalidArgument"));
        }
        // Parts go side by side; all else has its turn, so that a generation is that of the answer.
        let is_part = request.method == "PUT" && of_upload;
        if is_part || request.path.trim_matches('/').split('/').count() == 1 {
            return self.forward(request, None);
        }
        let mut objects = self.objects.lock().unwrap();
        let found = objects.look(request, self.server)?;
        let condition = match (generation, &found) {
            (None, _) => None,
            // Refused by the server where something is there.
            (Some("0"), _) => Some("If-None-Match: *".to_owned()),
            (Some(wanted), Some((tag, generation))) if *wanted == generation.to_string() => {
                Some(format!("If-Match: {tag}"))
            }
            (Some(_), _) => return Ok(Answer::refusal(412, "PreconditionFailed")),
        };
        if request.method == "DELETE" && !of_upload && found.is_none() {
            return Ok(Answer::refusal(404, "NoSuchKey"));
        }
        let mut answer = self.forward(request, condition)?;
        let makes = (request.method == "PUT" && !of_upload) || (request.method == "POST" && request.asks("uploadId"));
        if makes && answer.status == 200 {
            // The same bytes once more are another generation.
            objects.known.remove(&request.path);
        }
        if (!is_write || makes)
            && let Some((_, generation)) = objects.look(request, self.server)?
        {
            answer.headers.push(("x-goog-generation".to_owned(), generation.to_string()));
        }
        Ok(answer)
    }

    /// Asks the S3 server, and returns its answer with Google's tags and without what is of S3 alone.
    fn forward(&self, request: &Request, condition: Option<String>) -> std::io::Result<Answer> {
        let mut lines: Vec<String> = condition.into_iter().collect();
        for (name, value) in &request.headers {
            match name.as_str() {
                "authorization" | "connection" | "host" => {}
                "if-match" => lines.push(format!("{name}: {}", tag_of_s3(value))),
                _ if name.starts_with("x-goog-") => {}
                _ => lines.push(format!("{name}: {value}")),
            }
        }
        let mut answer = ask(self.server, request, &lines)?;
        answer.headers.retain(|(name, _)| !name.starts_with("x-amz"));
        for (name, value) in &mut answer.headers {
            if name == "etag" {
                *value = tag_of_google(value);
            }
        }
        if answer.headers.iter().any(|(name, value)| name == "content-type" && value.contains("xml")) {
            answer.body = with_tags_of_google(&String::from_utf8_lossy(&answer.body)).into_bytes();
        }
        Ok(answer)
    }
}

impl Generations {
    /// Returns the S3 server's tag of the object that a request is for, and its generation.
    fn look(&mut self, request: &Request, server: u16) -> std::io::Result<Option<(String, u64)>> {
        let path = request.path.clone();
        let head =
            Request { method: "HEAD".to_owned(), target: path.clone(), path, headers: Vec::new(), body: Vec::new() };
        let answer = ask(server, &head, &[])?;
        let tag = answer.headers.iter().find(|(name, _)| name == "etag");
        let Some((_, tag)) = tag.filter(|_| answer.status == 200) else {
            self.known.remove(&head.path);
            return Ok(None);
        };
        let known = self.known.entry(head.path).or_default();
        if known.0 != *tag {
            self.last += 1;
            *known = (tag.clone(), 1_700_000_000_000_000 + self.last);
        }
        Ok(Some(known.clone()))
    }
}

impl Request {
    fn of(head: &[String], body: Vec<u8>) -> Self {
        let mut words = head[0].split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let path = decoded(target.split('?').next().unwrap());
        Self { method, target, path, headers: headers_of(head), body }
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// Whether the query has this key.
    fn asks(&self, key: &str) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|part| part.split('=').next() == Some(key))
    }
}

impl Answer {
    fn refusal(status: u16, code: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
        Self { status, headers, body: format!("<Error><Code>{code}</Code></Error>").into_bytes() }
    }

    fn bytes(mut self, is_of_head: bool) -> Vec<u8> {
        if !is_of_head {
            self.headers.retain(|(name, _)| name != "content-length");
            self.headers.push(("content-length".to_owned(), self.body.len().to_string()));
        }
        let mut text = format!("HTTP/1.1 {} X\r\n", self.status);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "connection" && name != "transfer-encoding")
        {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if !is_of_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Makes a request of the S3 server.
fn ask(server: u16, request: &Request, lines: &[String]) -> std::io::Result<Answer> {
    let query = request.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "{} {}{query} HTTP/1.1\r\nHost: 127.0.0.1:{server}\r\n{AUTHORIZATION}\r\n{lines}Connection: close\r\n\r\n",
        request.method, request.path
    );
    let mut stream = TcpStream::connect(("127.0.0.1", server))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(&request.body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head: Vec<String> = String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect();
    let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, headers: headers_of(&head), body: bytes[end + 4..].to_vec() })
}

fn headers_of(head: &[String]) -> Vec<(String, String)> {
    let split = head[1..].iter().filter_map(|line| line.split_once(':'));
    split.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// The tag that Google gives to an object that S3 gives this one: "not based on an MD5 hash" where it was uploaded by parts.
fn tag_of_google(tag: &str) -> String {
    match tag.split_once('-') {
        Some((before, parts)) => format!("{before}@{parts}"),
        None => tag.to_owned(),
    }
}

fn tag_of_s3(tag: &str) -> String {
    tag.replace('@', "-")
}

/// An answer in XML with Google's tags.
fn with_tags_of_google(text: &str) -> String {
    let mut parts = text.split("<ETag>");
    let mut translated = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, rest) = part.split_once("</ETag>").unwrap();
        translated.push_str(&format!("<ETag>{}</ETag>{rest}", tag_of_google(tag)));
    }
    translated
}
