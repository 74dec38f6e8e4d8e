//! Opening and reading input files: regular files only, never blocking, and noticing when one changes underneath; and
//! files of a repository elsewhere in the same way.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::remote::{RemoteError, RemoteFile};
use crate::text::{apart, os_hints, shown_path};

/// The state of a file: where any field differs, the file is not the one that the plan was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub device: u64,
    pub inode: u64,
}

/// An open regular file, or one of a repository elsewhere, that is read at given places.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    data: SourceData,
    stamp: Stamp,
    /// Permission bits.
    mode: u32,
}

#[derive(Debug)]
enum SourceData {
    Disk(File),
    Remote(RemoteFile),
}

/// A reason for which an input file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{} is missing", shown_path(path))]
    Missing { path: PathBuf },
    #[error("{} is a dangling symlink to {}, which is missing", shown_path(path), shown_path(target))]
    Dangling { path: PathBuf, target: PathBuf },
    #[error("{} is a symlink loop", shown_path(path))]
    LinkLoop { path: PathBuf },
    #[error("{} is not a regular file but a {kind}", shown_path(path))]
    NotRegular { path: PathBuf, kind: &'static str },
    #[error("{} is too large: it has {}, and the limit is {}", shown_path(path), apart(*size, *limit)[0], apart(*size, *limit)[1])]
    TooLarge { path: PathBuf, size: u64, limit: u64 },
    #[error("{} changed while it was being read: {what}", shown_path(path))]
    Changed { path: PathBuf, what: &'static str },
    #[error("{} holds headers alone, and data is asked for", shown_path(path))]
    HeadersOnly { path: PathBuf },
    #[error("{} cannot be read: {error}", shown_path(path))]
    Io { path: PathBuf, error: io::Error },
    #[error("{} cannot be read: {error}", shown_path(path))]
    Remote { path: PathBuf, error: RemoteError },
}

impl SourceError {
    /// Returns the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Dangling { path, .. }
            | Self::LinkLoop { path }
            | Self::NotRegular { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Changed { path, .. }
            | Self::HeadersOnly { path }
            | Self::Io { path, .. }
            | Self::Remote { path, .. } => path,
        }
    }

    /// Returns what can be done about the error, one line each.
    pub fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Remote { error, .. } => return error.help(),
            Self::Dangling { .. } => Some("the download may be incomplete: get the file again"),
            Self::Changed { .. } => {
                Some("wait until nothing writes to the checkpoint, and give the same command again")
            }
            Self::HeadersOnly { .. } => Some("give the checkpoint itself: some of its layout stands in its data"),
            Self::Io { error, .. } => os_hints::for_reading(error),
            _ => None,
        };
        line.map(str::to_owned).into_iter().collect()
    }
}

impl SourceFile {
    /// Opens a regular file for reading, following symlinks; a FIFO or a device is refused without blocking.
    ///
    /// # Errors
    /// The file is missing, not regular, or may not be read.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::open_with(path, OFlags::empty())
    }

    /// Opens the same path again for reads past the page cache.
    ///
    /// # Errors
    /// As [`SourceFile::open`], and where the file system has no such reads.
    pub fn open_direct(&self) -> Result<Self, SourceError> {
        if let Some(file) = self.remote() {
            return Ok(Self::of_repository(file.clone()));
        }
        Self::open_with(&self.path, OFlags::DIRECT)
    }

    fn open_with(path: &Path, more: OFlags) -> Result<Self, SourceError> {
        // O_NONBLOCK: opening a FIFO would wait for a writer for ever. O_NOCTTY: a terminal must not become ours. The
        // kind of file is asked of the open descriptor, since a path may lead elsewhere by the time it is opened.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        let file = match retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
            Ok(descriptor) => File::from(descriptor),
            Err(errno) => return Err(open_error(path, errno)),
        };
        let metadata = file.metadata().map_err(|error| SourceError::Io { path: path.into(), error })?;
        if !metadata.is_file() {
            return Err(SourceError::NotRegular { path: path.into(), kind: kind_name(metadata.file_type()) });
        }
        let (stamp, mode) = (Stamp::of(&metadata), metadata.mode() & 0o7777);
        Ok(Self { path: path.into(), data: SourceData::Disk(file), stamp, mode })
    }

    /// Takes a file of a repository; nothing is asked of the repository yet.
    pub fn of_repository(file: RemoteFile) -> Self {
        let path = file.path();
        // What a download would give it.
        let mode = 0o644;
        Self { path, stamp: Stamp::without_file(file.entry().size), data: SourceData::Remote(file), mode }
    }

    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The permission bits of the file.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Fills `buffer` from the bytes at `offset`.
    ///
    /// # Errors
    /// The file ends before the buffer is full (it shrank since it was opened), or cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let file = match &self.data {
            SourceData::Disk(file) => file,
            SourceData::Remote(file) => {
                return file
                    .read_exact_at(buffer, offset)
                    .map_err(|error| SourceError::Remote { path: self.path.clone(), error });
            }
        };
        // No memory map: a mapped file that shrinks ends the process with SIGBUS, and here it is an error with a name.
        // Positional reads were as fast from the disk and faster from the page cache (docs/decisions/0001-no-mmap.md).
        file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SourceError::Changed { path: self.path.clone(), what: "it became shorter" },
            _ => SourceError::Io { path: self.path.clone(), error },
        })
    }

    /// Returns the file of this machine, for hints such as `posix_fadvise`; `None` where it lies in a repository.
    pub fn into_file(self) -> Option<File> {
        match self.data {
            SourceData::Disk(file) => Some(file),
            SourceData::Remote(_) => None,
        }
    }

    /// The file of this machine, for hints such as `posix_fadvise`; `None` where it lies in a repository.
    pub fn file(&self) -> Option<&File> {
        match &self.data {
            SourceData::Disk(file) => Some(file),
            SourceData::Remote(_) => None,
        }
    }

    /// The file of a repository; `None` where it lies on this machine.
    pub fn remote(&self) -> Option<&RemoteFile> {
        match &self.data {
            SourceData::Disk(_) => None,
            SourceData::Remote(file) => Some(file),
        }
    }

    /// Checks that the open file is still in the state of `stamp`.
    ///
    /// # Errors
    /// It was replaced, cut, extended or written to.
    pub fn check_unchanged(&self, stamp: Stamp) -> Result<(), SourceError> {
        // The files of a commit do not change; their repository sees to it with every read.
        let SourceData::Disk(file) = &self.data else { return Ok(()) };
        let metadata = file.metadata().map_err(|error| SourceError::Io { path: self.path.clone(), error })?;
        let now = Stamp::of(&metadata);
        let what = if (now.device, now.inode) != (stamp.device, stamp.inode) {
            "it was replaced by another file"
        } else if now.size != stamp.size {
            "its size is another one"
        } else if now.modified != stamp.modified {
            "it was written to"
        } else {
            return Ok(());
        };
        Err(SourceError::Changed { path: self.path.clone(), what })
    }

    /// Reads the whole of a small file.
    ///
    /// # Errors
    /// The file is larger than `limit`, or cannot be read.
    pub fn read_small(&self, limit: u64) -> Result<Vec<u8>, SourceError> {
        let too_large = |size| SourceError::TooLarge { path: self.path.clone(), size, limit };
        if self.stamp.size > limit {
            return Err(too_large(self.stamp.size));
        }
        let SourceData::Disk(file) = &self.data else {
            let mut bytes = vec![0; self.stamp.size as usize];
            return self.read_exact_at(&mut bytes, 0).map(|()| bytes);
        };
        let mut bytes = Vec::new();
        // A file of /proc says it has no bytes and yields them all the same.
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| SourceError::Io { path: self.path.clone(), error })?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }
}

impl Stamp {
    /// The state of a file that is not on this machine.
    pub(crate) fn without_file(size: u64) -> Self {
        Self { size, modified: (0, 0), device: 0, inode: 0 }
    }

    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The entries of a directory; asked for again where a signal interrupts that, as network file systems may.
pub fn entries(dir: &Path) -> io::Result<fs::ReadDir> {
    loop {
        match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            entries => return entries,
        }
    }
}

fn open_error(path: &Path, errno: Errno) -> SourceError {
    match (errno, fs::read_link(path)) {
        (Errno::NOENT, Ok(target)) => SourceError::Dangling { path: path.into(), target },
        (Errno::NOENT, Err(_)) => SourceError::Missing { path: path.into() },
        (Errno::LOOP, _) => SourceError::LinkLoop { path: path.into() },
        // What a socket answers.
        (Errno::NXIO, _) => SourceError::NotRegular { path: path.into(), kind: "socket or device" },
        _ => SourceError::Io { path: path.into(), error: errno.into() },
    }
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "named pipe (FIFO)"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path) -> String {
        SourceFile::open(path).unwrap_err().to_string()
    }

    #[test]
    fn only_regular_files_open_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("gone", at("dangling")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        fs::write(at("file"), b"12345").unwrap();
        symlink("file", at("link")).unwrap();
        assert!(refusal(&at("fifo")).ends_with("is not a regular file but a named pipe (FIFO)"));
        assert!(refusal(dir.path()).ends_with("is not a regular file but a directory"));
        assert!(refusal(Path::new("/dev/zero")).ends_with("is not a regular file but a device"));
        assert!(refusal(&at("dangling")).ends_with("is a dangling symlink to `gone`, which is missing"));
        assert!(refusal(&at("a")).ends_with("is a symlink loop"));
        assert!(refusal(&at("nothing")).ends_with("is missing"));
        assert_eq!(SourceFile::open(&at("link")).unwrap().read_small(5).unwrap(), b"12345");
        let error = SourceFile::open(&at("link")).unwrap().read_small(4).unwrap_err().to_string();
        assert!(error.ends_with("is too large: it has 5 B, and the limit is 4 B"), "{error}");
    }

    #[test]
    fn a_change_underneath_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        fs::write(&path, [7; 100]).unwrap();
        let source = SourceFile::open(&path).unwrap();
        source.check_unchanged(source.stamp()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(50).unwrap();
        let error = source.read_exact_at(&mut [0; 10], 45).unwrap_err().to_string();
        assert!(error.ends_with("changed while it was being read: it became shorter"), "{error}");
        let error = source.check_unchanged(source.stamp()).unwrap_err().to_string();
        assert!(error.ends_with("its size is another one"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("other"), [7; 100]).unwrap();
        let other = SourceFile::open(&dir.path().join("other")).unwrap();
        let error = other.check_unchanged(source.stamp()).unwrap_err().to_string();
        assert!(error.ends_with("it was replaced by another file"), "{error}");
    }
}
