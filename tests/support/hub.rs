//! A hub on this machine: it speaks the protocol of the Hugging Face hub, large files by way of a second host as its CDN
//! does, and makes mistakes where it is told to.

mod http;
mod write;

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
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::program::program;

pub(crate) use http::Request;
use http::{Answer, read_request};
use write::Storage;

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

/// A model as the hub shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownModel {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) is_private: bool,
    /// The summaries of the commits, the newest one last.
    pub(crate) commits: Vec<String>,
}

/// A hub that serves a model, and takes others.
pub(crate) struct HubServer {
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    models: Mutex<BTreeMap<String, ShownModel>>,
    storage: Mutex<Storage>,
    /// The token without which nothing is given.
    token: Option<&'static str>,
    /// Address of the hub itself.
    own: String,
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
            models: Mutex::new(BTreeMap::from([(
                ID.to_owned(),
                ShownModel { commit: COMMIT.to_owned(), files: files.collect(), ..ShownModel::default() },
            )])),
            storage: Mutex::default(),
            token,
            own: own.clone(),
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

    /// Returns the requests so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Returns the requests so far, and forgets them.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.log.lock().unwrap())
    }

    /// Returns whether a fault was not met.
    pub(crate) fn has_faults(&self) -> bool {
        !self.shared.faults.lock().unwrap().is_empty()
    }

    /// Returns a model as it is shown now; `None` where there is none.
    pub(crate) fn shown(&self, id: &str) -> Option<ShownModel> {
        self.shared.models.lock().unwrap().get(id).cloned()
    }

    /// Changes a model, or makes it, as somebody else would.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut ShownModel)) {
        change(self.shared.models.lock().unwrap().entry(id.to_owned()).or_default());
    }

    /// Lets the storage number parts from 0, which it should not.
    pub(crate) fn number_parts_from_zero(&self) {
        self.shared.storage.lock().unwrap().counts_from_zero = true;
    }

    /// Lets the storage ask for parts of so many bytes.
    pub(crate) fn ask_for_parts(&self, bytes: usize) {
        self.shared.storage.lock().unwrap().part = Some(bytes);
    }

    /// Forgets the large files that no commit names.
    pub(crate) fn forget_uploads(&self) {
        self.shared.storage.lock().unwrap().contents.clear();
    }

    /// The program, which takes this for the hub and has a cache of its own in `home`.
    pub(crate) fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(program());
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
        if request.method != "GET" && request.method != "HEAD" {
            return self.write(request);
        }
        let path = request.path.split('?').next().unwrap();
        let path = path.strip_prefix('/').unwrap();
        let models = self.models.lock().unwrap();
        let model_of = |path: &str| {
            let id = path.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
            let rest = path[id.len()..].to_owned();
            models.get(&id).map(|model| (id, model, rest))
        };
        if let Some(path) = path.strip_prefix("api/models/") {
            let Some((id, model, rest)) = model_of(path) else { return refusal(404, "RepoNotFound") };
            let is_tree = rest.starts_with("/tree/");
            let revision = rest.strip_prefix(if is_tree { "/tree/" } else { "/revision/" }).unwrap_or("main");
            return match revision {
                revision if !["main", "refs%2Fpr%2F1", &model.commit].contains(&revision) => {
                    refusal(404, "RevisionNotFound")
                }
                _ if is_tree => tree(model),
                _ => info(&id, model),
            };
        }
        let Some((id, model, rest)) = model_of(path) else { return refusal(404, "RepoNotFound") };
        let name =
            [&model.commit, "main"].iter().find_map(|revision| rest.strip_prefix(&format!("/resolve/{revision}/")));
        let Some(name) = name else { return refusal(404, "RepoNotFound") };
        let Some(bytes) = model.files.get(name) else { return refusal(404, "EntryNotFound") };
        let etag = format!("\"{}\"", git_blob(bytes));
        let commit = if matches!(fault, Some(Fault::OtherCommit)) { "f".repeat(40) } else { model.commit.clone() };
        if bytes.len() < LARGE {
            return part(bytes, request, fault).with("X-Repo-Commit", commit).with("ETag", etag);
        }
        let folder = if id == ID { String::new() } else { format!("{id}/") };
        Answer::new(302)
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(bytes)))
            .with("X-Linked-Size", bytes.len().to_string())
            .with("Location", format!("{}/cdn/{folder}{name}?signature=secret", self.cdn.lock().unwrap()))
    }

    fn cdn(&self, request: &Request, fault: Option<&Fault>) -> Answer {
        if request.method != "GET" {
            return self.store(request);
        }
        let path = request.path.strip_prefix("/cdn/").and_then(|path| path.strip_suffix("?signature=secret"));
        let models = self.models.lock().unwrap();
        let found = path.and_then(|path| match path.rsplit_once('/') {
            Some((id, name)) => models.get(id)?.files.get(name),
            None => models[ID].files.get(path),
        });
        let name = path;
        match found {
            Some(bytes) if self.spoilt.lock().unwrap().as_deref() == name => {
                let mut bytes = bytes.clone();
                *bytes.last_mut().unwrap() ^= 1;
                part(&bytes, request, fault)
            }
            Some(bytes) => part(bytes, request, fault),
            None => Answer::new(403),
        }
    }
}

/// The files as the Python client asks for them.
fn tree(model: &ShownModel) -> Answer {
    let entries: Vec<_> = (model.files.iter())
        .map(|(name, bytes)| {
            let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git_blob(bytes) });
            if bytes.len() >= LARGE {
                entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 135 });
                entry["xetHash"] = json!(xet_hash(bytes));
            }
            entry
        })
        .collect();
    let tree = serde_json::Value::from(entries);
    Answer::new(200).with("Content-Type", "application/json").of(tree.to_string().into_bytes())
}

fn info(id: &str, model: &ShownModel) -> Answer {
    let siblings: Vec<_> = (model.files.iter())
        .map(|(name, bytes)| {
            let mut entry = json!({ "rfilename": name, "size": bytes.len(), "blobId": git_blob(bytes) });
            if bytes.len() >= LARGE {
                entry["lfs"] = json!({ "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 135 });
            }
            entry
        })
        .collect();
    let info = json!({ "_id": "1", "id": id, "modelId": id, "sha": model.commit, "private": model.is_private, "tags": [],
            "downloads": 0, "likes": 0, "siblings": siblings });
    Answer::new(200).with("Content-Type", "application/json").of(info.to_string().into_bytes())
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
    hex(&Sha256::digest(bytes))
}

/// The name that git gives to a file's content.
pub(crate) fn git_blob(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

/// What stands for the hash of the hub's other storage, by which a cache shares content between models.
pub(crate) fn xet_hash(bytes: &[u8]) -> String {
    sha256(&[bytes, b"xet"].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
