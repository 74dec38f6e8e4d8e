//! A model on the hub as an output that is uploaded while it is computed.
//!
//! The hub takes a large file only by the SHA-256 of the whole of it, so that a shard is gathered in a folder of this machine,
//! sent when it is complete, and removed. The folder keeps what is to be read once more, and the small files until
//! the commit, which `config.json`, the last of them, brings about. With the folder an interrupted run goes on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::remote::RemoteError;
use qwen_fp8_checkpoint::store::{ObjectState, OutputStore, StoredObject, UploadPart};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::address::part;
use crate::error::HubError;
use crate::lfs::LfsContent;
use crate::push::{HubPush, PushedContent, PushedFile, UploadMode, sha256_of};

/// The file whose put brings about the commit.
const CONFIG: &str = "config.json";

/// The journal of a run, which is no file of the result.
const JOURNAL: &str = "qwen-fp8-journal";

/// Complete shards on this machine; beyond them no other one is begun.
const MOST_SHARDS: usize = 2;

/// How often one that waits looks whether the work is cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A model on the hub, and the folder for what is on its way there.
pub struct HubOutput<P> {
    push: HubPush,
    dir: PathBuf,
    progress: P,
    /// Complete shards that are on this machine.
    waiting: Mutex<usize>,
    changed: Condvar,
    /// Held while a shard is sent: several at a time would each take as much longer.
    sending: Mutex<()>,
    begun: AtomicUsize,
    _lock: File,
}

/// What the folder notes of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    size: u64,
    sha256: String,
    /// Set where the hub has the content, and the folder no more of it than is read once more.
    is_uploaded: bool,
}

impl<P: ProgressSink + Send> HubOutput<P> {
    /// Takes the folder `dir` for what is pushed; only one process may.
    ///
    /// # Errors
    /// Another process has it, or the disk does not take it.
    pub fn open(push: HubPush, dir: &Path, progress: P) -> Result<Self, HubError> {
        for folder in ["files", "notes", "uploads"].map(|name| dir.join(name)) {
            fs::create_dir_all(&folder).map_err(HubError::file("make", &folder))?;
        }
        let path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(HubError::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HubError::Busy { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(HubError::file("lock", &path)(error)),
        }
        let (waiting, changed, sending) = (Mutex::new(0), Condvar::new(), Mutex::new(()));
        let begun = AtomicUsize::new(0);
        Ok(Self { push, dir: dir.to_owned(), progress, waiting, changed, sending, begun, _lock: lock })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("files").join(part(name))
    }

    fn note(&self, name: &str) -> PathBuf {
        self.dir.join("notes").join(part(name))
    }

    fn upload(&self, id: &str) -> PathBuf {
        self.dir.join("uploads").join(id)
    }

    /// What is noted of a file; `None` where there is nothing that can be read.
    fn noted(&self, name: &str) -> Option<Noted> {
        serde_json::from_slice(&fs::read(self.note(name)).ok()?).ok()
    }

    /// Every file by name, with its note.
    fn all(&self) -> Result<Vec<(String, Noted)>, HubError> {
        let mut all = Vec::new();
        for name in names_in(&self.dir.join("notes"))? {
            let name = percent_decode_str(&name).decode_utf8_lossy().into_owned();
            if let Some(noted) = self.noted(&name) {
                all.push((name, noted));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Puts a note in its place, behind the file that it is about.
    fn enter(&self, name: &str, noted: &Noted) -> Result<ObjectState, HubError> {
        let text = serde_json::to_vec(noted).unwrap_or_default();
        self.replace(&self.note(name), &text)?;
        Ok(ObjectState { tag: noted.sha256.clone(), version: None })
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), HubError> {
        let written = NamedTempFile::new_in(&self.dir).and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|error| error.error)
        });
        written.map_err(HubError::file("write", path))
    }

    fn put_file(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, HubError> {
        let found = self.noted(name).map(|noted| noted.sha256);
        if found.as_deref() != over.map(|state| state.tag.as_str()) {
            return Err(HubError::Exists { path: self.note(name) });
        }
        let path = self.file(name);
        self.replace(&path, bytes)?;
        let file = File::open(&path).map_err(HubError::file("open", &path))?;
        let size = bytes.len() as u64;
        let noted = Noted { size, sha256: sha256_of(&path, &file, size, &())?, is_uploaded: false };
        if name != CONFIG {
            return self.enter(name, &noted);
        }
        self.commit()?;
        Ok(ObjectState { tag: noted.sha256, version: None })
    }

    /// Shows everything with one commit, and empties the folder.
    fn commit(&self) -> Result<(), HubError> {
        let mut files = vec![PushedFile { name: CONFIG.to_owned(), content: PushedContent::OnDisk(self.file(CONFIG)) }];
        for (name, Noted { size, sha256, is_uploaded }) in self.all()? {
            if name == JOURNAL {
                continue;
            }
            let content = match is_uploaded {
                true => PushedContent::Uploaded { sha256, size },
                false => PushedContent::OnDisk(self.file(&name)),
            };
            files.push(PushedFile { name, content });
        }
        self.push.commit(&files, &self.progress)?;
        // It is there: what is left here is nobody's any more.
        let _ = fs::remove_dir_all(&self.dir);
        Ok(())
    }

    fn complete_upload(&self, name: &str, upload: &str, read_later: &[Range<u64>]) -> Result<ObjectState, HubError> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let completed = self.send(name, &self.upload(upload), read_later);
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.changed.notify_all();
        completed
    }

    fn send(&self, name: &str, path: &Path, read_later: &[Range<u64>]) -> Result<ObjectState, HubError> {
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let file = File::open(path).map_err(HubError::file("open", path))?;
        let size = file.metadata().map_err(HubError::file("stat", path))?.len();
        let to = self.file(name);
        // Other large files are few, and are sent before the commit.
        let is_uploaded = !read_later.is_empty() && self.push.mode(name, &file, size)? == UploadMode::Lfs;
        let sha256 = if is_uploaded {
            let sha256 = self.push.upload(path, &file, size, &self.progress)?;
            keep(&file, size, read_later, &to).map_err(HubError::file("write", &to))?;
            fs::remove_file(path).map_err(HubError::file("remove", path))?;
            sha256
        } else {
            let sha256 = sha256_of(path, &file, size, &self.progress)?;
            fs::rename(path, &to).map_err(HubError::file("rename", &to))?;
            sha256
        };
        self.enter(name, &Noted { size, sha256, is_uploaded })
    }

    fn begin_upload(&self, name: &str) -> Result<String, HubError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while *waiting >= MOST_SHARDS {
            if self.progress.is_cancelled() {
                return Err(HubError::Cancelled);
            }
            waiting = self.changed.wait_timeout(waiting, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        loop {
            let id = format!("{}-{}", self.begun.fetch_add(1, Ordering::Relaxed), part(name));
            let path = self.upload(&id);
            match File::create_new(&path) {
                Ok(_) => return Ok(id),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(HubError::file("make", &path)(error)),
            }
        }
    }

    /// The files that are here or at the hub: what the hub has lost meanwhile is none any more.
    fn listed(&self) -> Result<Vec<StoredObject>, HubError> {
        let all = self.all()?;
        let uploaded = all.iter().filter(|(_, noted)| noted.is_uploaded);
        let uploaded: Vec<_> =
            uploaded.map(|(_, noted)| LfsContent { sha256: noted.sha256.clone(), size: noted.size }).collect();
        let missing = self.push.missing(&uploaded, &self.progress)?;
        let is_lost = |noted: &Noted| noted.is_uploaded && missing.iter().any(|lost| lost.sha256 == noted.sha256);
        let there = all.into_iter().filter(|(_, noted)| !is_lost(noted));
        let object = |(name, noted): (String, Noted)| StoredObject {
            name,
            size: noted.size,
            state: ObjectState { tag: noted.sha256, version: None },
        };
        Ok(there.map(object).collect())
    }
}

impl<P: ProgressSink + Send> OutputStore for HubOutput<P> {
    fn address(&self) -> &str {
        self.push.address()
    }

    fn list(&self) -> Result<Vec<StoredObject>, RemoteError> {
        Ok(self.listed()?)
    }

    fn read(&self, name: &str) -> Result<Option<(Vec<u8>, ObjectState)>, RemoteError> {
        let Some(noted) = self.noted(name).filter(|noted| !noted.is_uploaded) else { return Ok(None) };
        let path = self.file(name);
        let bytes = fs::read(&path).map_err(HubError::file("read", &path))?;
        Ok(Some((bytes, ObjectState { tag: noted.sha256, version: None })))
    }

    fn read_exact_at(&self, name: &str, _: &ObjectState, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError> {
        let path = self.file(name);
        let read = File::open(&path).and_then(|file| file.read_exact_at(buffer, offset));
        Ok(read.map_err(HubError::file("read", &path))?)
    }

    fn put(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, RemoteError> {
        Ok(self.put_file(name, bytes, over)?)
    }

    fn remove(&self, name: &str) -> Result<(), RemoteError> {
        for path in [self.note(name), self.file(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HubError::file("remove", &path)(error).into());
                }
                _ => {}
            }
        }
        // With the journal of a run that has finished nothing the folder goes too.
        if name == JOURNAL && self.all().is_ok_and(|all| all.is_empty()) {
            let _ = fs::remove_dir_all(&self.dir);
        }
        Ok(())
    }

    fn begin(&self, name: &str) -> Result<String, RemoteError> {
        Ok(self.begin_upload(name)?)
    }

    fn put_part(&self, _: &str, upload: &str, part: UploadPart) -> Result<String, RemoteError> {
        let path = self.upload(upload);
        let written = OpenOptions::new().write(true).open(&path);
        let written = written.and_then(|file| file.write_all_at(&part.bytes, part.offset));
        written.map_err(HubError::file("write", &path))?;
        Ok(part.number.to_string())
    }

    fn complete(
        &self,
        name: &str,
        upload: &str,
        _: &[String],
        _: u64,
        read_later: &[Range<u64>],
    ) -> Result<ObjectState, RemoteError> {
        Ok(self.complete_upload(name, upload, read_later)?)
    }

    fn abandon(&self, _: &str, upload: &str) -> Result<(), RemoteError> {
        let path = self.upload(upload);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::file("remove", &path)(error).into()),
            _ => Ok(()),
        }
    }

    fn uploads(&self) -> Result<Vec<(String, String)>, RemoteError> {
        let ids = names_in(&self.dir.join("uploads"))?;
        let name_of = |id: &str| {
            let name = id.split_once('-').map_or("", |(_, name)| name);
            percent_decode_str(name).decode_utf8_lossy().into_owned()
        };
        Ok(ids.into_iter().map(|id| (name_of(&id), id)).collect())
    }
}

impl<P> std::fmt::Debug for HubOutput<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the client, which holds the token.
        f.debug_struct("HubOutput").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Writes no more of a file than these ranges, at the places that they have in it.
fn keep(file: &File, size: u64, ranges: &[Range<u64>], to: &Path) -> io::Result<()> {
    let kept = File::create(to)?;
    kept.set_len(size)?;
    for range in ranges {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        kept.write_all_at(&bytes, range.start)?;
    }
    kept.sync_all()
}

/// The names in a folder.
fn names_in(dir: &Path) -> Result<Vec<String>, HubError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(HubError::file("list", dir))?;
    // They are of our own making.
    Ok(entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
