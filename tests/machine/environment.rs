//! How a program may be called: without streams, home, working directory or locale; under any mask.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::ground::{Ground, done, ended, refused};

#[test]
fn closed_streams_change_no_byte() {
    for closed in ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let ground = Ground::new();
        done(&ground, &mut ground.apply_after(&format!("exec {closed}"), &["-v", "--json", "--timings"]));
        let files = ground.output();
        // Nothing that was meant for a stream went to a file that took its number.
        fs::rename(ground.at("home/out"), ground.at("home/other")).unwrap();
        done(&ground, &mut ground.apply(&[]));
        assert!(ground.output() == files);
    }
}

#[test]
fn full_streams_change_no_byte() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let ground = Ground::new();
    let stream = || Stdio::from(full.try_clone().unwrap());
    done(&ground, ground.apply(&["-v", "--timings"]).stdout(stream()).stderr(stream()));
    assert_eq!(ground.home(), ["out"]);
    // Data that cannot be had is an error, and the output is there all the same.
    fs::remove_dir_all(ground.at("home/out")).unwrap();
    let said = ended(&ground.apply(&["--json", "-q"]).stdout(stream()).stderr(Stdio::piped()).output().unwrap(), 2);
    assert!(said.contains("standard output cannot be written"), "{said}");
    assert!(ground.at("home/out/config.json").exists());
}

#[test]
fn broken_pipes_change_no_byte() {
    let ground = Ground::new();
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    done(&ground, ground.apply(&["-v", "--json", "--timings"]).stdout(gone()).stderr(gone()));
}

#[test]
fn an_empty_environment_is_enough() {
    let ground = Ground::new();
    done(&ground, ground.apply(&[]).env_clear());
    // Without a home there is no cache to look a model id up in.
    let unknown = ["plan", "recipe.yaml", "--model", "Qwen/Qwen3-8B"];
    refused(
        &ground,
        ground.user(ground.at("qwen-fp8"), &unknown).env_clear().env("HF_HUB_OFFLINE", "1"),
        1,
        &["`Qwen/Qwen3-8B`"],
    );
    let odd = ground.at("home/\u{e4}\u{1f40b}");
    let mut command = ground.user(ground.at("qwen-fp8"), &["apply", "recipe.yaml", "-m", "model", "-o"]);
    ended(&command.arg(&odd).env_clear().env("LANG", "C").env("LC_ALL", "C").output().unwrap(), 0);
    assert!(odd.join("config.json").exists());
}

#[test]
fn an_unusable_temporary_directory_is_not_needed() {
    let ground = Ground::new();
    for dir in ["/nowhere", "/proc", "/dev/null"] {
        done(&ground, ground.apply(&[]).env("TMPDIR", dir));
        fs::remove_dir_all(ground.at("home/out")).unwrap();
    }
}

#[test]
fn absolute_paths_work_in_a_removed_working_directory() {
    let ground = Ground::new();
    let [program, recipe, model, output] =
        ["qwen-fp8", "recipe.yaml", "model", "home/out"].map(|path| ground.at(path).to_str().unwrap().to_owned());
    let apply = |output: &str| {
        let line = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
        let arguments = ["-c", line, "sh", &program, "apply", &recipe, "--model", &model, "--output", output];
        ground.user("sh", &arguments).current_dir(ground.at("home")).output().unwrap()
    };
    let said = ended(&apply("out"), 2);
    assert!(said.contains("cannot make `out` in `.`: No such file or directory"), "{said}");
    ended(&apply(&output), 0);
    assert!(ground.at("home/out/config.json").exists());
}

#[test]
fn the_umask_decides_the_modes_of_the_output() {
    for (mask, dir, document, copy) in
        [("077", 0o700, 0o600, 0o600), ("000", 0o777, 0o666, 0o640), ("027", 0o750, 0o640, 0o640)]
    {
        let ground = Ground::new();
        ground.mode("model/tokenizer.json", 0o640);
        ground.give("model/tokenizer.json");
        done(&ground, &mut ground.apply_after(&format!("umask {mask}"), &[]));
        let mode = |path: &str| fs::metadata(ground.at(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("home/out"), dir, "{mask}");
        for name in ["config.json", "model-00001-of-00004.safetensors", "qwen-fp8-manifest.json"] {
            assert_eq!(mode(&format!("home/out/{name}")), document, "{mask}: {name}");
        }
        assert_eq!(mode("home/out/tokenizer.json"), copy, "{mask}");
    }
}
