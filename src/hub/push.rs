//! A result that becomes a model on the hub with one commit.
//!
//! Large files go first, by their content: nothing shows them before the commit names them. The commit is made on condition
//! that the branch is where it was, so that of two that push to one model one is refused.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::remote::RemoteEntry;
use qwen_fp8_checkpoint::text::shown;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::access::HubAccess;
use crate::address::{part, path};
use crate::answer::json as read_json;
use crate::attempts::again;
use crate::client::{AskedFor, Client};
use crate::error::HubError;
use crate::lfs::{LfsContent, LfsStore};
use crate::model_info::ModelInfo;
use crate::read_through::read_through;
use crate::repository::MAIN;
use crate::send::{JSON, JSON_LINES, Outgoing};

/// Files that the hub makes with a model, which a push may replace.
const OF_NEW_MODEL: [&str; 2] = [".gitattributes", "README.md"];

/// The summary of the commit.
const MESSAGE: &str = concat!("Quantized by qwen-fp8 ", env!("CARGO_PKG_VERSION"));

/// Bytes from the beginning of a file by which the hub tells text.
const SAMPLE: u64 = 512;

/// Files that the hub is asked about at a time.
const ASKED_AT_ONCE: usize = 250;

/// A model on the hub that a result is pushed to.
pub struct HubPush {
    client: Client,
    id: String,
    branch: String,
    /// The commit that the branch was at.
    parent: String,
    address: String,
}

/// A file of the result.
#[derive(Clone, Debug)]
pub(crate) struct PushedFile {
    /// Path in the repository, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) content: PushedContent,
}

/// Where the content of a file is.
#[derive(Clone, Debug)]
pub(crate) enum PushedContent {
    OnDisk(PathBuf),
    /// The hub has it already.
    Uploaded {
        sha256: String,
        size: u64,
    },
}

/// How the hub wants to have a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UploadMode {
    /// Within the commit.
    Regular,
    /// Before it, by its content.
    Lfs,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<ModeOfFile>,
}

#[derive(Deserialize)]
struct ModeOfFile {
    path: String,
    #[serde(rename = "uploadMode")]
    mode: UploadMode,
}

#[derive(Deserialize)]
struct Committed {
    #[serde(rename = "commitUrl")]
    url: String,
}

impl HubPush {
    /// Finds the model that a result is to be pushed to, or makes it, visible to its owners alone where it `is_private`.
    ///
    /// # Errors
    /// There are files in it already, or this token may not write it.
    pub fn begin(access: HubAccess, id: &str, branch: Option<&str>, is_private: bool) -> Result<Self, HubError> {
        if !access.has_token() {
            return Err(HubError::NoToken { id: id.to_owned() });
        }
        let branch = branch.unwrap_or(MAIN).to_owned();
        let client = Client::new(access);
        let address = format!("{}/{}", client.access.endpoint, path(id));
        let mut push = Self { client, id: id.to_owned(), branch, parent: String::new(), address };
        let (parent, files) = match push.state() {
            Err(HubError::NoModel { .. }) => {
                push.make(is_private)?;
                push.state()?
            }
            state => state?,
        };
        if let Some(found) = files.into_iter().find(|file| !OF_NEW_MODEL.contains(&file.name.as_str())) {
            return Err(HubError::Occupied { address: push.address, found: found.name });
        }
        push.parent = parent;
        Ok(push)
    }

    /// The address of the model.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the commit that the branch is at, and its files.
    fn state(&self) -> Result<(String, Vec<RemoteEntry>), HubError> {
        let url = format!("{}?blobs=true", self.api(&format!("revision/{}", part(&self.branch))));
        let subject = AskedFor { id: &self.id, revision: &self.branch, is_model: true };
        let info = again(|| {
            let answer = self.client.get(&url, None, subject)?;
            read_json::<ModelInfo>(&self.client, answer, "it is no description of a model")
        })?;
        info.files(&url)
    }

    /// Makes the model.
    fn make(&self, is_private: bool) -> Result<(), HubError> {
        let (organization, name) =
            self.id.split_once('/').map_or((None, self.id.as_str()), |(org, name)| (Some(org), name));
        let mut asked = json!({ "type": "model", "name": name, "organization": organization });
        if is_private {
            asked["visibility"] = json!("private");
        }
        let url = format!("{}/api/repos/create", self.client.access.endpoint);
        match again(|| self.client.post(&url, JSON, &asked)) {
            // Made meanwhile, or by an attempt whose answer was lost.
            Ok(_) | Err(HubError::Refused { status: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn api(&self, rest: &str) -> String {
        format!("{}/api/models/{}/{rest}", self.client.access.endpoint, path(&self.id))
    }

    fn lfs<'a>(&'a self, progress: &'a dyn ProgressSink) -> LfsStore<'a> {
        let url = format!("{}.git/info/lfs/objects/batch", self.address);
        LfsStore { client: &self.client, url, branch: &self.branch, progress }
    }

    /// Asks how the hub wants to have a file that lies on this machine.
    pub(crate) fn mode(&self, name: &str, file: &File, size: u64) -> Result<UploadMode, HubError> {
        Ok(self.modes(&[(name, file, size)])?[0])
    }

    fn modes(&self, files: &[(&str, &File, u64)]) -> Result<Vec<UploadMode>, HubError> {
        let url = self.api(&format!("preupload/{}", part(&self.branch)));
        let mut modes = Vec::with_capacity(files.len());
        for files in files.chunks(ASKED_AT_ONCE) {
            let mut asked = Vec::new();
            for (name, file, size) in files {
                let mut sample = vec![0; SAMPLE.min(*size) as usize];
                file.read_exact_at(&mut sample, 0).map_err(HubError::file("read", name.as_ref()))?;
                asked.push(json!({ "path": name, "size": size, "sample": STANDARD.encode(&sample) }));
            }
            let asked = json!({ "files": asked });
            let answer = again(|| {
                let answer = self.client.post(&url, JSON, &asked)?;
                read_json::<Modes>(&self.client, answer, "it does not say how files are to be uploaded")
            })?;
            for (name, _, size) in files {
                let told = answer.files.iter().find(|file| file.path == *name).map(|file| file.mode);
                let detail = || format!("it does not say how to upload {}", shown(name));
                let told = told.ok_or_else(|| HubError::Unusable { url: url.clone(), detail: detail() })?;
                // Storage takes no file of no bytes.
                modes.push(if *size == 0 { UploadMode::Regular } else { told });
            }
        }
        Ok(modes)
    }

    /// Sends the content of a file, unless the hub has it, and returns its SHA-256.
    ///
    /// # Errors
    /// The hub does not take it; or the work is cancelled.
    pub(crate) fn upload(
        &self,
        path: &Path,
        file: &File,
        size: u64,
        progress: &dyn ProgressSink,
    ) -> Result<String, HubError> {
        let sha256 = sha256_of(path, file, size, progress)?;
        let content = LfsContent { sha256, size };
        self.lfs(progress).upload(&content, file)?;
        progress.advanced(size);
        Ok(content.sha256)
    }

    /// Returns which of these contents the hub does not have.
    pub(crate) fn missing(
        &self,
        contents: &[LfsContent],
        progress: &dyn ProgressSink,
    ) -> Result<Vec<LfsContent>, HubError> {
        self.lfs(progress).missing(contents)
    }

    /// Makes the commit that shows the files of a directory, and those of folders in it.
    ///
    /// # Errors
    /// A file cannot be read or sent; or somebody else has pushed since [`HubPush::begin`]; or the work is cancelled. Nothing is
    /// then shown.
    pub fn push_directory(&self, dir: &Path, progress: &dyn ProgressSink) -> Result<String, HubError> {
        let (mut files, mut folders, mut bytes) = (Vec::new(), vec![String::new()], 0);
        while let Some(folder) = folders.pop() {
            let path = dir.join(&folder);
            let entries = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in entries.map_err(HubError::file("list", &path))? {
                let name = format!("{folder}{}", entry.file_name().to_string_lossy());
                let found = fs::metadata(entry.path()).map_err(HubError::file("stat", &entry.path()))?;
                if found.is_dir() {
                    folders.push(name + "/");
                } else {
                    bytes += found.len();
                    files.push(PushedFile { name, content: PushedContent::OnDisk(entry.path()) });
                }
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        progress.reading("uploading", bytes);
        self.commit(&files, progress)
    }

    /// Makes the commit that shows the files, and returns its address. Those that are large are sent before.
    ///
    /// # Errors
    /// As [`HubPush::push_directory`].
    pub(crate) fn commit(&self, files: &[PushedFile], progress: &dyn ProgressSink) -> Result<String, HubError> {
        let header = json!({ "summary": MESSAGE, "description": "", "parentCommit": self.parent });
        let mut lines = json!({ "key": "header", "value": header }).to_string();
        let mut large = Vec::new();
        let mut add = |line: Value| lines.push_str(&format!("\n{line}"));
        let mut sent = |name: &str, sha256: &str, size: u64| {
            large.push((name.to_owned(), sha256.to_owned()));
            json!({ "key": "lfsFile", "value": { "path": name, "algo": "sha256", "oid": sha256, "size": size } })
        };
        let mut on_disk = Vec::new();
        for PushedFile { name, content } in files {
            match content {
                PushedContent::Uploaded { sha256, size } => add(sent(name, sha256, *size)),
                PushedContent::OnDisk(path) => {
                    let file = File::open(path).map_err(HubError::file("open", path))?;
                    let size = file.metadata().map_err(HubError::file("stat", path))?.len();
                    on_disk.push((name.as_str(), path, file, size));
                }
            }
        }
        let asked: Vec<_> = on_disk.iter().map(|(name, _, file, size)| (*name, file, *size)).collect();
        let modes = self.modes(&asked)?;
        for ((name, path, file, size), mode) in on_disk.iter().zip(modes) {
            progress.at(name);
            if mode == UploadMode::Lfs {
                let sha256 = self.upload(path, file, *size, progress)?;
                add(sent(name, &sha256, *size));
                continue;
            }
            let mut bytes = Vec::new();
            file.take(*size).read_to_end(&mut bytes).map_err(HubError::file("read", path))?;
            let content = STANDARD.encode(&bytes);
            add(json!({ "key": "file", "value": { "content": content, "path": name, "encoding": "base64" } }));
            progress.advanced(*size);
        }
        lines.push('\n');
        if progress.is_cancelled() {
            return Err(HubError::Cancelled);
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        self.send_commit(lines.as_bytes(), &names, &large)
    }

    fn send_commit(&self, lines: &[u8], names: &[&str], large: &[(String, String)]) -> Result<String, HubError> {
        let url = self.api(&format!("commit/{}", part(&self.branch)));
        let committed = again(|| {
            let (mut body, len) = (lines, lines.len() as u64);
            let outgoing = Outgoing { method: "POST", url: &url, headers: &[], kind: JSON_LINES, body: &mut body, len };
            read_json::<Committed>(&self.client, self.client.send(outgoing)?, "it does not tell the commit")
        });
        let error = match committed {
            Ok(Committed { url }) => return Ok(url),
            Err(error) => error,
        };
        // It may have come about with an attempt whose answer was lost, and then refuses the next one.
        let may_be_there =
            matches!(error, HubError::Unreachable { .. } | HubError::Status { .. } | HubError::Refused { .. });
        if let Some(commit) = may_be_there.then(|| self.is_there(names, large)).flatten() {
            return Ok(format!("{}/commit/{commit}", self.address));
        }
        Err(match error {
            HubError::Refused { status: 409 | 412, .. } => HubError::Moved { address: self.address.clone() },
            error => error,
        })
    }

    /// The commit that the branch is at, where it has moved and has the files and the contents of large ones.
    fn is_there(&self, names: &[&str], large: &[(String, String)]) -> Option<String> {
        let (commit, files) = self.state().ok().filter(|(commit, _)| *commit != self.parent)?;
        let has = |name: &str| files.iter().any(|found| found.name == name);
        let has_content = |(name, sha256): &(String, String)| {
            files.iter().any(|found| found.name == *name && found.sha256.as_ref() == Some(sha256))
        };
        (names.iter().all(|name| has(name)) && !large.is_empty() && large.iter().all(has_content)).then_some(commit)
    }
}

/// Returns the SHA-256 of a file.
pub(crate) fn sha256_of(path: &Path, file: &File, size: u64, progress: &dyn ProgressSink) -> Result<String, HubError> {
    let mut hash = Sha256::new();
    read_through(file, path, size, &|| progress.is_cancelled(), |bytes| hash.update(bytes))?;
    Ok(format!("{:x}", hash.finalize()))
}
