//! A run in parts from outside: what each command says, and that the bytes are those of one machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::json::validator;
use super::{BLOCKS, FIXTURE, Folder, command};

/// Fused layers with one global scale.
const NVFP4: &str =
    "format: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\nignore: [lm_head, 're:.*visual.*']\n";

const ENGINES: [&str; 9] = [
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_ARRAY_TASK_STEP",
    "JOB_COMPLETION_INDEX",
    "JOB_COMPLETIONS",
    "RANK",
    "WORLD_SIZE",
];

/// Runs `apply` in the folder, with these variables.
fn apply_with(folder: &Folder, line: &str, variables: &[(&str, &str)]) -> Output {
    let line = folder.words(&format!("apply @recipe.yaml --model {FIXTURE} --output @out {line}"));
    let mut command = command(&line.iter().map(String::as_str).collect::<Vec<_>>());
    ENGINES.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    command.envs(variables.iter().copied()).output().unwrap()
}

fn apply(folder: &Folder, line: &str) -> Output {
    apply_with(folder, line, &[])
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    said(output)
}

fn all(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// The files of a plain run, which is then out of the way.
fn plain(folder: &Folder) -> BTreeMap<String, Vec<u8>> {
    done(&apply(folder, "--threads 3"));
    let files = all(&folder.path("out"));
    fs::remove_dir_all(folder.path("out")).unwrap();
    files
}

#[test]
fn parts_of_real_schemes_end_with_the_bytes_of_one_machine() {
    for recipe in [BLOCKS, NVFP4] {
        let folder = Folder::new(recipe);
        let plain = plain(&folder);
        for of in [2, 7] {
            for part in 1..=of {
                let line = done(&apply(&folder, &format!("--part {part}/{of} --threads 2")));
                assert!(line.contains(&format!("part {part}/{of} of ")), "{line}");
            }
            done(&apply(&folder, "--join"));
            assert!(all(&folder.path("out")) == plain, "{of} parts: the output differs from that of a plain run");
            assert!(!Path::new(&folder.path(".out.parts")).exists());
            fs::remove_dir_all(folder.path("out")).unwrap();
        }
    }
}

#[test]
fn a_join_too_early_names_what_is_missing_and_one_too_late_says_so() {
    let folder = Folder::new(BLOCKS);
    let early = apply(&folder, "--join");
    assert_eq!(early.status.code(), Some(6));
    assert!(said(&early).contains("cannot be joined: no part of it was made"), "{}", said(&early));
    done(&apply(&folder, "--part 2/3"));
    let early = apply(&folder, "--join --json");
    assert_eq!(early.status.code(), Some(6));
    let answer: Value = serde_json::from_slice(&early.stdout).unwrap();
    assert_eq!((&answer["error"]["kind"], &answer["error"]["exit_code"]), (&"parts".into(), &6.into()));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.ends_with("part 1/3 was not made; part 3/3 was not made"), "{message}");
    assert!(!Path::new(&folder.path("out")).exists());
    done(&apply(&folder, "--part 1/3"));
    done(&apply(&folder, "--part 3/3"));
    assert!(done(&apply(&folder, "--part 3/3")).contains("is made already, and good"));
    done(&apply(&folder, "--join"));
    for again in ["--join", "--part 1/3"] {
        assert!(done(&apply(&folder, again)).contains("is published already"), "{again}");
    }
    // Another recipe's output is not this one's.
    fs::write(folder.path("recipe.yaml"), BLOCKS.replace("block_size: 128", "block_size: 128\n    scale_dtype: f32"))
        .unwrap();
    for again in ["--join", "--part 1/3"] {
        let refused = apply(&folder, again);
        assert!(refused.status.code() == Some(2) && said(&refused).contains("exists already"), "{}", said(&refused));
    }
}

#[test]
fn a_part_that_fails_is_named() {
    let folder = Folder::new(BLOCKS);
    done(&apply(&folder, "--part 1/2"));
    fs::write(folder.path("recipe.yaml"), BLOCKS.replace("block_size: 128", "block_size: 128\n    scale_dtype: f32"))
        .unwrap();
    let refused = apply(&folder, "--part 1/2");
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).starts_with("error: part 1/2: "), "{}", said(&refused));
    assert!(said(&refused).contains("the recipe"), "{}", said(&refused));
    done(&apply(&folder, "--part 1/2 --restart"));
    done(&apply(&folder, "--part 2/2"));
    done(&apply(&folder, "--join --verify"));
}

#[test]
fn programs_are_told_what_became_of_a_part() {
    let folder = Folder::new(BLOCKS);
    let schema = validator("apply");
    let mut outcomes = Vec::new();
    for line in ["--part 1/1", "--part 1/1", "--join", "--join", "--part 1/1"] {
        let output = apply(&folder, &format!("{line} --json"));
        done(&output);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let errors: Vec<_> = schema.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{line}");
        outcomes.push((answer["outcome"].as_str().unwrap().to_owned(), answer["part"].as_str() == Some("1/1")));
    }
    let expected = [
        ("part_made", true),
        ("part_made_before", true),
        ("published", false),
        ("published_before", false),
        ("published_before", true),
    ];
    assert_eq!(outcomes, expected.map(|(outcome, part)| (outcome.to_owned(), part)));
}

#[test]
fn engines_tell_the_part() {
    let folder = Folder::new(BLOCKS);
    let nothing = apply(&folder, "--part auto");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(said(&nothing).contains("SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and RANK are not set"));
    let index = [("JOB_COMPLETION_INDEX", "0")];
    let first = done(&apply_with(&folder, "--part auto/2", &index));
    assert!(first.contains("part 1/2, as JOB_COMPLETION_INDEX=0 says"), "{first}");
    let rank = [("RANK", "1"), ("WORLD_SIZE", "2")];
    let second = done(&apply_with(&folder, "--part auto", &rank));
    assert!(second.contains("part 2/2, as RANK=1 and WORLD_SIZE=2 says"), "{second}");
    done(&apply(&folder, "--join"));
}

#[test]
fn options_of_the_whole_are_refused_with_the_reason() {
    let folder = Folder::new(BLOCKS);
    for option in ["--verify", "--report @page.html", "--no-manifest", "--sha256"] {
        let refused = apply(&folder, &format!("--part 1/2 {option}"));
        assert_eq!(refused.status.code(), Some(2), "{option}");
        assert!(said(&refused).contains("give it to `--join`"), "{}", said(&refused));
    }
    assert!(said(&apply(&folder, "--join --restart")).contains("--part"));
    assert_eq!(apply(&folder, "--join --part 1/2").status.code(), Some(2));
    assert!(!Path::new(&folder.path(".out.parts")).exists());
}

/// What stands in for Slurm: runs the tasks of an array one after the other, all but those that are to fail.
const SBATCH: &str = r#"#!/bin/bash
script=$(cat)
for word in "$@"; do
    case $word in
    --array=1-*) tasks=${word#--array=1-} ;;
    --dependency=*) echo "$word" >>"$HERE/dependencies" ;;
    esac
done
while [ "$1" != /dev/stdin ]; do shift; done
if [ -z "${tasks:-}" ]; then
    bash -c "$script" join "${@:2}" >>"$HERE/log" 2>&1
    echo 102
    exit
fi
export SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=$tasks SLURM_ARRAY_TASK_COUNT=$tasks SLURM_ARRAY_TASK_STEP=1
for ((task = 1; task <= tasks; task++)); do
    [ "$task" = "${FAILS:-}" ] || SLURM_ARRAY_TASK_ID=$task bash -c "$script" part "${@:2}" >>"$HERE/log" 2>&1
done
echo 101
"#;

/// A folder with stand-ins for Slurm's commands, and the PATH that finds them.
fn with_slurm(recipe: &str) -> (Folder, String) {
    let folder = Folder::new(recipe);
    let bin = folder.path("bin");
    fs::create_dir(&bin).unwrap();
    for (name, text) in [("sbatch", SBATCH), ("squeue", "#!/bin/bash\n[ \"$3\" = 101,102 ] || exit 1\n")] {
        let path = format!("{bin}/{name}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    (folder, path)
}

#[test]
fn slurm_is_given_the_parts_and_the_join() {
    let (folder, path) = with_slurm(BLOCKS);
    let plain = plain(&folder);
    let here = folder.path("");
    let slurm = [("PATH", path.as_str()), ("HERE", here.as_str())];
    let log = || fs::read_to_string(folder.path("log")).unwrap_or_default();
    let said = done(&apply_with(&folder, "--slurm 3 --threads 2", &slurm));
    assert!(said.contains("submitted: job 101 for 3 parts, job 102 to join them"), "{said}{}", log());
    assert!(said.contains("is published"), "{said}{}", log());
    assert_eq!(fs::read_to_string(folder.path("dependencies")).unwrap(), "--dependency=afterany:101\n");
    assert!(all(&folder.path("out")) == plain, "the output differs from that of a plain run: {}", log());
    // It is there: nothing is submitted.
    let again = done(&apply_with(&folder, "--slurm 3", &slurm));
    assert!(!again.contains("submitted") && again.contains("is published"), "{again}");
}

#[test]
fn a_part_that_fails_on_slurm_is_named() {
    let (folder, path) = with_slurm(BLOCKS);
    let here = folder.path("");
    let slurm = [("PATH", path.as_str()), ("HERE", here.as_str()), ("FAILS", "2")];
    let failed = apply_with(&folder, "--slurm 3", &slurm);
    assert_eq!(failed.status.code(), Some(6), "{}", said(&failed));
    assert!(said(&failed).contains("2 of 3 parts are made"), "{}", said(&failed));
    assert!(said(&failed).contains("part 2/3 was not made"), "{}", said(&failed));
    fs::write(folder.path("bin/sbatch"), "#!/bin/bash\necho 'sbatch: error: no such partition' >&2; exit 1\n").unwrap();
    let refused = apply_with(&folder, "--slurm 3", &slurm);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("cannot be submitted: `sbatch: error: no such partition`"), "{}", said(&refused));
}
