//! Damage to `config.json`, and files beside the weights.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse, Then};
use crate::support::scene::{CONFIG, Scene};

const WHERE: &str = "config.json";

fn mode(scene: &Scene, path: &str, mode: u32) {
    fs::set_permissions(scene.at(path), Permissions::from_mode(mode)).unwrap();
}

fn is_absent(scene: &Scene, names: &[&str]) {
    for name in names {
        assert!(fs::symlink_metadata(scene.at("out").join(name)).is_err(), "{name} was copied");
    }
}

fn written_config(scene: &Scene) -> String {
    fs::read_to_string(scene.at("out/config.json")).unwrap()
}

const SECRETS: &[&str] =
    &[".env", ".netrc", ".git", ".huggingface", "id_ed25519", "token", "server.key", "credentials.json", "aws.pem"];
const PICKLES: &[&str] = &[
    "pytorch_model.bin",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "x.pkl",
    "model.gguf",
    "m.onnx",
    "w.npz",
];

pub(crate) const CASES: &[Case] = &[
    Case("config missing", |s| s.remove("model/config.json"), Refuse(&[WHERE, "missing"])),
    Case("config empty", |s| s.config(""), Refuse(&[WHERE, "JSON"])),
    Case("config as YAML", |s| s.config("model_type: qwen3\n"), Refuse(&[WHERE, "JSON", "line 1"])),
    Case("config as an array", |s| s.config("[]"), Refuse(&[WHERE, "expected an object"])),
    Case("config not UTF-8", |s| s.config(b"{\"model_type\":\"\xff\"}"), Refuse(&[WHERE, "UTF-8"])),
    Case(
        "config nested",
        |s| s.config_with(&format!(r#""x":{}1{}"#, "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        Refuse(&[WHERE, "nested"]),
    ),
    Case(
        "config with a key twice",
        |s| s.config_with(r#""model_type":"llama""#),
        Refuse(&[WHERE, "duplicate key `model_type`"]),
    ),
    Case(
        "config with NaN",
        |s| s.config_with(r#""x":NaN"#),
        Refuse(&[WHERE, "`NaN` is no JSON, though Python writes it"]),
    ),
    Case("config with Infinity", |s| s.config_with(r#""x":-Infinity"#), Refuse(&[WHERE, "`Infinity`"])),
    Case("config cut off", |s| s.config(&CONFIG[..40]), Refuse(&[WHERE, "JSON"])),
    Case("config with a mark", |s| s.config(format!("\u{feff}{CONFIG}")), Accept),
    Case("config of no model", |s| s.config(r#"{"api_key":"s3cr3t"}"#), Refuse(&[WHERE, "describes no model"])),
    Case(
        "config linked to a secret",
        |s| {
            s.write("outside/secret.json", r#"{"api_key":"s3cr3t"}"#);
            s.link("../outside/secret.json", "model/config.json")
        },
        Refuse(&[WHERE, "describes no model"]),
    ),
    Case("config as a FIFO", |s| s.fifo("model/config.json"), Refuse(&[WHERE, "FIFO"])),
    Case("config as a device", |s| s.link("/dev/zero", "model/config.json"), Refuse(&[WHERE, "device"])),
    Case(
        "config as a folder",
        |s| {
            s.remove("model/config.json");
            s.dir("model/config.json")
        },
        Refuse(&[WHERE, "directory"]),
    ),
    Case(
        "config of 100 MB",
        |s| fs::File::options().write(true).open(s.at("model/config.json")).unwrap().set_len(100 << 20).unwrap(),
        Refuse(&[WHERE, "is too large"]),
    ),
    Case(
        "config with a long text",
        |s| s.config_with(&format!(r#""chat_template":"{}""#, "x".repeat(4_000_000))),
        Accept,
    ),
    Case(
        "config with numbers that no machine holds",
        |s| {
            s.config_with(
                r#""max":1000000000000000019884624838656,"eps":1e-400,"f":0.1000000000000000055511151231257827"#,
            )
        },
        Then(|s| {
            for text in ["1000000000000000019884624838656", "1e-400", "0.1000000000000000055511151231257827"] {
                assert!(written_config(s).contains(text), "config.json lost {text}");
            }
        }),
    ),
    Case(
        "config with unknown keys",
        |s| s.config_with(r#""zzz": {"a":[1, {"b":null}]},"A":1"#),
        Then(|s| {
            let config = written_config(s);
            assert!(
                config.contains(r#""zzz": {"a":[1, {"b":null}]}"#) && config.find("zzz") < config.find("\"A\""),
                "{config}"
            );
        }),
    ),
    Case(
        "config with escape codes",
        |s| s.config(r#"{"model_type":"\u001b[31mx","architectures":["\u001b[2J"]}"#),
        Accept,
    ),
    Case("config of an unknown model", |s| s.config(r#"{"model_type":"frobnicator","architectures":["X"]}"#), Accept),
    Case("config with sizes as text", |s| s.config(CONFIG.replace("16", "\"16\"")), Accept),
    Case(
        "config with absurd sizes",
        |s| s.config(CONFIG.replace("16", "9223372036854775808").replace(":1,", ":1000000000000000000,")),
        Accept,
    ),
    Case("config with -1 layers", |s| s.config(CONFIG.replace(":1,", ":-1,")), Accept),
    Case("config that lies about the dtype", |s| s.config_with(r#""torch_dtype":"float64""#), Accept),
    Case(
        "code",
        |s| s.write("model/modeling_evil.py", "import os; os.system('echo pwned > outside/canary.txt')\n"),
        Accept,
    ),
    Case(
        "pickles",
        |s| PICKLES.iter().for_each(|name| s.write(format!("model/{name}"), b"\x80\x02cos\nsystem\n.")),
        Then(|s| is_absent(s, PICKLES)),
    ),
    Case(
        "secrets",
        |s| SECRETS.iter().for_each(|name| s.write(format!("model/{name}"), "hf_secret")),
        Then(|s| is_absent(s, SECRETS)),
    ),
    Case(
        "secrets in folders",
        |s| {
            s.dir("model/.git");
            s.dir("model/.ssh");
            s.dir("model/original");
            s.write("model/.git/config", "token");
            s.write("model/original/tokenizer.json", "{}")
        },
        Then(|s| is_absent(s, &[".git", ".ssh", "original"])),
    ),
    Case(
        "folders of an embedding model",
        |s| {
            s.write("model/modules.json", r#"[{"path":""},{"path":"1_Pooling"},{"path":"2_Dense/inner"}]"#);
            s.dir("model/1_Pooling");
            s.dir("model/2_Dense");
            s.dir("model/2_Dense/inner");
            s.write("model/1_Pooling/config.json", "{}");
            s.write("model/1_Pooling/.env", "hf_secret");
            s.write("model/2_Dense/inner/model.safetensors", "weights");
            s.link("../outside/canary.txt", "model/1_Pooling/leak.db")
        },
        Then(|s| {
            assert_eq!(fs::read_to_string(s.at("out/1_Pooling/config.json")).unwrap(), "{}");
            assert_eq!(fs::read_to_string(s.at("out/2_Dense/inner/model.safetensors")).unwrap(), "weights");
            is_absent(s, &["1_Pooling/.env", "1_Pooling/leak.db"]);
        }),
    ),
    Case(
        "modules that lead elsewhere",
        |s| {
            s.write(
                "model/modules.json",
                r#"[{"path":"../outside"},{"path":"/etc"},{"path":".git"},{"path":"x/../.."}]"#,
            );
            s.dir("model/.git");
            s.dir("model/x");
            s.write("model/.git/config.json", "token");
            s.write("model/x/config.json", "{}")
        },
        Then(|s| {
            is_absent(s, &["canary.txt", "etc", ".git", "x", "1_Pooling"]);
            assert!(!s.at("out/../outside/config.json").exists());
        }),
    ),
    Case(
        "modules without end",
        |s| {
            s.write("model/modules.json", r#"[{"path":"1_Loop"}]"#);
            s.dir("model/1_Loop");
            s.link(".", "model/1_Loop/again")
        },
        Accept,
    ),
    Case("modules that are no list", |s| s.write("model/modules.json", r#"{"path":"1_Pooling"}"#), Accept),
    Case(
        "modules of a gigabyte",
        |s| {
            s.write("model/modules.json", "[");
            fs::File::options().write(true).open(s.at("model/modules.json")).unwrap().set_len(1 << 30).unwrap()
        },
        Refuse(&["modules.json", "is too large"]),
    ),
    Case(
        "an adapter alone",
        |s| {
            s.remove("model/config.json");
            s.write("model/adapter_config.json", r#"{"base_model_name_or_path":"Qwen/Qwen3-8B"}"#)
        },
        Refuse(&["LoRA adapter, not a model", "this directory in `adapters`"]),
    ),
    Case(
        "Mistral's own form",
        |s| {
            s.remove("model/config.json");
            s.write("model/params.json", r#"{"dim":128}"#);
            s.write("model/consolidated.safetensors", "")
        },
        Refuse(&["Mistral's own form", "consolidated.safetensors"]),
    ),
    Case(
        "private mode",
        |s| mode(s, "model/tokenizer.json", 0o600),
        Then(|s| {
            let mode = fs::metadata(s.at("out/tokenizer.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o177, 0, "{mode:o}");
        }),
    ),
    Case("set-uid and execute", |s| mode(s, "model/tokenizer_config.json", 0o6755), Accept),
    Case(
        "unknown file that is a link outside",
        |s| s.link("../outside/canary.txt", "model/leak.json"),
        Then(|s| is_absent(s, &["leak.json"])),
    ),
    Case(
        "known file that is a link to nothing",
        |s| s.link("gone", "model/tokenizer.json"),
        Refuse(&["tokenizer.json", "dangling symlink"]),
    ),
    Case(
        "known file that is a device",
        |s| s.link("/dev/zero", "model/tokenizer.json"),
        Refuse(&["tokenizer.json", "device"]),
    ),
    Case("known file that is a FIFO", |s| s.fifo("model/tokenizer.json"), Refuse(&["tokenizer.json", "FIFO"])),
    Case(
        "known file that is a git-lfs pointer",
        |s| s.write("model/tokenizer.json", "version https://git-lfs.github.com/spec/v1\n"),
        Refuse(&["tokenizer.json", "git lfs pull"]),
    ),
    Case("unknown file that is a FIFO", |s| s.fifo("model/pipe.json"), Then(|s| is_absent(s, &["pipe.json"]))),
    Case(
        "links to folders",
        |s| {
            s.link(".", "model/loop");
            s.link("..", "model/up");
            s.link("/", "model/root")
        },
        Then(|s| is_absent(s, &["loop", "up", "root"])),
    ),
    Case(
        "8 GiB that are not there",
        |s| fs::File::create(s.at("model/optimizer.state")).unwrap().set_len(8 << 30).unwrap(),
        Then(|s| is_absent(s, &["optimizer.state"])),
    ),
    Case(
        "name that is not UTF-8",
        |s| s.write(std::path::Path::new("model").join(OsStr::from_bytes(b"caf\xe9\xff.txt")), "x"),
        Accept,
    ),
    Case("name with escape codes", |s| s.write("model/a\nb\u{1b}[31m\u{202e}.txt", "x"), Accept),
    Case("copied name with escape codes", |s| s.write("model/\u{1b}[31m\u{202e}.py", "x"), Accept),
    Case("name of 255 bytes", |s| s.write(format!("model/tokenizer{}.json", "n".repeat(241)), "{}"), Accept),
    Case(
        "left-overs of other tools",
        |s| {
            ["model-00001-of-00002.safetensors.tmp", "x.incomplete", ".lock", "vocab.json.lock"]
                .iter()
                .for_each(|name| s.write(format!("model/{name}"), "junk"))
        },
        Accept,
    ),
    Case("thousands of logs", |s| (0..3000).for_each(|i| s.write(format!("model/{i}.log"), "")), Accept),
];
