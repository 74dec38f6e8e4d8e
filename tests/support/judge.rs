//! Runs the program on a case and holds what it did against what it must do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::proof::prove;
use super::scene::Scene;
use crate::support::program::program;

/// A name, what is done to the scene, and what must come of it.
pub(crate) struct Case(pub(crate) &'static str, pub(crate) fn(&mut Scene), pub(crate) Want);

/// What must come of a case.
pub(crate) enum Want {
    /// The output is there and proves right.
    Accept,
    /// The same, and this holds of the scene.
    Then(fn(&Scene)),
    /// The message holds all of these.
    Refuse(&'static [&'static str]),
    /// Either, so long as nothing is touched that is not the output.
    Either,
}

/// Ends a case that hangs: ten times the processor time of [`LIMITS`], so that a busy machine ends no sound one.
const LIMIT: Duration = Duration::from_secs(600);
/// Seconds of processor time, and KiB of address space (of which two threads and the binary take a quarter).
const LIMITS: &str = "ulimit -t 60; ulimit -c 0; ulimit -n 64; ulimit -v 1572864; exec \"$@\"";

/// Judges every case, and says at the end which failed.
pub(crate) fn judge_all(cases: &[Case]) {
    let failed: Vec<String> =
        cases.iter().filter_map(|case| Some(format!("{}: {}", case.0, judge(case).err()?))).collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn judge(Case(_, build, want): &Case) -> Result<(), String> {
    let mut scene = Scene::new();
    build(&mut scene);
    let before = tree(scene.root());
    let output = run(&scene)?;
    let after = tree(scene.root());
    let said = String::from_utf8(output.stderr).map_err(|_| "what it says is not UTF-8")?;
    let shown: String = said.chars().take(1_000).collect();
    let fails = |reason: &str| Err(format!("{reason} (exit {:?}): {shown}", output.status.code()));

    if let Some(signal) = output.status.signal() {
        return fails(&format!("killed by signal {signal}"));
    }
    if said.contains("panicked at") || output.status.code() == Some(101) {
        return fails("panic");
    }
    let raw = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if let Some(c) = said.chars().chain(String::from_utf8_lossy(&output.stdout).chars()).find(|c| raw(*c)) {
        return Err(format!("raw {c:?} on the screen: {said:?}"));
    }
    if said.len() > 20_000 {
        return fails("it says too much");
    }
    match (want, output.status.code()) {
        (Want::Refuse(_) | Want::Either, Some(1 | 2)) => {
            let words = if let Want::Refuse(words) = want { *words } else { &[] };
            if let Some(word) = words.iter().find(|word| !said.contains(**word)) {
                return fails(&format!("no word of `{word}`"));
            }
            match difference(&before, &after) {
                Some(path) => fails(&format!("{} was left or changed", path.display())),
                None => Ok(()),
            }
        }
        (Want::Refuse(_), Some(0)) => fails("accepted"),
        (Want::Accept | Want::Then(_) | Want::Either, Some(0)) => {
            if scene.command.is_none() {
                let outside = |tree: &Tree| -> Tree {
                    tree.iter()
                        .filter(|(path, _)| !path.starts_with(&scene.output))
                        .map(|(p, e)| (p.clone(), e.clone()))
                        .collect()
                };
                if let Some(path) = difference(&outside(&before), &outside(&after)) {
                    return fails(&format!("{} was left or changed", path.display()));
                }
                prove(&scene)?;
            }
            if let Want::Then(check) = want {
                check(&scene);
            }
            Ok(())
        }
        (_, _) => fails("the wrong exit code"),
    }
}

fn run(scene: &Scene) -> Result<Output, String> {
    let mut command = Command::new("sh");
    command.args(["-c", LIMITS, "sh", program()]);
    match &scene.command {
        Some(arguments) => command.args(arguments),
        None => {
            let mut output = std::ffi::OsString::from("--output=");
            output.push(&scene.output);
            command.args(["apply", "recipe.yaml", "--threads=2", "--model"]).arg(&scene.model).arg(output)
        }
    };
    // A pool as large as the machine would not fit into the address space of a case on one with many cores.
    command.env("RAYON_NUM_THREADS", "2").env("HF_HUB_OFFLINE", "1");
    command.current_dir(scene.root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("the program does not start: {error}"))?;
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(LIMIT) {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => {
            // `exec` gave the program the shell's number.
            if let Some(id) = rustix::process::Pid::from_raw(id.cast_signed()) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
            Err(format!("no end after {LIMIT:?}"))
        }
    }
}

type Tree = BTreeMap<PathBuf, String>;

/// Everything below a directory: kind, mode, and content or target.
fn tree(root: &Path) -> Tree {
    let (mut tree, mut folders) = (Tree::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else if metadata.len() > 1 << 20 {
                format!("{} bytes of {:?}", metadata.len(), metadata.modified().unwrap())
            } else {
                fs::read(&path).unwrap().escape_ascii().to_string()
            };
            // A folder's mode and no more: its time changes with what comes and goes in it.
            tree.insert(path.strip_prefix(root).unwrap().to_path_buf(), format!("{:o} {content}", metadata.mode()));
        }
    }
    tree
}

/// A path that only one of two trees has, or that differs.
fn difference(before: &Tree, after: &Tree) -> Option<PathBuf> {
    let mut paths = before.keys().chain(after.keys());
    paths.find(|path| before.get(*path) != after.get(*path)).cloned()
}
