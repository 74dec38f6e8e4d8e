//! A model's place in the Hugging Face cache, as `huggingface_hub` lays it out and finds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::attempts::sleep;
use crate::error::HubError;
use crate::tree::TreeFile;

/// What `CACHEDIR.TAG` begins with, by which programs for backups leave the cache out.
const TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by huggingface_hub.\n";

/// The name, in the folder of blobs that models share, of the file that says that it is one, and what is in it.
const SHARED_MARKER: (&str, &str) = (".huggingface-shared-blobs", "1\n");

/// The version of the file that lists a commit.
const TREE_VERSION: u32 = 1;

/// How often one that waits for a lock tries to take it.
const LOOK: Duration = Duration::from_millis(100);

/// The folder of a model in the cache.
pub(crate) struct CachedModel {
    cache: PathBuf,
    /// `models--org--name`
    name: String,
    folder: PathBuf,
}

impl CachedModel {
    /// Makes the folders of a model.
    ///
    /// # Errors
    /// The disk does not take them, as with the other functions.
    pub(crate) fn make(cache: &Path, id: &str) -> Result<Self, HubError> {
        let name = format!("models--{}", id.replace('/', "--"));
        let folder = cache.join(&name);
        for dir in [folder.join("blobs"), cache.join(".locks").join(&name)] {
            fs::create_dir_all(&dir).map_err(HubError::file("make", &dir))?;
        }
        let tag = cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Nothing but a backup depends on it.
            let _ = fs::write(&tag, TAG);
        }
        Ok(Self { cache: cache.to_owned(), name, folder })
    }

    /// The path of the content with this `ETag`.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The directory of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Waits for the lock under which the Python library, too, brings this content. It ends with the file.
    ///
    /// # Errors
    /// [`HubError::Cancelled`] as soon as `is_cancelled`.
    pub(crate) fn lock(&self, etag: &str, is_cancelled: &dyn Fn() -> bool) -> Result<File, HubError> {
        let path = self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        lock(&path, 0o664, is_cancelled)
    }

    /// Lets the blob of this `ETag` be a link to content that another model has brought to the cache already, where the cache has
    /// a store of blobs for all models, with content of this Xet hash and size. Returns whether it has.
    pub(crate) fn link_shared(
        &self,
        etag: &str,
        file: &TreeFile,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<bool, HubError> {
        let Some(hash) = &file.xet_hash else { return Ok(false) };
        let store = self.cache.join("blobs");
        let (marker, version) = SHARED_MARKER;
        let is_store = is_plain(&store, fs::FileType::is_dir)
            && is_plain(&store.join(marker), fs::FileType::is_file)
            && fs::read_to_string(store.join(marker)).is_ok_and(|text| text == version);
        let content = store.join(&hash[..2]).join(hash);
        let is_there = || fs::symlink_metadata(&content).is_ok_and(|found| found.is_file() && found.len() == file.size);
        if !is_store || !is_there() {
            return Ok(false);
        }
        let _lock = lock(&content.with_extension("lock"), 0o666, is_cancelled)?;
        // What collects the garbage holds the lock too.
        if !is_there() || File::open(&content).is_err() {
            return Ok(false);
        }
        // Named before it is linked, so that it is never taken for garbage.
        let refs = content.with_extension("refs");
        let open = |flags: OFlags| {
            let flags = (OFlags::NOFOLLOW | flags).bits().cast_signed();
            OpenOptions::new().append(true).create(true).mode(0o666).custom_flags(flags).open(&refs)
        };
        let noted = open(OFlags::NONBLOCK).and_then(|mut file| {
            file.write_all(format!("{}/blobs/{etag}\n", self.name).as_bytes())?;
            file.sync_all()
        });
        noted.map_err(HubError::file("write", &refs))?;
        link(&format!("../../blobs/{}/{hash}", &hash[..2]), &self.blob(etag))?;
        Ok(true)
    }

    /// Lets a file of a commit be a link to its blob.
    pub(crate) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(name);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(HubError::file("make", parent))?;
        link(&format!("{}blobs/{etag}", "../".repeat(2 + name.matches('/').count())), &path)
    }

    /// Notes which commit a branch or tag is at.
    pub(crate) fn refer(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        replace(&self.folder.join("refs").join(revision), commit.as_bytes())
    }

    /// Notes all files of a commit, by which version 2 of the library tells without a connection that it has them all.
    pub(crate) fn list(&self, commit: &str, files: &[(String, TreeFile)]) -> Result<(), HubError> {
        let files: serde_json::Map<_, _> = files.iter().map(|(name, file)| (name.clone(), json!(file))).collect();
        let text = json!({ "format_version": TREE_VERSION, "files": files }).to_string();
        replace(&self.folder.join("trees").join(format!("{commit}.json")), text.as_bytes())
    }
}

/// Waits for a lock.
fn lock(path: &Path, mode: u32, is_cancelled: &dyn Fn() -> bool) -> Result<File, HubError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().write(true).create(true).mode(mode).custom_flags(flags).open(path);
    let file = opened.map_err(HubError::file("open", path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(LOOK, is_cancelled)?,
            // Each download is safe without it, only not saved from being made twice.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(HubError::file("lock", path)(error)),
        }
    }
}

/// Makes a link, in place of whatever has its name.
fn link(to: &str, path: &Path) -> Result<(), HubError> {
    let failed = HubError::file("make the link", path);
    match symlink(to, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_link(path).is_ok_and(|found| found == Path::new(to)) {
                return Ok(());
            }
            let parent = path.parent().unwrap_or(path);
            let made = tempfile::Builder::new().prefix(".").suffix(".link").make_in(parent, |path| symlink(to, path));
            made.and_then(|made| made.persist(path).map_err(|error| error.error)).map(drop).map_err(failed)
        }
        made => made.map_err(failed),
    }
}

/// Puts a small file in place of the one of its name, if there is one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(HubError::file("make", parent))?;
    let written = NamedTempFile::with_suffix_in(".tmp", parent).and_then(|mut file| {
        file.write_all(bytes)?;
        // One of a temporary file is for its owner alone.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(HubError::file("write", path))
}

/// Whether a path is of this type itself, and no link to one.
fn is_plain(path: &Path, is_of_type: impl Fn(&fs::FileType) -> bool) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| is_of_type(&found.file_type()))
}
