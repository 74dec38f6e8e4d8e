//! `--quiet`: errors and nothing else, on either stream; `--verbose`: every tensor.

use std::path::Path;

use super::{BLOCKS, FIXTURE, Folder, run};
use crate::support::folder::{Base, Folder as Checkpoint};

/// Runs a line with and without `--quiet`: exit codes, and what was said on both streams.
fn both(folder: &Folder, line: &str) -> [(Option<i32>, String, String); 2] {
    [" --quiet", ""].map(|quiet| {
        let line = format!("{line}{quiet}");
        let words = line.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => folder.path(name),
            None => word.to_owned(),
        });
        let words: Vec<String> = words.collect();
        let output = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    })
}

#[test]
fn verbose_names_every_tensor() {
    let folder = Folder::new(BLOCKS);
    let source = qwen_fp8::checkpoint::Checkpoint::open(Path::new(FIXTURE)).unwrap();
    let (recipe, out) = (folder.path("recipe.yaml"), folder.path("out"));
    for line in [&["inspect", FIXTURE][..], &["apply", &recipe, "--model", FIXTURE, "--output", &out]] {
        let said = |more: &[&str]| {
            let output = run(&[line, more].concat());
            assert!(output.status.success(), "{output:?}");
            std::fs::remove_dir_all(&out).ok();
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        };
        let (brief, verbose) = (said(&[]), said(&["--verbose"]));
        for tensor in &source.tensors {
            assert!(
                verbose.contains(tensor.target_name()) && !brief.contains(tensor.target_name()),
                "{line:?}: {}",
                tensor.name
            );
        }
    }
}

#[test]
fn what_is_fine_is_not_mentioned() {
    let folder = Folder::new(BLOCKS);
    Checkpoint::read(Base::Block.dir()).write(Path::new(&folder.path("good")));
    for line in [
        format!("plan @recipe.yaml --model {FIXTURE}"),
        format!("explain @recipe.yaml lm_head --model {FIXTURE}"),
        "validate @recipe.yaml".to_owned(),
        format!("inspect {FIXTURE}"),
        "schemes".to_owned(),
        "schemes W4A16".to_owned(),
        "schemes test MXFP8".to_owned(),
        format!("verify @good --source {FIXTURE}"),
        "lint @good".to_owned(),
        // It has a warning: it is not quantized.
        format!("lint {FIXTURE}"),
        "lint --rules".to_owned(),
        format!("diff {FIXTURE} @good"),
        format!("init {FIXTURE} --output @new.yaml"),
    ] {
        if line.starts_with("init") {
            // The second of the two runs would find the file.
            let quiet = run(&["init", FIXTURE, "--output", &folder.path("new.yaml"), "-q"]);
            assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");
            continue;
        }
        let [(code, stdout, stderr), (loud_code, loud, said)] = both(&folder, &line);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "", ""), "{line}");
        assert!(loud_code == Some(0) && loud.len() + said.len() > 0, "{line}");
    }
    // A recipe or a schema on stdout is what the command makes, and no message.
    for line in [format!("init {FIXTURE}"), "schema".to_owned(), "schema --output plan".to_owned()] {
        let [(code, stdout, stderr), (_, loud, _)] = both(&folder, &line);
        assert_eq!((code, stdout, stderr), (Some(0), loud, String::new()), "{line}");
    }
}

#[test]
fn errors_are_still_shown() {
    let folder = Folder::new("format: fp8\nscheme: FP8_BLOK\ntargets: Linear\n");
    let mut spoilt = Checkpoint::read(Base::Block.dir());
    spoilt.remove("model.language_model.layers.1.mlp.down_proj.weight_scale_inv");
    // A warning beside the error.
    spoilt.edit_list(|list| list.push("nothing".into()));
    spoilt.write(Path::new(&folder.path("spoilt")));
    for (line, word) in [
        (format!("plan @recipe.yaml --model {FIXTURE}"), "error: no scheme is called"),
        ("validate @recipe.yaml".to_owned(), "error: no scheme is called"),
        ("inspect @nowhere".to_owned(), "error: "),
        ("lint @spoilt".to_owned(), "error[Q301]"),
        (format!("verify @spoilt --source {FIXTURE}"), "error[Q301]"),
        ("schemes test MXFP8 --options {\"wheels\":4}".to_owned(), "unknown field `wheels`"),
        ("schemes FP8_BLOK".to_owned(), "error: no scheme is called"),
        ("plan --wheels".to_owned(), "error: unexpected argument"),
    ] {
        let [(code, stdout, stderr), (loud_code, ..)] = both(&folder, &line);
        assert!(code == loud_code && code != Some(0), "{line}: {code:?}");
        let all = stdout + &stderr;
        assert!(all.contains(word) && !all.contains("warning") && !all.contains("1 error"), "{line}: {all}");
    }
    let [(code, stdout, stderr), _] = both(&folder, &format!("diff {FIXTURE} @spoilt --exit-code"));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", ""));
}
