//! Machines by the text of their `/proc` and `/sys`.

use std::fs;
use std::path::Path;

use qwen_fp8::doctor::{MachineFacts, MemoryFacts, Wsl};
use tempfile::TempDir;

use super::{advised, read};

const MEMINFO: &str =
    "MemTotal:       32768000 kB\nMemFree:          500000 kB\nMemAvailable:   16384000 kB\nSwapTotal: 0 kB\n";

/// A root with these files.
fn root(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn left(files: &[(&str, &str)]) -> Option<u64> {
    let root = root(&[files, &[("proc/meminfo", MEMINFO)]].concat());
    MachineFacts::read(root.path(), "avx2", 4).memory.unwrap().left_by_limit
}

#[test]
fn memory_is_what_the_tightest_limit_leaves() {
    assert_eq!(left(&[]), None);
    let group = ("proc/self/cgroup", "0::/user.slice/job.scope\n");
    let own = "sys/fs/cgroup/user.slice/job.scope";
    let files = [
        group,
        (&format!("{own}/memory.max"), "max\n"),
        ("sys/fs/cgroup/user.slice/memory.max", "1000000\n"),
        ("sys/fs/cgroup/user.slice/memory.current", "600000\n"),
        // Cached files make room where it is needed.
        ("sys/fs/cgroup/user.slice/memory.stat", "anon 1\nactive_file 100000\ninactive_file 50000\nslab 7\n"),
    ];
    assert_eq!(left(&files), Some(550_000));
    // A container sees its own group at the top, whatever path it is told.
    let container = [group, ("sys/fs/cgroup/memory.max", "2000000"), ("sys/fs/cgroup/memory.current", "500000")];
    assert_eq!(left(&container), Some(1_500_000));
    let version_1 = [
        ("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/docker/b\n"),
        ("sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes", "3000000\n"),
        ("sys/fs/cgroup/memory/docker/b/memory.usage_in_bytes", "1000000\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ];
    assert_eq!(left(&version_1), Some(2_000_000));
    let used_up = [group, ("sys/fs/cgroup/memory.max", "5"), ("sys/fs/cgroup/memory.current", "9")];
    assert_eq!(left(&used_up), Some(0));
}

#[test]
fn a_machine_is_judged_line_by_line() {
    let files = [
        ("proc/meminfo", MEMINFO),
        ("sys/devices/system/cpu/online", "0-7,16\n"),
        ("proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
    ];
    let root = root(&files);
    let lines = MachineFacts::read(root.path(), "avx2", 4).lines(256 << 20);
    advised(&lines);
    assert_eq!(
        read(&lines),
        [
            "ok processor: instruction set avx2",
            "note threads: 4 threads of 9 processors: a quota or an affinity leaves no more",
            "ok memory: 15.62 GiB of 31.25 GiB available; a run takes less than 256 MiB, whatever the model's size",
            "ok system: Linux 6.8.0-45-generic",
        ]
    );
    let mut facts = MachineFacts::read(root.path(), "portable", 9);
    facts.memory = MemoryFacts::parse(MEMINFO, Some(100 << 20));
    let lines = facts.lines(256 << 20);
    advised(&lines);
    assert_eq!(
        read(&lines)[..3],
        [
            "note processor: instruction set portable: the processor has none of those that kernels are made for",
            "ok threads: 9 threads, one for each processor",
            "problem memory: 100 MiB left by the limit of the container or job; a run takes less than 256 MiB, whatever the model's size",
        ]
    );
}

#[test]
fn a_system_that_says_nothing_is_no_problem() {
    let lines = MachineFacts::read(Path::new("/nowhere"), "neon", 1).lines(256 << 20);
    assert_eq!(read(&lines), ["ok processor: instruction set neon", "ok threads: 1 thread, one for each processor"]);
}

#[test]
fn wsl_is_known_by_its_kernel() {
    let wsl =
        |release: &str| MachineFacts::read(root(&[("proc/sys/kernel/osrelease", release)]).path(), "avx2", 1).wsl();
    assert_eq!(wsl("6.6.87.2-microsoft-standard-WSL2\n"), Some(Wsl::Two));
    assert_eq!(wsl("5.15.90.1-my-own-kernel-WSL2-microsoft"), Some(Wsl::Two));
    assert_eq!(wsl("4.4.0-19041-Microsoft\n"), Some(Wsl::One));
    assert_eq!(wsl("6.8.0-45-generic\n"), None);
}
