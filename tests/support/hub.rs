//! A hub on this machine: it speaks the protocol of the Hugging Face hub, large files by way of a second host as its CDN
//! does, and makes mistakes where it is told to.

mod http;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

pub(crate) use http::Request;
use http::{Answer, read_request};

pub(crate) const ID: &str = "org/tiny";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of this size and more are handed out by the second host.
const LARGE: usize = 16 << 10;

/// A mistake that the hub makes once.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A status, with headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the body.
    Drop(usize),
    /// The whole file in place of a range.
    Whole,
    /// A range that was not asked for.
    OtherRange,
    /// A file that is one byte longer than listed.
    Longer,
    /// The pointer of git-lfs in place of the file.
    Pointer,
    /// An answer from another commit.
    OtherCommit,
    /// A pause in the middle of the body.
    Pause(Duration),
}

/// A hub that serves one model.
pub(crate) struct HubServer {
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    /// The token without which nothing is given.
    token: Option<&'static str>,
    /// Address of the second host.
    cdn: Mutex<String>,
    faults: Mutex<Vec<(String, Fault)>>,
    log: Mutex<Vec<Request>>,
    /// The file whose last byte is another than was published.
    spoilt: Mutex<Option<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Hub,
    Cdn,
}

impl HubServer {
    /// Serves the files of a directory.
    pub(crate) fn of(dir: &Path) -> Self {
        Self::with_token(dir, None)
    }

    /// Serves the files of a directory to those who show this token.
    pub(crate) fn with_token(dir: &Path, token: Option<&'static str>) -> Self {
        let files = fs::read_dir(dir).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        });
        let [hub, cdn] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (own, cdn_address) = (address(&hub), address(&cdn));
        let shared = Arc::new(Shared {
            files: files.collect(),
            token,
            cdn: Mutex::new(cdn_address),
            faults: Mutex::default(),
            log: Mutex::default(),
            spoilt: Mutex::default(),
        });
        for (listener, host) in [(hub, Host::Hub), (cdn, Host::Cdn)] {
            let shared = Arc::clone(&shared);
            // The threads end with the process.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.serve(stream, host));
                }
            });
        }
        Self { address: own, shared }
    }

    /// Calls the second host by this name of the machine.
    pub(crate) fn name_cdn(&self, name: &str) {
        let mut address = self.shared.cdn.lock().unwrap();
        *address = address.replace("127.0.0.1", name);
    }

    /// Lets the next request whose path contains `path` meet this fault; several are met one after the other.
    pub(crate) fn fault(&self, path: &str, fault: Fault) {
        self.shared.faults.lock().unwrap().push((path.to_owned(), fault));
    }

    /// Forgets the faults that were not met.
    pub(crate) fn forget_faults(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Hands out this file with its last byte changed.
    pub(crate) fn spoil(&self, name: &str) {
        *self.shared.spoilt.lock().unwrap() = Some(name.to_owned());
    }

    /// Returns the requests so far, and forgets them.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.log.lock().unwrap())
    }

    /// Returns whether a fault was not met.
    pub(crate) fn has_faults(&self) -> bool {
        !self.shared.faults.lock().unwrap().is_empty()
    }

    /// The program, which takes this for the hub and has a cache of its own in `home`.
    pub(crate) fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-fp8"));
        command.env_clear().env("HOME", home).env("HF_ENDPOINT", &self.address).current_dir(home);
        if let Some(token) = self.shared.token {
            command.env("HF_TOKEN", token);
        }
        command
    }
}

impl Shared {
    /// Answers the requests of a connection until it ends.
    fn serve(&self, stream: TcpStream, host: Host) {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader, host == Host::Cdn) {
            let fault = {
                let mut faults = self.faults.lock().unwrap();
                let at = faults.iter().position(|(path, _)| request.path.contains(path.as_str()));
                at.map(|at| faults.remove(at).1)
            };
            self.log.lock().unwrap().push(request.clone());
            let mut answer = match (&fault, host) {
                (Some(Fault::Status(status, headers)), _) => Answer::new(*status).with_all(headers),
                (_, Host::Hub) => self.hub(&request, fault.as_ref()),
                (_, Host::Cdn) => self.cdn(&request, fault.as_ref()),
            };
            match fault {
                Some(Fault::Drop(bytes)) => answer.ends_after = Some(bytes),
                Some(Fault::Pause(pause)) => answer.pause = Some(pause),
                _ => {}
            }
            if !answer.write(&stream, request.method == "HEAD") {
                break;
            }
        }
    }

    fn hub(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        let authorization = self.token.map(|token| format!("Bearer {token}"));
        if authorization.is_some() && request.authorization != authorization {
            return refusal(401, "RepoNotFound");
        }
        let path = request.path.split('?').next().unwrap();
        if let Some(rest) = path.strip_prefix(&format!("/api/models/{ID}")) {
            let is_tree = rest.starts_with("/tree/");
            let revision = rest.strip_prefix(if is_tree { "/tree/" } else { "/revision/" });
            return match revision.unwrap_or("main") {
                "main" | COMMIT | "refs%2Fpr%2F1" if is_tree => self.tree(),
                "main" | COMMIT | "refs%2Fpr%2F1" => self.info(),
                _ => refusal(404, "RevisionNotFound"),
            };
        }
        let file =
            [COMMIT, "main"].iter().find_map(|revision| path.strip_prefix(&format!("/{ID}/resolve/{revision}/")));
        let Some(name) = file else { return refusal(404, "RepoNotFound") };
        let Some(bytes) = self.files.get(name) else { return refusal(404, "EntryNotFound") };
        let etag = format!("\"{}\"", sha256(bytes));
        let commit = if matches!(fault, Some(Fault::OtherCommit)) { "f".repeat(40) } else { COMMIT.to_owned() };
        if bytes.len() < LARGE {
            return part(bytes, request, fault).with("X-Repo-Commit", commit).with("ETag", etag);
        }
        Answer::new(302)
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Etag", etag)
            .with("X-Linked-Size", bytes.len().to_string())
            .with("Location", format!("{}/cdn/{name}?signature=secret", self.cdn.lock().unwrap()))
    }

    fn cdn(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        let name = request.path.strip_prefix("/cdn/").and_then(|path| path.strip_suffix("?signature=secret"));
        match name.and_then(|name| self.files.get(name)) {
            Some(bytes) if self.spoilt.lock().unwrap().as_deref() == name => {
                let mut bytes = bytes.clone();
                *bytes.last_mut().unwrap() ^= 1;
                part(&bytes, request, fault)
            }
            Some(bytes) => part(bytes, request, fault),
            None => Answer::new(403),
        }
    }

    /// The files as the Python client asks for them.
    fn tree(&self) -> Answer {
        let entries: Vec<_> = (self.files.iter())
            .map(|(name, bytes)| {
                let sum = sha256(bytes);
                let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": sum[..40] });
                if bytes.len() >= LARGE {
                    entry["lfs"] = json!({ "oid": sum, "size": bytes.len(), "pointerSize": 135 });
                }
                entry
            })
            .collect();
        let tree = serde_json::Value::from(entries);
        Answer::new(200).with("Content-Type", "application/json").of(tree.to_string().into_bytes())
    }

    fn info(&self) -> Answer {
        let siblings: Vec<_> = (self.files.iter())
            .map(|(name, bytes)| {
                let sum = sha256(bytes);
                let mut entry = json!({ "rfilename": name, "size": bytes.len(), "blobId": sum[..40] });
                if bytes.len() >= LARGE {
                    entry["lfs"] = json!({ "sha256": sum, "size": bytes.len(), "pointerSize": 135 });
                }
                entry
            })
            .collect();
        let info = json!({ "_id": "1", "id": ID, "modelId": ID, "sha": COMMIT, "private": false, "tags": [],
            "downloads": 0, "likes": 0, "siblings": siblings });
        Answer::new(200).with("Content-Type", "application/json").of(info.to_string().into_bytes())
    }
}

/// The bytes of a file that were asked for.
fn part(bytes: &[u8], request: &Request, fault: Option<&Fault>) -> Answer {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec();
    let bytes = match fault {
        Some(Fault::Longer) => [bytes, &[0]].concat(),
        Some(Fault::Pointer) => pointer,
        _ => bytes.to_vec(),
    };
    let size = bytes.len();
    let Some(Range { start, end }) = request.range.clone().filter(|_| !matches!(fault, Some(Fault::Whole))) else {
        return Answer::new(200).of(bytes);
    };
    let end = end.min(size);
    let start = if matches!(fault, Some(Fault::OtherRange)) { start + 1 } else { start };
    if start >= end {
        return Answer::new(416).with("Content-Range", format!("bytes */{size}"));
    }
    Answer::new(206).with("Content-Range", format!("bytes {start}-{}/{size}", end - 1)).of(bytes[start..end].to_vec())
}

fn refusal(status: u16, code: &str) -> Answer {
    Answer::new(status).with("X-Error-Code", code).with("X-Error-Message", "refused")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
