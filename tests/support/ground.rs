//! A directory that an ordinary user may use, with the program, a recipe and a small checkpoint in it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::program::program;

/// Whom the program runs as where this test is root, whom no permission binds.
pub(crate) const USER: u32 = 65_534;

const APPLY: [&str; 8] = ["apply", "recipe.yaml", "--model", "model", "--output", "home/out", "--threads", "2"];

pub(crate) struct Ground(TempDir);

impl Ground {
    pub(crate) fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        ground.mode("", 0o755);
        let binary = ground.at("qwen-fp8");
        if fs::hard_link(program(), &binary).is_err() {
            // By a process of its own: a child that another test forks meanwhile would hold a file that is written here
            // open, and a program that is open for writing cannot be executed.
            let copied = Command::new("cp").arg(program()).arg(&binary).status().unwrap();
            assert!(copied.success());
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(repository.join("recipes/fp8_dynamic.yaml"), ground.at("recipe.yaml")).unwrap();
        ground.mode("recipe.yaml", 0o644);
        fs::create_dir(ground.at("model")).unwrap();
        for file in fs::read_dir(repository.join("tests/fixtures/tiny-qwen3-vl")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), ground.at("model").join(file.file_name())).unwrap();
        }
        fs::create_dir(ground.at("home")).unwrap();
        ground.give("home");
        ground
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a file or directory the user's own.
    pub(crate) fn give(&self, path: &str) {
        if is_root() {
            chown(self.at(path), Some(USER), Some(USER)).unwrap();
        }
    }

    /// This program in the ground's directory, run by an ordinary user.
    pub(crate) fn user(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).env("HF_HUB_OFFLINE", "1");
        if is_root() {
            command.uid(USER).gid(USER);
        }
        command
    }

    /// The run, with more arguments.
    pub(crate) fn apply(&self, more: &[&str]) -> Command {
        self.user(self.at("qwen-fp8"), &[&APPLY[..], more].concat())
    }

    /// The run under a shell that has done something first, such as setting a limit.
    pub(crate) fn apply_after(&self, first: &str, more: &[&str]) -> Command {
        let line = format!("{first}; exec ./qwen-fp8 \"$@\"");
        self.user("sh", &[&["-c", &line, "sh"][..], &APPLY, more].concat())
    }

    /// The run with the signals heard that whoever started these tests may have had ignored, as `nohup` and `&` do.
    pub(crate) fn apply_heard(&self, more: &[&str]) -> Command {
        let program = ["--default-signal=HUP,INT,TERM", "./qwen-fp8"];
        self.user("env", &[&program[..], &APPLY, more].concat())
    }

    /// What lies where the output goes.
    pub(crate) fn home(&self) -> Vec<String> {
        let names = fs::read_dir(self.at("home")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The files of the output, by name.
    pub(crate) fn output(&self) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(self.at("home/out")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program ended by its own will with this code; what it said.
pub(crate) fn ended(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(code), None), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The program ended with this code, said all of these words, and left nothing that was not there before.
pub(crate) fn refused(ground: &Ground, command: &mut Command, code: i32, words: &[&str]) {
    let before = ground.home();
    let said = ended(&command.output().unwrap(), code);
    for word in words {
        assert!(said.contains(word), "no word of {word:?}: {said}");
    }
    assert_eq!(ground.home(), before, "{said}");
}

/// The program did what it was told.
pub(crate) fn done(ground: &Ground, command: &mut Command) {
    ended(&command.output().unwrap(), 0);
    assert!(ground.at("home/out/config.json").exists());
}
