//! Limits of the process: each is an error that names it and the way out, never a signal or a panic.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use crate::support::ground::{Ground, done, ended, refused};

#[test]
fn too_few_open_files_are_an_error_with_the_way_out() {
    let ground = Ground::new();
    let words = ["Too many open files", "help: raise the limit of open files (`ulimit -n`)"];
    for limit in [5, 6, 8, 10] {
        // A shard may be finished, and kept, before the limit is met.
        let said = ended(&ground.apply_after(&format!("ulimit -n {limit}"), &[]).output().unwrap(), 2);
        assert!(words.iter().all(|word| said.contains(word)), "{limit}: {said}");
        assert!(!ground.at("home/out").exists());
    }
    done(&ground, &mut ground.apply_after("ulimit -n 32", &[]));
}

#[test]
fn a_file_size_limit_is_an_error_with_the_way_out() {
    let ground = Ground::new();
    // Blocks of 512 bytes: less than the journal has.
    let words = ["cannot write `", "File too large", "help: raise the limit (`ulimit -f`)"];
    refused(&ground, &mut ground.apply_after("ulimit -f 1", &[]), 2, &words);
    let words = ["model-00001-of-00004.safetensors", "(`ulimit -f`)", "help: raise the limit"];
    refused(&ground, &mut ground.apply_after("ulimit -f 100", &[]), 2, &words);
    // A side file is held against it before the work, too.
    let tokenizer = File::options().append(true).open(ground.at("model/tokenizer.json")).unwrap();
    tokenizer.set_len(2 << 20).unwrap();
    let words = ["tokenizer.json", "will hold 2.10 MB", "(`ulimit -f`)"];
    refused(&ground, &mut ground.apply_after("ulimit -f 2000", &["-q"]), 2, &words);
    done(&ground, &mut ground.apply_after("ulimit -f 5000", &[]));
}

#[test]
fn the_manifest_is_held_against_the_limit_before_the_work() {
    let ground = Ground::new();
    // It holds the recipe's text: a long comment makes it the largest file by far.
    let recipe = fs::read_to_string(ground.at("recipe.yaml")).unwrap();
    fs::write(ground.at("recipe.yaml"), format!("# {}\n{recipe}", "x".repeat(3_000_000))).unwrap();
    let words = ["qwen-fp8-manifest.json` will hold 3.0", "(`ulimit -f`)"];
    refused(&ground, &mut ground.apply_after("ulimit -f 5000", &["-q"]), 2, &words);
    done(&ground, &mut ground.apply_after("ulimit -f 5000", &["--no-manifest"]));
}

#[test]
fn too_few_threads_are_an_error_with_the_way_out() {
    let none = "ulimit -u 1 2>/dev/null || ulimit -p 1";
    let ground = Ground::new();
    let words = ["cannot start a thread for each of ", "help: give fewer `--threads`"];
    refused(&ground, &mut ground.apply_after(none, &[]), 2, &words);
    done(&ground, &mut ground.apply(&[]));
    // What only reads needs no thread of its own.
    for command in ["verify home/out --manifest --source model", "lint home/out", "diff home/out home/out"] {
        let line = format!("{none}; exec ./qwen-fp8 {command}");
        ended(&ground.user("sh", &["-c", &line]).output().unwrap(), 0);
    }
}

#[test]
fn a_thousand_threads_write_the_same_bytes() {
    let ground = Ground::new();
    done(&ground, &mut ground.apply(&[]));
    let two = ground.output();
    fs::rename(ground.at("home/out"), ground.at("home/two")).unwrap();
    let all = ["apply", "recipe.yaml", "--model", "model", "--output", "home/out", "--threads", "1000"];
    done(&ground, &mut ground.user(ground.at("qwen-fp8"), &all));
    assert!(ground.output() == two);
}

#[test]
fn too_little_memory_is_an_error_with_the_way_out() {
    let ground = Ground::new();
    // A weight of which a band takes 1 GiB, and is not there.
    fs::remove_dir_all(ground.at("model")).unwrap();
    fs::create_dir(ground.at("model")).unwrap();
    fs::write(ground.at("model/config.json"), r#"{"model_type":"qwen3","tie_word_embeddings":true}"#).unwrap();
    let header = r#"{"model.layers.0.mlp.down_proj.weight":{"dtype":"BF16","shape":[128,4194304],"data_offsets":[0,1073741824]}}"#;
    let mut shard = File::create(ground.at("model/model.safetensors")).unwrap();
    shard.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    shard.write_all_at(header.as_bytes(), 8).unwrap();
    shard.set_len(8 + header.len() as u64 + (1 << 30)).unwrap();
    let words = ["down_proj.weight` needs", "needs buffers of", "help: give a larger `--max-memory`"];
    refused(&ground, &mut ground.apply(&[]), 2, &words);
    let words =
        ["not enough memory for the buffers of ", "B each)", "help: give fewer `--threads`, or less `--max-memory`"];
    refused(&ground, &mut ground.apply_after("ulimit -v 1000000", &["--max-memory", "4GiB"]), 2, &words);
}

#[test]
fn a_stack_of_1_mib_is_enough() {
    let ground = Ground::new();
    done(&ground, &mut ground.apply_after("ulimit -s 1024", &[]));
}
