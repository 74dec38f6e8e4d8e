//! Bringing the files of a model into the Hugging Face cache.
//!
//! Content is written to `ETAG.incomplete` beside its place, held against its hash, and renamed. The files of the commit are
//! links, made when all of their content is there, `config.json` last; then the revision is noted. So an interrupted
//! download is nothing that loads, and goes on where it was.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::remote::Repository as _;
use qwen_fp8_checkpoint::text::shown;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::access::may_share_blobs;
use crate::cache::CachedModel;
use crate::error::HubError;
use crate::read_through::read_through;
use crate::repository::HubRepository;
use crate::side_by_side::side_by_side;
use crate::tree::{ContentHash, TreeFile};

/// Files that are brought at a time.
const AT_ONCE: usize = 8;

/// A file that is to be in the cache.
struct WantedFile<'a> {
    name: &'a str,
    /// Its number among the files of the repository.
    number: usize,
    listed: &'a TreeFile,
}

impl HubRepository {
    /// Brings the files for which `is_wanted` into a cache, unless they are there, and returns the directory of the commit. What
    /// is transferred is held against the hub's hashes.
    ///
    /// # Errors
    /// A file cannot be had or is not what is listed, or the disk does not take it; or the work is cancelled. What is there
    /// already is kept, and the next call goes on with it.
    pub fn download_into(
        &self,
        cache: &Path,
        is_wanted: impl Fn(&str) -> bool,
        progress: &dyn ProgressSink,
    ) -> Result<PathBuf, HubError> {
        let tree = self.tree()?;
        let mut wanted = Vec::new();
        for (number, entry) in self.files().iter().enumerate().filter(|(_, entry)| is_wanted(&entry.name)) {
            let listed = tree.iter().find(|(name, _)| *name == entry.name).map(|(_, file)| file);
            let listed = listed.filter(|file| file.size == entry.size).ok_or_else(|| HubError::Unusable {
                url: self.url(number),
                detail: format!("the listing of the commit has no {} of this size", shown(&entry.name)),
            })?;
            wanted.push(WantedFile { name: &entry.name, number, listed });
        }
        let model = CachedModel::make(cache, &self.id)?;
        let download = Download { repository: self, model: &model, progress, is_over: AtomicBool::new(false) };
        let missing: Vec<_> = wanted.iter().filter(|file| !download.is_there(file)).collect();
        progress.reading("downloading", missing.iter().map(|file| file.listed.size).sum());
        download.all(&missing)?;
        // What makes a directory a model comes last.
        wanted.sort_by_key(|file| file.name == "config.json");
        for file in &wanted {
            model.link(&self.commit, file.name, file.listed.etag().0)?;
        }
        if wanted.len() == tree.len() {
            model.list(&self.commit, &tree)?;
        }
        model.refer(&self.revision, &self.commit)?;
        Ok(model.snapshot(&self.commit))
    }
}

/// A download under way.
struct Download<'a> {
    repository: &'a HubRepository,
    model: &'a CachedModel,
    progress: &'a dyn ProgressSink,
    /// Becomes true with the first failure.
    is_over: AtomicBool,
}

impl Download<'_> {
    /// Brings the content of files, several at a time.
    fn all(&self, files: &[&WantedFile<'_>]) -> Result<(), HubError> {
        side_by_side(files, AT_ONCE, &self.is_over, |file| match self.is_cancelled() {
            true => Err(HubError::Cancelled),
            false => self.one(file),
        })
        .map(drop)
    }

    fn is_cancelled(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }

    /// Whether the content of a file is in its place.
    fn is_there(&self, file: &WantedFile<'_>) -> bool {
        let found = fs::metadata(self.model.blob(file.listed.etag().0));
        found.is_ok_and(|found| found.is_file() && found.len() == file.listed.size)
    }

    /// Brings the content of a file, unless another process has meanwhile.
    fn one(&self, file: &WantedFile<'_>) -> Result<(), HubError> {
        let is_cancelled = || self.is_cancelled();
        let (etag, _) = file.listed.etag();
        let _lock = self.model.lock(etag, &is_cancelled)?;
        if self.is_there(file) || may_share_blobs() && self.model.link_shared(etag, file.listed, &is_cancelled)? {
            self.progress.advanced(file.listed.size);
            return Ok(());
        }
        self.progress.at(file.name);
        let incomplete = self.model.blob(&format!("{etag}.incomplete"));
        let began_before = fs::metadata(&incomplete).is_ok_and(|found| found.len() > 0);
        match self.bring(file, &incomplete) {
            // What an earlier download has left may be at fault, and is gone now.
            Err(HubError::Spoilt { .. }) if began_before => self.bring(file, &incomplete)?,
            brought => brought?,
        }
        let blob = self.model.blob(etag);
        fs::rename(&incomplete, &blob).map_err(HubError::file("rename", &blob))
    }

    /// Completes the content of a file, and removes it where it is not what is listed.
    fn bring(&self, file: &WantedFile<'_>, incomplete: &Path) -> Result<(), HubError> {
        // Without NONBLOCK, opening a FIFO of that name would wait for its other end.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
        let output = options.open(incomplete).map_err(HubError::file("open", incomplete))?;
        let size = file.listed.size;
        let (etag, kind) = file.listed.etag();
        let mut hash = ContentHasher::new(kind, size);
        let there = output.metadata().map_err(HubError::file("stat", incomplete))?.len();
        if there > size {
            output.set_len(0).map_err(HubError::file("cut", incomplete))?;
        }
        let there = if there > size { 0 } else { there };
        let hash_again = |bytes: &[u8]| {
            hash.update(bytes);
            self.progress.advanced(bytes.len() as u64);
        };
        read_through(&output, incomplete, there, &|| self.is_cancelled(), hash_again)?;
        // By place and not at the end: a second process, on a file system whose locks do nothing, writes the same bytes there.
        let mut write = |bytes: &[u8], offset: u64| {
            output.write_all_at(bytes, offset).map_err(HubError::file("write", incomplete))?;
            hash.update(bytes);
            self.progress.advanced(bytes.len() as u64);
            Ok(())
        };
        self.repository.stream(file.number, there, &|| self.is_cancelled(), &mut write)?;
        let found = hash.finish();
        if found != etag {
            let _ = fs::remove_file(incomplete);
            let (listed, url) = (etag.to_owned(), self.repository.url(file.number));
            return Err(HubError::Spoilt { url, listed, found });
        }
        output.sync_all().map_err(HubError::file("sync", incomplete))
    }
}

/// The hash by which a blob is named.
enum ContentHasher {
    Sha256(Sha256),
    GitBlob(sha1::Sha1),
}

impl ContentHasher {
    fn new(kind: ContentHash, size: u64) -> Self {
        match kind {
            ContentHash::Sha256 => Self::Sha256(Sha256::new()),
            ContentHash::GitBlob => Self::GitBlob(sha1::Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hash) => format!("{:x}", hash.finalize()),
            Self::GitBlob(hash) => format!("{:x}", hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_git_is_hashed_as_git_does() {
        // `printf 'hello\n' | git hash-object --stdin`
        let mut hash = ContentHasher::new(ContentHash::GitBlob, 6);
        hash.update(b"hel");
        hash.update(b"lo\n");
        assert_eq!(hash.finish(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
