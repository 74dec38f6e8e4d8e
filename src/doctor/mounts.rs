//! The file system that a path lies on, as the kernel's table of mounts says.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder that it is mounted on.
    pub point: PathBuf,
    /// The kernel's word for it: `ext4`, `9p`, `nfs4`, `fuse.sshfs`.
    pub kind: String,
    /// The device, the server or the share: `/dev/sda1`, `C:\`, `host:/models`.
    pub device: String,
}

/// The place of the files of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemClass {
    /// A disk of this machine.
    Disk,
    /// A disk of Windows, seen from WSL.
    Windows,
    /// A folder of the host, seen from a virtual machine.
    Host,
    /// Another machine.
    Network,
    /// A program that answers for the files.
    Program,
    /// Memory.
    Memory,
    /// The layer of a container.
    Container,
}

const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "afs",
    "wekafs",
    "fuse.sshfs",
    "fuse.rclone",
];

impl Mount {
    /// Finds the mount of a path that exists, as the kernel says.
    pub fn read(path: &Path) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::of(&fs::canonicalize(path).ok()?, &mountinfo)
    }

    /// Finds the mount of an absolute path without links in the text of `/proc/self/mountinfo`.
    pub fn of(path: &Path, mountinfo: &str) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(Self::parse).filter(|mount| path.starts_with(&mount.point));
        // Of those on one folder, the last one covers the others.
        mounts.max_by_key(|mount| mount.point.components().count())
    }

    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        Some(Self {
            point: PathBuf::from(plain(before.split(' ').nth(4)?)),
            kind: after.next()?.to_owned(),
            device: plain(after.next().unwrap_or("none")).to_string_lossy().into_owned(),
        })
    }

    /// The place of its files, under WSL or not.
    pub fn class(&self, is_wsl: bool) -> FileSystemClass {
        match self.kind.as_str() {
            "9p" | "drvfs" | "virtiofs" if is_wsl => FileSystemClass::Windows,
            "9p" | "virtiofs" | "vboxsf" | "fuse.vmhgfs-fuse" | "prl_fs" => FileSystemClass::Host,
            kind if NETWORK.contains(&kind) => FileSystemClass::Network,
            "tmpfs" | "ramfs" => FileSystemClass::Memory,
            "overlay" | "aufs" | "fuse.fuse-overlayfs" => FileSystemClass::Container,
            kind if kind.starts_with("fuse.") => FileSystemClass::Program,
            _ => FileSystemClass::Disk,
        }
    }
}

/// Returns the text of a field, whose spaces, tabs, line ends and backslashes the kernel writes in octal.
fn plain(field: &str) -> OsString {
    let mut rest = field.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}
