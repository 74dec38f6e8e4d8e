//! What this user may not read or write: refused by name, with a way out, and before the work where that can be known.

use std::fs::{self, File};
use std::path::Path;

use crate::support::ground::{Ground, USER, done, is_root, refused};

const DENIED: &str = "Permission denied";

#[test]
fn an_unreadable_source_file_is_refused_by_name() {
    for (path, mode, code) in [
        ("model/model-00002-of-00004.safetensors", 0o200, 1),
        ("model/config.json", 0o200, 1),
        ("model/model.safetensors.index.json", 0o200, 1),
        ("model/tokenizer.json", 0o200, 1),
        ("model", 0o311, 1),
        ("model", 0o644, 1),
        ("model", 0o000, 1),
    ] {
        let ground = Ground::new();
        ground.give(path);
        ground.mode(path, mode);
        refused(&ground, &mut ground.apply(&[]), code, &[path, DENIED, "help: let this user read it (`chmod`)"]);
        // Other commands name it too.
        let inspect = &mut ground.user(ground.at("qwen-fp8"), &["inspect", "model"]);
        refused(&ground, inspect, code, &[path, DENIED]);
        ground.mode(path, 0o755);
    }
    let ground = Ground::new();
    ground.give("recipe.yaml");
    ground.mode("recipe.yaml", 0o200);
    refused(&ground, &mut ground.apply(&[]), 1, &["recipe.yaml", DENIED]);
}

#[test]
fn an_unwritable_parent_of_the_output_is_refused() {
    for mode in [0o555, 0o666, 0o000] {
        let ground = Ground::new();
        ground.mode("home", mode);
        let said = ground.apply(&[]).output().unwrap();
        ground.mode("home", 0o755);
        let said = crate::support::ground::ended(&said, 2);
        let words = ["home/", DENIED, "help: give an `--output` in a directory that this user may write to"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(ground.home(), Vec::<String>::new());
        done(&ground, &mut ground.apply(&[]));
    }
}

#[test]
fn an_unwritable_staging_directory_is_refused() {
    let ground = Ground::new();
    for dir in ["home/.out.partial", "home/.out.partial/checkpoint"] {
        fs::create_dir(ground.at(dir)).unwrap();
        ground.give(dir);
    }
    fs::write(ground.at("home/.out.partial/qwen-fp8-journal"), "").unwrap();
    fs::write(ground.at("home/.out.partial/checkpoint/config.json"), "").unwrap();
    ground.mode("home/.out.partial/checkpoint", 0o555);
    refused(&ground, &mut ground.apply(&[]), 2, &["home/.out.partial", DENIED]);
    ground.mode("home/.out.partial/checkpoint", 0o755);
    done(&ground, &mut ground.apply(&[]));
    assert_eq!(ground.home(), ["out"]);
}

/// A directory that everybody may write to, and where nobody may remove what is another's, such as `/tmp`.
fn sticky() -> Ground {
    let ground = Ground::new();
    std::os::unix::fs::chown(ground.at("home"), Some(0), Some(0)).unwrap();
    ground.mode("home", 0o1777);
    ground
}

const FOREIGN: &[&str] =
    &["was made by another user (number 0)", "help: give another `--output`, or let its owner remove it"];

#[test]
fn the_staging_of_another_user_is_refused() {
    if !is_root() {
        // Only root can make files of others.
        return;
    }
    let plain = sticky();
    done(&plain, &mut plain.apply(&[]));
    assert_eq!(plain.home(), ["out"]);

    let staging = sticky();
    fs::create_dir(staging.at("home/.out.partial")).unwrap();
    fs::write(staging.at("home/.out.partial/qwen-fp8-journal"), "").unwrap();
    refused(&staging, &mut staging.apply(&[]), 2, &[&["home/.out.partial`"], FOREIGN].concat());
    refused(&staging, &mut staging.apply(&["--restart"]), 2, FOREIGN);

    let secret = sticky();
    File::create(secret.at("home/.out.lock")).unwrap();
    secret.mode("home/.out.lock", 0o600);
    refused(&secret, &mut secret.apply(&[]), 2, &[&["home/.out.lock`"], FOREIGN].concat());

    let empty = sticky();
    fs::create_dir(empty.at("home/out")).unwrap();
    refused(&empty, &mut empty.apply(&[]), 2, &[&["home/out`"], FOREIGN].concat());
    // One's own makes way.
    empty.give("home/out");
    done(&empty, &mut empty.apply(&[]));
}

#[test]
fn a_lock_that_another_user_holds_is_refused() {
    if !is_root() {
        return;
    }
    let ground = sticky();
    let path = ground.at("home/.out.lock");
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    refused(&ground, &mut ground.apply(&[]), 2, &["another run is writing", "home/.out.lock`"]);
    // Left behind by a run that is gone, it is in nobody's way, though it cannot be removed.
    lock.unlock().unwrap();
    done(&ground, &mut ground.apply(&[]));
    assert_eq!(ground.home(), [".out.lock", "out"]);
    assert_eq!(owner(&path), 0);
    assert_eq!(owner(&ground.at("home/out")), USER);
}

fn owner(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap())
}
