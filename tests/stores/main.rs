//! Object stores as source and output: the program against a real S3 server, and what lies between them makes mistakes.
//!
//! `.ci/run stores` runs these: they want the feature, and `QWEN_FP8_MOTO_PYTHON`, a Python that has `moto[server]`.

mod azure;
mod faults;
mod google;
mod google_server;
mod messages;
mod output;
mod proxy;
mod server;
mod two_runs;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use google_server::GoogleServer;
use proxy::FaultyProxy;
use server::S3Server;

const RECIPE: &str = "\
version: 1
format: fp8
scheme: FP8_DYNAMIC
block_size: 128
targets: Linear
ignore: ['re:.*visual.*', lm_head]
";

/// Shards of the output that are not those of the source, and scales that need two passes.
const OTHER_RECIPE: &str = "\
version: 1
format: compressed-tensors
scheme: NVFP4A16
targets: Linear
ignore: ['re:.*visual.*', lm_head]
max_shard_size: 300KB
";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3-vl")
}

/// A bucket of its own, a proxy before its server, and a directory with the recipe in it.
struct Scene {
    /// How addresses of the bucket begin: `s3` or `gs`.
    scheme: &'static str,
    server: &'static S3Server,
    proxy: FaultyProxy,
    bucket: String,
    home: tempfile::TempDir,
}

impl Scene {
    /// Returns a scene whose bucket holds the model at `tiny-qwen3-vl`; `None` where there is no server, which is said.
    fn new(recipe: &str) -> Option<Self> {
        Self::of(recipe, "s3", |server| server.port)
    }

    /// As [`Self::new`], with a bucket of Google's.
    fn google(recipe: &str) -> Option<Self> {
        Self::of(recipe, "gs", |server| GoogleServer::over(server.port).port)
    }

    /// Both of them; none where there is no server.
    fn s3_and_google(recipe: &str) -> impl Iterator<Item = Self> {
        [Self::new, Self::google].into_iter().filter_map(move |scene| scene(recipe))
    }

    fn of(recipe: &str, scheme: &'static str, port: impl FnOnce(&S3Server) -> u16) -> Option<Self> {
        let server = S3Server::get()?;
        let bucket = server.new_bucket();
        for (name, bytes) in files_in(&fixture()) {
            server.put(&bucket, &format!("tiny-qwen3-vl/{name}"), &bytes);
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("recipe.yaml"), recipe).unwrap();
        Some(Self { scheme, server, proxy: FaultyProxy::to(port(server)), bucket, home })
    }

    fn source(&self) -> String {
        format!("{}://{}/tiny-qwen3-vl", self.scheme, self.bucket)
    }

    fn output(&self) -> String {
        format!("{}://{}/made/out", self.scheme, self.bucket)
    }

    /// The program with the store's variables and no others.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-fp8"));
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        let endpoint = format!("http://127.0.0.1:{}", self.proxy.port);
        if self.scheme == "gs" {
            return google_server::variables(command, &endpoint);
        }
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    /// `apply` from the store to the store.
    fn apply(&self) -> Command {
        let mut command = self.command();
        command.args(["apply", "recipe.yaml", "-q", "--threads", "2", "-m", &self.source(), "-o", &self.output()]);
        command
    }

    /// What lies under the output's address.
    fn made(&self) -> BTreeMap<String, Vec<u8>> {
        self.server.objects(&self.bucket, "made/out/")
    }

    /// What `apply` writes from a disk to a disk.
    fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        let mut command = self.command();
        command.args(["apply", "recipe.yaml", "-q", "-m"]).arg(fixture()).args(["-o", "expected"]);
        let expected = self.home.path().join("expected");
        if expected.exists() {
            fs::remove_dir_all(&expected).unwrap();
        }
        done(&mut command);
        files_in(&expected)
    }

    /// Removes its own directory on this machine, which a killed run leaves, with nothing in it.
    fn remove_directory_of_killed(&self) {
        for entry in fs::read_dir(self.home.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().unwrap().starts_with("qwen-fp8-") {
                fs::remove_dir(entry.path()).unwrap();
            }
        }
    }

    /// Checks that the output is whole, and that nothing else is left: no journal, no upload, no file of ours.
    fn check_made(&self) {
        let (made, expected) = (self.made(), self.expected());
        assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in &expected {
            assert!(made[name] == *bytes, "{name} differs");
        }
        assert_eq!(self.server.uploads(&self.bucket), 0);
        let left: Vec<_> = fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "recipe.yaml" || name == "expected"), "{left:?}");
    }
}

fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Runs the program, which must succeed, and returns what it printed.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with this code, and returns what it said.
fn refused(command: &mut Command, code: i32) -> String {
    said(&command.output().unwrap(), code)
}

fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}
