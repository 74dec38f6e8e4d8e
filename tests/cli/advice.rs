//! What was meant: each mistake in naming a recipe, a model or a scheme leads to a command that runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{BLOCKS, FIXTURE, Folder, assert_seen, command};
use crate::support::folder::Folder as Checkpoint;

/// A folder to work in: recipes, models by directory and in the cache, and a home directory.
struct Desk(Folder);

impl Desk {
    fn new() -> Self {
        let folder = Folder::new(BLOCKS);
        let at = |name: &str| folder.path(name);
        for dir in ["recipes/from_fp8", "models", "home", "cache/models--Qwen--Qwen3-VL-8B-Instruct/snapshots"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        for recipe in ["recipes/fp8_dynamic.yaml", "recipes/from_fp8/retag.yaml", "home/own.yaml"] {
            fs::write(at(recipe), BLOCKS).unwrap();
        }
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
        let snapshot = "cache/models--Qwen--Qwen3-VL-8B-Instruct/snapshots/0123456789012345678901234567890123456789";
        for model in ["models/Qwen3-VL-8B-Instruct", "home/model", snapshot] {
            symlink(&fixture, at(model)).unwrap();
        }
        Self(folder)
    }

    /// A command in this folder, with its home and cache.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.current_dir(self.0.path("")).env("HOME", self.0.path("home")).env("HF_HUB_CACHE", self.0.path("cache"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn seen(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        self.0.seen(line, &mut self.command(&arguments))
    }

    /// Runs a command with this text as its standard input.
    fn fed(&self, arguments: &[&str], text: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What stands in backticks after `did you mean`.
fn suggestion(said: &str) -> Option<&str> {
    said.split("did you mean `").nth(1)?.split('`').next()
}

#[test]
fn a_recipe_that_is_mistyped_is_found() {
    let desk = Desk::new();
    for (typed, meant) in [
        ("recipe/fp8_dynamic.yaml", "recipes/fp8_dynamic.yaml"),
        ("recipes/fp8_dynmaic.yaml", "recipes/fp8_dynamic.yaml"),
        ("recipes/fp8_dynamic.yml", "recipes/fp8_dynamic.yaml"),
        ("recipes/fp8_dynamic.toml", "recipes/fp8_dynamic.yaml"),
        ("recipes/fp8_dynamic", "recipes/fp8_dynamic.yaml"),
        ("recipes/FP8-Dynamic.yaml", "recipes/fp8_dynamic.yaml"),
        ("fp8_dynamic.yaml", "recipes/fp8_dynamic.yaml"),
        ("fp8_dynamic", "recipes/fp8_dynamic.yaml"),
        ("elsewhere/fp8_dynamic.yaml", "recipes/fp8_dynamic.yaml"),
        ("retag.yaml", "recipes/from_fp8/retag.yaml"),
        ("recipes", "recipes/fp8_dynamic.yaml"),
        ("./reciep.yaml", "./recipe.yaml"),
    ] {
        let refused = desk.run(&["validate", typed]);
        let said = stderr(&refused);
        assert_eq!((refused.status.code(), suggestion(&said)), (Some(1), Some(meant)), "{typed}: {said}");
        assert!(desk.run(&["validate", meant]).status.success(), "{meant}");
    }
    // A shell replaces `~` where it begins a word, and not where it is quoted.
    let said = stderr(&desk.run(&["validate", "~/own.yaml"]));
    assert_eq!(suggestion(&said), Some(desk.0.path("home/own.yaml").as_str()), "{said}");
}

#[test]
fn what_is_no_recipe_is_told_from_one() {
    let desk = Desk::new();
    let code = "from llmcompressor import oneshot\nrecipe = QuantizationModifier(targets=\"Linear\", scheme=\"FP8_DYNAMIC\", ignore=[\"lm_head\"])\n";
    fs::write(desk.0.path("quantize.py"), code).unwrap();
    fs::write(desk.0.path("notes.txt"), "scheme: FP8\n").unwrap();
    let shard = fs::File::create(desk.0.path("model.safetensors")).unwrap();
    shard.set_len(8 << 20).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, desk.0.path("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let lines = [
        "validate quantize.py",
        "validate models/Qwen3-VL-8B-Instruct",
        "validate models/Qwen3-VL-8B-Instruct/config.json",
        "validate model.safetensors",
        "validate Qwen/Qwen3-VL-8B-Instruct",
        "validate frobnicate.yaml",
        "validate notes.txt",
        "validate models",
        "validate fifo",
    ];
    assert_seen!("no_recipe", lines.map(|line| desk.seen(line)).join("\n\n"));
    // What stands in the help is a recipe.
    let said = stderr(&desk.run(&["validate", "quantize.py"]));
    let recipe: String = said
        .lines()
        .skip_while(|line| !line.contains("that is:"))
        .skip(1)
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    fs::write(desk.0.path("quantize.yaml"), recipe).unwrap();
    let planned = desk.run(&["plan", "quantize.yaml", "-m", "models/Qwen3-VL-8B-Instruct"]);
    assert!(planned.status.success(), "{}", stderr(&planned));
}

#[test]
fn a_model_that_is_mistyped_is_found() {
    let desk = Desk::new();
    let model = "models/Qwen3-VL-8B-Instruct";
    let id = "Qwen/Qwen3-VL-8B-Instruct";
    let home = desk.0.path("home/model");
    let at_home = desk.0.path("home/modle").replace(&desk.0.path("home"), "~");
    for (typed, meant) in [
        ("models/Qwen3-VL-8B-Instuct", model),
        ("modles/qwen3-vl-8b-instruct", model),
        ("models", model),
        ("models/Qwen3-VL-8B-Instruct/config.json", model),
        ("models/Qwen3-VL-8B-Instruct/model.safetensors.index.json", model),
        ("models/Qwen3-VL-8B-Instruct/model-00001-of-00004.safetensors", model),
        ("qwen/qwen3-vl-8b-instruct", id),
        ("Qwen/Qwen3-VL-8B-Instuct", id),
        ("Qwen3-VL-8B-Instruct", id),
        ("qwen/qwen3-vl-8b-instruct@main", "Qwen/Qwen3-VL-8B-Instruct@main"),
        ("https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct", id),
        ("https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct/tree/main", id),
        ("huggingface.co/Qwen/Qwen3-VL-8B-Instruct", id),
        ("cache/models--Qwen--Qwen3-VL-8B-Instruct", id),
        ("models--Qwen--Qwen3-VL-8B-Instruct", id),
        ("Qwen/Qwen3-VL-8B-Instruct/", id),
        ("Qwen/Qwen3-VL-8B-Instruct.git", id),
        ("git@hf.co:Qwen/Qwen3-VL-8B-Instruct", id),
        ("Qwen/Qwen3-VL-8B-Instruct --revision main", id),
        ("Qwen/Qwen3-VL-8B-Instruct:main", id),
        ("https://modelscope.cn/models/Qwen/Qwen3-VL-8B-Instruct/summary", id),
        ("~/model", &home),
        (&at_home, &home),
    ] {
        let refused = desk.run(&["plan", "recipe.yaml", "--model", typed]);
        let said = stderr(&refused);
        assert_eq!((refused.status.code(), suggestion(&said)), (Some(1), Some(meant)), "{typed}: {said}");
        let planned = desk.run(&["plan", "recipe.yaml", "--model", meant]);
        assert!(planned.status.success() || meant.contains('@'), "{meant}: {}", stderr(&planned));
        // Every command that takes a checkpoint says it.
        for command in ["init", "inspect", "lint", "verify"] {
            let output = desk.run(&[command, typed]);
            // To `lint` and `verify` a directory without weights is a finding, and stands in the report.
            let said = stderr(&output) + &String::from_utf8(output.stdout).unwrap();
            assert_eq!(suggestion(&said), Some(meant), "{command} {typed}: {said}");
        }
    }
    fs::write(desk.0.path("model.gguf"), "GGUF").unwrap();
    let lines = [
        "inspect recipe.yaml",
        "inspect model.gguf",
        "inspect ~/elsewhere/model",
        "inspect https://huggingface.co/org/name",
        "inspect home/own.yaml/x",
        "inspect recipes",
    ];
    assert_seen!("no_model", lines.map(|line| desk.seen(line)).join("\n\n"));
}

#[test]
fn a_download_names_the_model_and_not_what_was_typed() {
    let desk = Desk::new();
    let said = |typed: &str| stderr(&desk.run(&["inspect", typed]));
    for typed in [
        "org/elsewhere",
        "org/elsewhere/",
        "org/elsewhere.git",
        "org/elsewhere --revision main",
        "git@hf.co:org/elsewhere",
        "models--org--elsewhere",
        "https://huggingface.co/org/elsewhere.git",
        "https://modelscope.cn/models/org/elsewhere",
    ] {
        assert!(said(typed).contains("`hf download org/elsewhere`"), "{typed}: {}", said(typed));
    }
    assert!(said("org/elsewhere:v1").contains("`hf download org/elsewhere --revision v1`"));
    assert!(said("https://modelscope.cn/models/org/elsewhere").contains("`modelscope download --model org/elsewhere "));
    // What is near to a model of the cache may be one of its own; what differs in case is none.
    let near = said("Qwen/Qwen3-VL-4B-Instruct");
    assert!(near.contains("if `Qwen/Qwen3-VL-4B-Instruct` is right, download it with `hf download"), "{near}");
    assert!(!said("qwen/qwen3-vl-8b-instruct").contains("download"));
}

/// The text that `plan` says of a recipe, and whether it plans.
fn planned(desk: &Desk, recipe: &str, model: &str) -> (String, bool) {
    fs::write(desk.0.path("typed.yaml"), format!("serving: warn\n{recipe}")).unwrap();
    let output = desk.run(&["plan", "typed.yaml", "--model", model]);
    (stderr(&output), output.status.success())
}

#[test]
fn a_pattern_that_is_mistyped_leads_to_a_plan() {
    let desk = Desk::new();
    let model = "models/Qwen3-VL-8B-Instruct";
    let recipe = |pattern: &str| format!("scheme: FP8_DYNAMIC\ntargets: '{pattern}'\n");
    for (typed, meant) in [
        ("lin", "Linear"),
        ("linear", "Linear"),
        ("RE:.*q_proj", "re:.*q_proj"),
        ("regex:.*q_proj", "re:.*q_proj"),
        ("Re:q_proj", "re:.*q_proj"),
        ("re:.*(q_proj", "re:.*(q_proj)"),
        ("re:.*[qk_proj", "re:.*[qk_proj]"),
        ("lm_hed", "lm_head"),
    ] {
        let (said, _) = planned(&desk, &recipe(typed), model);
        assert_eq!(suggestion(&said), Some(meant), "{typed}: {said}");
        let (said, is_planned) = planned(&desk, &recipe(meant), model);
        assert!(is_planned, "{meant}: {said}");
    }
    // A size too.
    let sized = |size: &str| planned(&desk, &format!("{}max_shard_size: {size}\n", recipe("Linear")), model);
    assert_eq!(suggestion(&sized("5 gigs").0), Some("5GB"));
    assert!(sized("5GB").1);
    // Where the head is tied, no tensor has its name.
    let mut tied = Checkpoint::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE));
    tied.remove("lm_head.weight");
    tied.write(Path::new(&desk.0.path("tied")));
    let ignoring = |head: &str| planned(&desk, &format!("{}ignore: [{head}]\n", recipe("Linear")), "tied");
    let said = ignoring("lm_hed").0;
    assert_eq!(suggestion(&said), Some("lm_head"), "{said}");
    assert!(!ignoring("lm_head").0.contains("matches nothing"));
}

#[test]
fn an_alternative_that_matches_nothing_is_told_where_it_is_a_slip() {
    let desk = Desk::new();
    let model = "models/Qwen3-VL-8B-Instruct";
    let said = |words: &str| {
        let recipe = format!("scheme: FP8_DYNAMIC\ntargets: ['re:.*layers.*\\.({words})_proj$']\n");
        let (said, is_planned) = planned(&desk, &recipe, model);
        assert!(is_planned, "{words}: {said}");
        said
    };
    let slip = said("gate|up|dwn");
    assert!(slip.contains("warning: `dwn` in `re:.*layers.*\\.(gate|up|dwn)_proj$` matches nothing"), "{slip}");
    assert_eq!(suggestion(&slip), Some("down"));
    // Nothing near, or only what stands there: it is for another model.
    for words in ["gate|up|down", "gate|up|w13", "gate|up|gate_up", "up|u"] {
        assert!(!said(words).contains("alternatives"), "{words}: {}", said(words));
    }
}

#[test]
fn explain_offers_what_is_near_and_nothing_else() {
    let desk = Desk::new();
    let said =
        |name: &str| stderr(&desk.run(&["explain", "recipe.yaml", name, "--model", "models/Qwen3-VL-8B-Instruct"]));
    assert!(said("q_prj").contains("layers.0.self_attn.q_proj`"), "{}", said("q_prj"));
    assert!(said("layers.0.mlp.up_prj").contains("`model.language_model.layers.0.mlp.up_proj`"));
    assert_eq!(suggestion(&said("lm_hed")), Some("lm_head"));
    for name in ["frobnicate", "x", &"y".repeat(400)] {
        assert!(said(name).contains("lists the names") && !said(name).contains("lm_head"), "{}", said(name));
    }
}

#[test]
fn init_says_what_a_missing_folder_is() {
    let desk = Desk::new();
    let init = |path: &str| stderr(&desk.run(&["init", "models/Qwen3-VL-8B-Instruct", "--output", path]));
    assert_eq!(suggestion(&init("recipe/mine.yaml")), Some("recipes/mine.yaml"), "{}", init("recipe/mine.yaml"));
    assert!(init("elsewhere/mine.yaml").contains("with `mkdir -p elsewhere`"));
    // The line can be typed as it stands.
    assert!(init("else where/mine.yaml").contains("with `mkdir -p 'else where'`"), "{}", init("else where/mine.yaml"));
}

#[test]
fn a_scheme_of_another_name_is_found() {
    let desk = Desk::new();
    for (typed, meant) in [("int4", "W4A16"), ("NVFP4A4", "NVFP4"), ("fp8_block", "FP8_BLOCK"), ("W4A61", "W4A16")] {
        fs::write(desk.0.path("typed.yaml"), format!("scheme: {typed}\ntargets: Linear\n")).unwrap();
        let said = stderr(&desk.run(&["validate", "typed.yaml"]));
        assert_eq!(suggestion(&said), Some(meant), "{typed}: {said}");
        assert!(desk.run(&["schemes", meant]).status.success());
    }
    assert_seen!(
        "schemes_unknown",
        ["int4", "gptq", "frobnicate"].map(|name| desk.seen(&format!("schemes {name}"))).join("\n\n")
    );
}

#[test]
fn a_recipe_comes_from_standard_input() {
    let desk = Desk::new();
    let model = "models/Qwen3-VL-8B-Instruct";
    // Its paths are relative to the working directory, as those of any recipe.
    let recipe = format!("model: {model}\noutput: from_stdin\n{BLOCKS}");
    let applied = desk.fed(&["apply", "-", "-q"], &recipe);
    assert!(applied.status.success(), "{}", stderr(&applied));
    let by_file = desk.run(&["apply", "recipe.yaml", "-q", "--model", model, "--output", "from_file"]);
    assert!(by_file.status.success(), "{}", stderr(&by_file));
    for name in ["config.json", "model-00001-of-00004.safetensors", "model-00004-of-00004.safetensors"] {
        let read = |dir: &str| fs::read(desk.0.path(&format!("{dir}/{name}"))).unwrap();
        assert!(read("from_stdin") == read("from_file"), "{name}");
    }
    let explained = desk.fed(&["explain", "-", "lm_head", "--model", model], &recipe);
    assert!(String::from_utf8(explained.stdout).unwrap().contains(" <stdin>:7: rule 2"));

    let said = |arguments: &[&str], text: &str| {
        let output = desk.fed(arguments, text);
        format!(
            "$ qwen-fp8 {} <<<{text:?}\nexit code {}\n{}",
            arguments.join(" "),
            output.status.code().unwrap(),
            stderr(&output)
        )
    };
    let toml = "# A recipe.\nscheme = \"FP8_BLOK\"\ntargets = \"Linear\"\n";
    let unsuitable = "format = 'fp8'\n[[rules]]\nscheme = 'FP8_BLOCK'\ntargets = ['re:.*_proj$']\n[[rules]]\nscheme = 'FP8_BLOCK'\ntargets = ['re:.*visual.*']\n";
    let seen = [
        said(&["validate", "-"], BLOCKS),
        said(&["validate", "-"], "format: fp8\nscheme: FP8_BLOK\ntargets: Linear\n"),
        said(&["validate", "-"], toml),
        said(&["validate", "-"], ""),
        said(&["plan", "-"], BLOCKS),
        said(&["plan", "-", "--model", model], &BLOCKS.replace("*norm*", "*nrom*")),
        // Help comes in the language of the recipe.
        said(&["plan", "-", "--model", model], unsuitable),
    ];
    assert_seen!("stdin", seen.join("\n\n"));
    // A stream without end is cut off.
    let endless = fs::File::open("/dev/zero").unwrap();
    let output = desk.command(&["validate", "-"]).stdin(endless).output().unwrap();
    assert!(stderr(&output).contains("too large: more than 4.19 MB"), "{}", stderr(&output));
}

#[test]
fn init_puts_the_schema_where_editors_find_it() {
    let desk = Desk::new();
    let init = |data: &str, more: &[&str]| {
        let arguments = [&["init", "models/Qwen3-VL-8B-Instruct"], more].concat();
        desk.command(&arguments).env("XDG_DATA_HOME", data).output().unwrap()
    };
    let data = desk.0.path("data of mine");
    let written = init(&data, &["--output", "first.yaml"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let schema = format!("{data}/qwen-fp8/recipe.schema.json");
    let first = fs::read_to_string(desk.0.path("first.yaml")).unwrap();
    let line = format!("# yaml-language-server: $schema=file://{}\n", schema.replace(' ', "%20"));
    assert!(first.starts_with(&line), "{first}");
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/recipe.schema.json");
    assert!(fs::read(&schema).unwrap() == fs::read(checked_in).unwrap());
    assert!(desk.run(&["validate", "first.yaml"]).status.success());

    // One of another version is replaced, in one step; nothing else is left beside it.
    fs::write(&schema, "{}").unwrap();
    assert!(init(&data, &[]).status.success());
    assert!(fs::metadata(&schema).unwrap().len() > 2);
    assert_eq!(fs::read_dir(format!("{data}/qwen-fp8")).unwrap().count(), 1);

    // Without a place for it, the recipe names none.
    let nowhere = init("/dev/null", &[]);
    assert!(nowhere.status.success());
    let text = String::from_utf8(nowhere.stdout.clone()).unwrap();
    assert!(text.starts_with("# Qwen3-VL") && !text.contains("$schema"), "{text}");
    assert!(stderr(&nowhere).contains("the recipe has no help for editors"), "{}", stderr(&nowhere));

    assert_seen!("schema_install", desk.seen("schema --install"));
}
