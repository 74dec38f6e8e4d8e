//! The places of source and output: file systems, and room.

use std::fs;
use std::io;
use std::path::Path;

use super::checklist::ChecklistLine;
use super::mounts::{FileSystemClass, Mount};
use crate::checkpoint::text::{apart, human, shown_path, unquoted};

/// The largest file that FAT holds.
const FAT_FILE: u64 = (4 << 30) - 1;

/// Judges the file system that a source is read from.
pub fn source_place(dir: &Path, mount: &Mount, is_wsl: bool) -> ChecklistLine {
    const SUBJECT: &str = "source-disk";
    let fact = described(mount);
    match mount.class(is_wsl) {
        FileSystemClass::Disk | FileSystemClass::Container => ChecklistLine::ok(SUBJECT, fact),
        FileSystemClass::Memory => ChecklistLine::ok(SUBJECT, format!("{fact}: the files are in memory")),
        FileSystemClass::Windows => ChecklistLine::note(
            SUBJECT,
            format!("{fact}: a disk of Windows, and every read crosses into Windows"),
            format!(
                "copy {} to the Linux side, such as ~/models, where reading is several times as fast",
                shown_path(dir)
            ),
        ),
        FileSystemClass::Host => ChecklistLine::note(
            SUBJECT,
            format!("{fact}: a folder of the host"),
            "a disk of the virtual machine is faster, if `reading` below is slow",
        ),
        FileSystemClass::Network => ChecklistLine::note(
            SUBJECT,
            format!("{fact}: files of another machine"),
            "copy the source to a disk of this machine, if `reading` below is slow",
        ),
        FileSystemClass::Program => ChecklistLine::note(
            SUBJECT,
            format!("{fact}: a program answers for the files"),
            "copy the source to a disk of this machine, if `reading` below is slow",
        ),
    }
}

/// The place of an output, and what it takes there.
#[derive(Clone, Debug)]
pub struct OutputPlace<'a> {
    /// The output's path.
    pub path: &'a Path,
    /// Bytes that are free on its file system.
    pub free: u64,
    /// Bytes that an interrupted run takes there, which the next one reuses or frees.
    pub left: u64,
    /// Bytes of all of its files; `None` where there is no plan.
    pub needed: Option<u64>,
    /// Bytes of its largest file.
    pub largest: u64,
    pub mount: Option<Mount>,
    /// True where something that is no empty directory bears its name.
    pub is_taken: bool,
}

impl<'a> OutputPlace<'a> {
    /// Reads what there is to know of the place of a path; `files` are the sizes of all files of the output,
    /// `left` what an interrupted run takes there.
    ///
    /// # Errors
    /// The file system does not say how much is free.
    pub fn read(path: &'a Path, files: Option<&[u64]>, left: u64) -> io::Result<Self> {
        let absolute = std::path::absolute(path)?;
        // The folder that is to hold the output may be missing too: what is there tells the file system.
        let there = absolute.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        let disk = rustix::fs::statvfs(there)?;
        let is_empty_folder = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        Ok(Self {
            path,
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            left,
            needed: files.map(|files| files.iter().sum()),
            largest: files.and_then(|files| files.iter().max().copied()).unwrap_or(0),
            mount: Mount::read(there),
            is_taken: files.is_some() && fs::symlink_metadata(path).is_ok() && !is_empty_folder,
        })
    }

    /// Judges the place.
    pub fn lines(&self, is_wsl: bool) -> Vec<ChecklistLine> {
        const SUBJECT: &str = "output-disk";
        let mut lines = vec![self.room()];
        if self.is_taken {
            let fact = format!("{} is there already", shown_path(self.path));
            lines.push(ChecklistLine::problem("output", fact, "give another `--output`, or move it away first"));
        }
        let Some(mount) = &self.mount else { return lines };
        let fact = described(mount);
        lines.push(match mount.class(is_wsl) {
            _ if matches!(mount.kind.as_str(), "vfat" | "msdos") && self.largest > FAT_FILE => ChecklistLine::problem(
                SUBJECT,
                format!("{fact}: it holds no file above 4 GiB, and a shard has {}", human(self.largest)),
                "write to another disk, or add `max_shard_size: 4GB` to the recipe",
            ),
            FileSystemClass::Disk => ChecklistLine::ok(SUBJECT, fact),
            FileSystemClass::Memory => ChecklistLine::note(
                SUBJECT,
                format!("{fact}: the output lies in memory and is gone when the machine goes down"),
                "give `--output` a folder on a disk",
            ),
            FileSystemClass::Container => ChecklistLine::note(
                SUBJECT,
                format!("{fact}: the output goes with the container"),
                "mount a volume, and give `--output` a folder of it",
            ),
            FileSystemClass::Windows => ChecklistLine::note(
                SUBJECT,
                format!("{fact}: a disk of Windows, and every write crosses into Windows"),
                "give `--output` a folder on the Linux side, such as ~/models",
            ),
            FileSystemClass::Host | FileSystemClass::Network | FileSystemClass::Program => ChecklistLine::note(
                SUBJECT,
                format!("{fact}: no disk of this machine"),
                "a run waits for it; write to a disk of this machine and move the result, if that is faster",
            ),
        });
        lines
    }

    /// Judges the room. The staging directory lies beside the output and becomes it: it takes no room of its own.
    fn room(&self) -> ChecklistLine {
        const SUBJECT: &str = "room";
        let Some(needed) = self.needed else {
            return ChecklistLine::ok(SUBJECT, format!("{} free for an output", human(self.free)));
        };
        let room = self.free.saturating_add(self.left);
        let [needs, free] = apart(needed, room);
        let with = match self.left {
            0 => String::new(),
            left => format!(", with the {} that an interrupted run takes", human(left)),
        };
        let fact = format!("the output takes {needs}, and {free} are free for {}{with}", shown_path(self.path));
        if needed > room {
            let missing = human(needed - room);
            ChecklistLine::problem(
                SUBJECT,
                fact,
                format!("make room for {missing} more, or give `--output` another disk"),
            )
        } else {
            ChecklistLine::ok(SUBJECT, fact)
        }
    }
}

fn described(mount: &Mount) -> String {
    format!("{} ({}) at {}", unquoted(&mount.kind), unquoted(&mount.device), shown_path(&mount.point))
}
