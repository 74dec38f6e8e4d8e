//! The progress of a command: events for programs, a bar in terminals of any width, and nothing in the log of a short run.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::json::validator;
use super::{BLOCKS, FIXTURE, Folder, command, run};
use crate::support::terminal::shown_in_terminal;

/// The events of a file or a stream, each of which follows the schema.
fn events(text: &str) -> Vec<Value> {
    let schema = validator("events");
    let parsed = text.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let errors: Vec<_> = schema.iter_errors(&event).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{line}");
        event
    });
    parsed.collect()
}

/// Runs a line; the exit code, and its events in a file of the folder.
fn told(folder: &Folder, line: &str) -> (i32, Vec<Value>) {
    let line = folder.words(&format!("{line} --events @events.jsonl"));
    let output = run(&line.iter().map(String::as_str).collect::<Vec<_>>());
    (output.status.code().unwrap(), events(&fs::read_to_string(folder.path("events.jsonl")).unwrap()))
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// Each progress belongs to the work before it, goes forward, and ends with all of its bytes.
fn goes_forward(events: &[Value]) {
    let mut work: Option<(u64, u64)> = None;
    for event in events {
        match event["event"].as_str().unwrap() {
            "work" => {
                assert!(work.is_none_or(|(done, total)| done == total), "{events:#?}");
                work = Some((0, event["total_bytes"].as_u64().unwrap()));
            }
            "progress" => {
                let (before, total) = work.unwrap();
                let done = event["done_bytes"].as_u64().unwrap();
                assert!(before < done && done <= total && event["total_bytes"] == total, "{event}");
                assert!(event["bytes_per_second"].is_u64() && event["seconds_left"].is_f64(), "{event}");
                work = Some((done, total));
            }
            _ => {}
        }
    }
    assert!(work.is_none_or(|(done, total)| done == total), "{events:#?}");
}

#[test]
fn a_run_is_told_from_its_start_to_its_end() {
    let folder = Folder::new(BLOCKS);
    let (code, run) = told(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @out --sha256 -q"));
    assert_eq!(code, 0);
    assert_eq!(
        (&run[0]["event"], &run[0]["schema_version"], &run[0]["command"]),
        (&"started".into(), &1.into(), &"apply".into())
    );
    assert_eq!(run.last().unwrap(), &serde_json::json!({ "event": "ended", "exit_code": 0, "error": null }));
    goes_forward(&run);
    let phases: Vec<&Value> = of(&run, "phase").iter().map(|event| &event["phase"]).collect();
    assert_eq!(phases, ["preparing", "converting", "publishing"]);
    let works: Vec<&Value> = of(&run, "work").iter().map(|event| &event["what"]).collect();
    assert_eq!(works, ["converting", "computing SHA-256"]);
    let shards: std::collections::BTreeSet<&str> =
        of(&run, "shard").iter().map(|event| event["file"].as_str().unwrap()).collect();
    let written =
        fs::read_dir(folder.path("out")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let written: Vec<String> = written.filter(|name| name.ends_with(".safetensors")).collect();
    assert_eq!(shards.len(), written.len());
    assert!(written.iter().all(|name| shards.contains(name.as_str())), "{shards:?}");
    let at = of(&run, "progress")[0]["at"].as_str().unwrap();
    assert!(at.contains('.'), "{at}");
}

#[test]
fn checks_and_commands_without_progress_are_told_too() {
    let folder = Folder::new(BLOCKS);
    assert_eq!(told(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @out")).0, 0);
    for (line, works) in [
        (format!("verify @out --source {FIXTURE} --manifest"), 2),
        ("lint @out".to_owned(), 1),
        (format!("diff {FIXTURE} @out"), 1),
        (format!("plan @recipe.yaml --model {FIXTURE}"), 0),
    ] {
        let (code, told) = told(&folder, &line);
        assert_eq!((code, of(&told, "work").len()), (0, works), "{line}: {told:#?}");
        goes_forward(&told);
        assert!(of(&told, "progress").iter().all(|event| event["at"].is_string()), "{line}: {told:#?}");
        assert_eq!(
            (told[0]["command"].as_str(), &told.last().unwrap()["event"]),
            (line.split(' ').next(), &"ended".into())
        );
    }
}

#[test]
fn a_failure_is_the_last_event() {
    let folder = Folder::new("format: fp8\nscheme: FP8_BLOK\ntargets: Linear\n");
    let (code, events) = told(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @out"));
    let ended = serde_json::json!({ "event": "ended", "exit_code": 1, "error": "no scheme is called `FP8_BLOK`" });
    assert_eq!((code, events.len(), &events[1]), (1, 2, &ended));
    // A verdict is an answer: nothing has failed.
    let (code, events) = told(&folder, &format!("fit {FIXTURE} --vram 512MiB --concurrency 100000"));
    assert_eq!((code, &events[1]), (5, &serde_json::json!({ "event": "ended", "exit_code": 5, "error": null })));
}

#[test]
fn standard_error_is_for_people_or_for_events() {
    let folder = Folder::new(BLOCKS);
    let line = folder.words(&format!("apply @recipe.yaml --model {FIXTURE} --output @out --events -"));
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let is_event = |line: &&str| line.starts_with('{');
    let piped = String::from_utf8(run(&line).stderr).unwrap();
    let (told, said): (Vec<&str>, Vec<&str>) = piped.lines().partition(is_event);
    goes_forward(&events(&told.join("\n")));
    assert!(told.len() >= 5 && said.iter().any(|line| line.contains("14 quantized")), "{piped}");
    // No bar is drawn between them.
    fs::remove_dir_all(folder.path("out")).unwrap();
    let shown = shown_in_terminal(&mut command(&line), 80, false);
    let told: Vec<&str> = shown.lines().filter(is_event).collect();
    assert_eq!(events(&told.join("\n")).last().unwrap()["event"], "ended");
    assert!(!shown.contains('\u{1b}') && !shown.contains(" % "), "{shown:?}");
}

#[test]
fn events_cost_no_other_file_and_no_run() {
    let folder = Folder::new(BLOCKS);
    let recipe = folder.path("recipe.yaml");
    let refused = run(&["plan", &recipe, "-m", FIXTURE, "--events", &recipe, "--json"]);
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said["error"]["message"].as_str().unwrap().contains("it holds something else"), "{said}");
    assert_eq!(fs::read_to_string(&recipe).unwrap(), BLOCKS);
    let missing = folder.path("no/events");
    assert_eq!(run(&["plan", &recipe, "-m", FIXTURE, "--events", &missing]).status.code(), Some(2));
    // A disk that is full, or a reader that goes away, ends no run.
    let line = ["apply", &recipe, "-m", FIXTURE, "-o", &folder.path("out"), "-q", "--events", "/dev/full"];
    if Path::new("/dev/full").exists() {
        assert!(run(&line).status.success());
    }
}

/// What is drawn on one line of a terminal, redraw after redraw.
fn drawn(shown: &str) -> Vec<String> {
    let codes = regex::Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").unwrap();
    let lines = shown.split(['\r', '\n']).map(|line| codes.replace_all(line, "").into_owned());
    lines.filter(|line| line.contains(" %") && line.contains("left")).collect()
}

#[test]
fn a_bar_fits_terminals_of_any_width() {
    let folder = Folder::new(BLOCKS);
    for columns in [20, 40, 60, 80, 200] {
        let _ = fs::remove_dir_all(folder.path("out"));
        let line = folder.words(&format!("apply @recipe.yaml --model {FIXTURE} --output @out --threads 1"));
        let mut apply = command(&line.iter().map(String::as_str).collect::<Vec<_>>());
        let bars = drawn(&shown_in_terminal(&mut apply, columns, false));
        let line = folder.words(&format!("verify @out --source {FIXTURE}"));
        let mut verify = command(&line.iter().map(String::as_str).collect::<Vec<_>>());
        let checks = drawn(&shown_in_terminal(&mut verify, columns, false));
        assert!(!bars.is_empty() && !checks.is_empty(), "{columns}");
        for bar in bars.iter().chain(&checks) {
            assert!(bar.chars().count() <= columns.into(), "{columns}: {bar:?}");
            assert_eq!(bar.contains("B/s"), columns >= 40, "{columns}: {bar:?}");
        }
        let is_at_layer = |bars: &[String]| bars.iter().any(|bar| bar.contains("layers.") || bar.contains("blocks."));
        assert_eq!(is_at_layer(&bars), columns >= 60, "{columns}: {bars:#?}");
    }
}

#[test]
fn the_log_of_a_short_run_has_no_progress() {
    let folder = Folder::new(BLOCKS);
    let line = folder.words(&format!("apply @recipe.yaml --model {FIXTURE} --output @out"));
    let said = String::from_utf8(run(&line.iter().map(String::as_str).collect::<Vec<_>>()).stderr).unwrap();
    assert!(!said.contains(" % ") && !said.contains("left") && !said.contains('\r'), "{said}");
}
