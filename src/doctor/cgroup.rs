//! The limit that a container or a job scheduler sets on memory.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the bytes that this process's control groups still let it take; `None` where nothing limits them. `root` is
/// `/`, or a copy of what is needed of it.
pub(super) fn memory_left(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        match controllers {
            "" => left_of(&root.join("sys/fs/cgroup"), path, &V2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                left_of(&root.join("sys/fs/cgroup/memory"), path, &V1)
            }
            _ => None,
        }
    });
    limits.min()
}

/// The names of one version of the interface.
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that count cached files, which make room where it is needed.
    cached: [&'static str; 2],
}

const V2: GroupFiles =
    GroupFiles { limit: "memory.max", used: "memory.current", cached: ["inactive_file", "active_file"] };
const V1: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

/// Returns what is left of the tightest limit of a group and those above it.
//
// In a container the path may be one of the host's, which is not there: then the folder itself is the group.
fn left_of(folder: &Path, path: &str, files: &GroupFiles) -> Option<u64> {
    let relative = Path::new(path.trim_start_matches('/'));
    let groups: Vec<PathBuf> = relative.ancestors().map(|group| folder.join(group)).collect();
    groups.iter().filter_map(|group| left_in(group, files)).min()
}

fn left_in(group: &Path, files: &GroupFiles) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // The word `max`, and in version 1 a number near 2^63, stand for no limit.
    let limit = number(files.limit).filter(|&limit| limit < 1 << 60)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().filter_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        files.cached.contains(&name).then(|| bytes.trim().parse::<u64>().ok()).flatten()
    });
    let used = number(files.used).unwrap_or(0).saturating_sub(cached.sum());
    Some(limit.saturating_sub(used))
}
