//! Containers of Azure, by Azurite, an emulator that Microsoft keeps: a run from one to another is that of a disk, and nothing of
//! somebody else is written over.
//!
//! `QWEN_FP8_AZURITE` names the emulator's script for `node`; without it these tests do nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::proxy::{FaultyProxy, Mistake};
use super::{OTHER_RECIPE, RECIPE, done, files_in, fixture, refused};

/// Ends the emulator when this process ends, however: its standard input is then closed.
const KEEPER: &str = r#"node "$0" --blobHost 127.0.0.1 --blobPort "$1" --inMemoryPersistence --silent --disableTelemetry \
    --skipApiVersionCheck --loose >/dev/null 2>&1 & read -r _; kill $!"#;

const ACCOUNT: &str = "devstoreaccount1";
const KEY: &[u8] = b"a key of the tests";
const VERSION: &str = "2023-11-03";

struct Azurite {
    port: u16,
    containers: AtomicUsize,
    _stdin: ChildStdin,
}

impl Azurite {
    fn get() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Azurite>> = OnceLock::new();
        let script = || std::env::var_os("QWEN_FP8_AZURITE").filter(|script| !script.is_empty());
        SERVER.get_or_init(|| script().map(|script| Self::start(&script))).as_ref()
    }

    fn start(script: &std::ffi::OsStr) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut keeper = Command::new("sh");
        keeper.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", STANDARD.encode(KEY)));
        keeper.args(["-c", KEEPER]).arg(script).arg(port.to_string()).stdin(Stdio::piped());
        let stdin = keeper.spawn().unwrap().stdin.take().unwrap();
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Self { port, containers: AtomicUsize::new(0), _stdin: stdin };
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("Azurite does not listen on port {port} after a minute");
    }

    /// Makes a request of our own, which goes past every proxy; `query` has its keys in order.
    fn ask(&self, method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let is_blob = method == "PUT" && query.is_empty();
        let kind = if is_blob { "x-ms-blob-type:BlockBlob\n" } else { "" };
        let length = if body.is_empty() { String::new() } else { body.len().to_string() };
        let parameters: String = query.iter().map(|(key, value)| format!("\n{key}:{value}")).collect();
        let signed = format!(
            "{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{kind}x-ms-date:{date}\nx-ms-version:{VERSION}\n\
             /{ACCOUNT}/{ACCOUNT}/{path}{parameters}"
        );
        let signature = STANDARD.encode(hmac(KEY, signed.as_bytes()));
        let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let kind = if is_blob { "x-ms-blob-type: BlockBlob\r\n" } else { "" };
        let head = format!(
            "{method} /{ACCOUNT}/{path}?{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: SharedKey \
             {ACCOUNT}:{signature}\r\n{kind}x-ms-date: {date}\r\nx-ms-version: {VERSION}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            query.join("&"),
            self.port,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer[end + 4..].to_vec();
        (status, if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body })
    }

    fn put(&self, container: &str, name: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", &format!("{container}/{name}"), &[], bytes).0, 201, "{name}");
    }

    /// The blobs whose names begin with `prefix`, by the rest of their names.
    fn blobs(&self, container: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let query = [("comp", "list"), ("prefix", prefix), ("restype", "container")];
        let (status, list) = self.ask("GET", container, &query, b"");
        let list = String::from_utf8(list).unwrap();
        assert_eq!(status, 200, "{list}");
        let names = list.split("<Name>").skip(1).map(|rest| rest.split("</Name>").next().unwrap());
        let blob = |name: &str| {
            let (status, bytes) = self.ask("GET", &format!("{container}/{name}"), &[], b"");
            assert_eq!(status, 200, "{name}");
            (name[prefix.len()..].to_owned(), bytes)
        };
        names.map(blob).collect()
    }
}

/// A container of its own with the model in it, a proxy before the emulator, and a directory with the recipe in it.
struct AzureScene {
    azurite: &'static Azurite,
    proxy: FaultyProxy,
    container: String,
    home: tempfile::TempDir,
}

impl AzureScene {
    fn new(recipe: &str) -> Option<Self> {
        let azurite = Azurite::get()?;
        let container = format!("container-{}", azurite.containers.fetch_add(1, Ordering::Relaxed));
        assert_eq!(azurite.ask("PUT", &container, &[("restype", "container")], b"").0, 201);
        for (name, bytes) in files_in(&fixture()) {
            azurite.put(&container, &format!("tiny-qwen3-vl/{name}"), &bytes);
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("recipe.yaml"), recipe).unwrap();
        Some(Self { azurite, proxy: FaultyProxy::to(azurite.port), container, home })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen-fp8"));
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT);
        command.env("AZURE_STORAGE_ACCOUNT_KEY", STANDARD.encode(KEY));
        command.env("AZURITE_BLOB_STORAGE_URL", format!("http://127.0.0.1:{}", self.proxy.port));
        command
    }

    fn apply(&self) -> Command {
        let (mut command, container) = (self.command(), &self.container);
        command.args(["apply", "recipe.yaml", "-q", "--threads", "2"]);
        command.args(["-m", &format!("az://{container}/tiny-qwen3-vl"), "-o", &format!("az://{container}/made/out")]);
        command
    }

    fn made(&self) -> BTreeMap<String, Vec<u8>> {
        self.azurite.blobs(&self.container, "made/out/")
    }

    /// Checks that the output is that of a run from a disk to a disk, and nothing beside it.
    fn check_made(&self) {
        let mut command = self.command();
        done(command.args(["apply", "recipe.yaml", "-q", "-m"]).arg(fixture()).args(["-o", "expected"]));
        let (made, expected) = (self.made(), files_in(&self.home.path().join("expected")));
        assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in &expected {
            assert!(made[name] == *bytes, "{name} differs");
        }
    }
}

#[test]
fn from_azure_to_azure_the_output_is_that_of_a_disk() {
    for recipe in [RECIPE, OTHER_RECIPE] {
        let Some(scene) = AzureScene::new(recipe) else { return };
        done(&mut scene.apply());
        scene.check_made();
        let puts = scene.proxy.seen();
        let puts = puts.iter().filter(|seen| seen.method == "PUT" && !seen.target.contains("journal"));
        let names: Vec<_> =
            puts.map(|seen| seen.target.split('?').next().unwrap().rsplit('/').next().unwrap()).collect();
        assert_eq!(names[names.len() - 2..], ["model.safetensors.index.json", "config.json"]);
        let made = format!("az://{}/made/out", scene.container);
        let proven = done(scene.command().args(["verify", &made, "--manifest", "--source"]).arg(fixture()));
        assert!(proven.contains("proven against"), "{proven}");
    }
}

#[test]
fn on_azure_what_comes_there_meanwhile_is_not_written_over() {
    for name in ["model-00003-of-00004.safetensors", "config.json"] {
        let Some(scene) = AzureScene::new(RECIPE) else { return };
        let (azurite, container) = (scene.azurite, scene.container.clone());
        let put = move || azurite.put(&container, &format!("made/out/{name}"), b"of somebody else");
        // While a block of the third shard is on its way.
        let part = "out/model-00003-of-00004.safetensors?";
        scene.proxy.once("PUT", part, Mistake::First(Box::new(put)));
        let said = refused(&mut scene.apply(), 2);
        assert!(said.contains("another run writes to"), "{said}");
        assert!(scene.made().get("config.json").is_none_or(|config| config == b"of somebody else"));
    }
}

#[test]
fn on_azure_two_runs_do_not_mix_and_an_interrupted_one_goes_on() {
    let Some(scene) = AzureScene::new(RECIPE) else { return };
    // The first run fails behind its first shards; somebody else then has another job for the place.
    let refuse = || Mistake::Answer(403, "", "<Error><Code>AuthorizationFailure</Code></Error>");
    scene.proxy.plan("PUT", "out/model-00004-of-00004.safetensors?", 0, 1, refuse);
    refused(&mut scene.apply(), 2);
    let before = scene.made();
    assert!(before.contains_key("qwen-fp8-journal") && !before.contains_key("config.json"));
    fs::write(scene.home.path().join("recipe.yaml"), OTHER_RECIPE).unwrap();
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("work of an interrupted run of another job"), "{said}");
    assert!(scene.made() == before);
    fs::write(scene.home.path().join("recipe.yaml"), RECIPE).unwrap();
    done(&mut scene.apply());
    scene.check_made();
}

#[test]
fn on_azure_answers_that_are_lost_change_nothing() {
    let Some(scene) = AzureScene::new(RECIPE) else { return };
    scene.proxy.once("PUT", "out/model-00002-of-00004.safetensors?", Mistake::LoseAnswer);
    scene.proxy.once("PUT", "out/model-00003-of-00004.safetensors?comp=blocklist", Mistake::LoseAnswer);
    scene.proxy.once("PUT", "out/config.json", Mistake::LoseAnswer);
    scene.proxy.once("GET", "tiny-qwen3-vl/model-00001-of-00004.safetensors", Mistake::Short(3_000));
    done(&mut scene.apply());
    assert!(scene.proxy.is_through());
    scene.check_made();
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ pad).collect() };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = usize::from_str_radix(str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}
