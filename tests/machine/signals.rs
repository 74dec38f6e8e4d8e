//! The first signal ends a run in order and says how to go on; a second one ends it at once; one that is ignored does
//! nothing. A check ends with the first one.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::iter;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::ground::{Ground, done, refused};

/// Tensors of the second shard, each a task of its own: many enough that a signal arrives before the last one is done.
const TENSORS: usize = 3000;

/// A checkpoint of two shards: one weight, which is soon finished, and many small tensors.
fn ground() -> Ground {
    let ground = Ground::new();
    fs::remove_dir_all(ground.at("model")).unwrap();
    fs::create_dir(ground.at("model")).unwrap();
    fs::write(ground.at("model/config.json"), r#"{"model_type":"qwen3","tie_word_embeddings":true}"#).unwrap();
    let weight = "model.layers.0.mlp.down_proj.weight".to_owned();
    let copied = |number| format!("model.layers.0.{}.{number}", "a_name_that_takes_its_place_on_the_line");
    let tensors = [(1, weight, vec![128, 128])].into_iter().chain((0..TENSORS).map(|i| (2, copied(i), vec![1])));
    let (mut headers, mut ends, mut map) = ([vec![], vec![]], [0, 0], serde_json::Map::new());
    for (shard, name, shape) in tensors {
        let begin = ends[shard - 1];
        let end = begin + 2 * shape.iter().product::<usize>();
        ends[shard - 1] = end;
        headers[shard - 1]
            .push(format!(r#""{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#));
        map.insert(name, format!("model-0000{shard}-of-00002.safetensors").into());
    }
    for (shard, entries) in headers.iter().enumerate() {
        let header = format!("{{{}}}", entries.join(","));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; ends[shard]]].concat();
        fs::write(ground.at(format!("model/model-0000{}-of-00002.safetensors", shard + 1)), bytes).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(ground.at("model/model.safetensors.index.json"), index.to_string()).unwrap();
    ground
}

/// A run that has finished its first shard and cannot end by itself before somebody reads what it says.
///
/// Its stderr is a pipe that is full from the start. The worker that writes the first shard says so before it takes
/// another task, and waits for a reader there: the journal's second line proves that it has come so far. Without it, a
/// signal on a busy machine may find the workers between two tasks with room in the pipe, and ends the run in order.
struct Stalled {
    child: Child,
    reader: PipeReader,
}

impl Stalled {
    fn start(ground: &Ground, mut command: Command) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        fill(&writer);
        let mut child = command.stderr(writer).spawn().unwrap();
        drop(command);
        let journal = ground.at("home/.out.partial/qwen-fp8-journal");
        while fs::read(&journal).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count() < 2 {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            thread::yield_now();
        }
        Self { child, reader }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns whether a signal that was sent has not been taken by any thread of the program yet.
    fn is_pending(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
        pending.trim().bytes().any(|digit| digit != b'0')
    }

    /// Reads to the end: the exit code, and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        while self.is_pending() {
            thread::yield_now();
        }
        let mut said = String::new();
        self.reader.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// Writes to the pipe until not a byte more goes in.
fn fill(mut writer: &PipeWriter) {
    let flags = fcntl_getfl(writer).unwrap();
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).unwrap();
    for piece in [&[b'\n'; 4096][..], b"\n"] {
        let full = loop {
            if let Err(error) = writer.write_all(piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
    // The program shares these flags.
    fcntl_setfl(writer, flags).unwrap();
}

fn run(ground: &Ground) -> Command {
    ground.apply_heard(&["-v", "--max-memory", "1M"])
}

const SIGNALS: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

#[test]
fn the_first_signal_ends_a_run_in_order() {
    for (signal, code) in SIGNALS {
        let ground = ground();
        let stalled = Stalled::start(&ground, run(&ground));
        stalled.send(signal);
        let (ended, said) = stalled.end();
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains("interrupted: nothing was written under the output's name"), "{said}");
        assert!(said.contains("= help: the same command resumes with the finished shard in `"), "{said}");
        assert!(said.contains("= help: `--restart` discards it"), "{said}");
        assert_eq!(ground.home(), [".out.partial"]);
        goes_on(&ground);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, one) in SIGNALS {
        for (second, other) in SIGNALS {
            let ground = ground();
            let mut stalled = Stalled::start(&ground, run(&ground));
            stalled.send(first);
            // Nobody reads, so that the run cannot end in order: only a second signal can end it. The first may still be
            // on its way.
            let status = loop {
                stalled.send(second);
                if let Some(status) = stalled.child.try_wait().unwrap() {
                    break status;
                }
                thread::yield_now();
            };
            // Of two that are on their way, the system may bring the later one first.
            assert!(status.code().is_some_and(|code| [one, other].contains(&code)), "{status}");
            assert_eq!(ground.home(), [".out.lock", ".out.partial"]);
            goes_on(&ground);
        }
    }
}

/// A command that only reads has nothing to put in order, and leaves a signal to the system, which ends it at once
/// wherever it is: here in the middle of its work, where nobody reads what it says.
#[test]
fn a_signal_ends_a_check_at_once() {
    let ground = ground();
    done(&ground, &mut run(&ground));
    let copy = ["verify", "home/out", "--source", "model", "--manifest", "-v"];
    // Nobody reads their reports, so that none ends by itself.
    let (_kept, report) = io::pipe().unwrap();
    fill(&report);
    // Each with the bytes that it finds room for: enough for its first line, and not for all that it has to say.
    for (check, room) in
        [(&copy[..], 48), (&["diff", "model", "home/out", "-v"], 30), (&["lint", "home/out", "-v"], 30)]
    {
        for (signal, _) in SIGNALS {
            let (mut reader, writer) = io::pipe().unwrap();
            let full = fill_but_for(room, &mut reader, &writer);
            let heard = ["--default-signal=HUP,INT,TERM", "./qwen-fp8"];
            let mut command = ground.user("env", &[&heard[..], check].concat());
            let mut child = command.stdout(report.try_clone().unwrap()).stderr(writer).spawn().unwrap();
            // Its first line says that the work begins. The others find no room.
            while ioctl_fionread(&reader).unwrap() <= full {
                assert!(child.try_wait().unwrap().is_none(), "{check:?} ended");
                thread::yield_now();
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()), "{check:?}");
        }
    }
}

/// A program that reads the JSON of a check gets the failure as its one object, and the same code.
#[test]
fn a_signal_answers_whoever_reads_the_json_of_a_check() {
    let ground = ground();
    done(&ground, &mut run(&ground));
    // Nobody reads what they say beside it: the checks are held up where they say what they begin with.
    for check in
        [&["verify", "home/out", "--source", "model"][..], &["diff", "model", "home/out"], &["lint", "home/out"]]
    {
        for (signal, code) in SIGNALS {
            let (_kept, writer) = io::pipe().unwrap();
            fill(&writer);
            let heard = ["--default-signal=HUP,INT,TERM", "./qwen-fp8"];
            let mut command =
                ground.user("env", &[&heard[..], check, &["-v", "--json", "--events", "home/events"]].concat());
            let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
            while !listens(&child) {
                assert!(child.try_wait().unwrap().is_none(), "{check:?} ended");
                thread::yield_now();
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            let mut answer = String::new();
            child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(code), "{check:?}: {answer}");
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let error = &answer["error"];
            assert_eq!((&error["kind"], &error["exit_code"]), (&"interrupted".into(), &code.into()), "{answer}");
            assert_eq!(answer["schema_version"], 1);
            let events = fs::read_to_string(ground.at("home/events")).unwrap();
            let ended: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
            assert_eq!((&ended["event"], &ended["exit_code"]), (&"ended".into(), &code.into()), "{events}");
        }
    }
}

/// Returns whether the program has begun to listen.
fn listens(child: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    threads.flatten().any(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "signals\n"))
}

/// Fills the pipe but for so many bytes, and returns how many are in it.
fn fill_but_for(room: usize, reader: &mut PipeReader, mut writer: &PipeWriter) -> u64 {
    fill(writer);
    let flags = fcntl_getfl(writer).unwrap();
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).unwrap();
    // Room comes by the page, whose size the machine decides.
    while writer.write(b"\n").is_err() {
        reader.read_exact(&mut [0; 1024]).unwrap();
    }
    let page = 1 + iter::from_fn(|| writer.write(b"\n").ok()).count();
    reader.read_exact(&mut vec![0; page]).unwrap();
    writer.write_all(&vec![b'\n'; page - room]).unwrap();
    fcntl_setfl(writer, flags).unwrap();
    ioctl_fionread(reader).unwrap()
}

#[test]
fn a_signal_that_is_ignored_does_nothing() {
    let ground = ground();
    let nohup = ground.apply_after("trap '' HUP INT", &["-v", "--max-memory", "1M"]);
    let stalled = Stalled::start(&ground, nohup);
    stalled.send(Signal::HUP);
    stalled.send(Signal::INT);
    let (ended, said) = stalled.end();
    assert_eq!(ended, Some(0), "{said}");
    assert_eq!(ground.home(), ["out"]);
    // While another one is heard.
    fs::remove_dir_all(ground.at("home/out")).unwrap();
    let stalled = Stalled::start(&ground, ground.apply_after("trap '' HUP INT", &["-v", "--max-memory", "1M"]));
    stalled.send(Signal::HUP);
    stalled.send(Signal::TERM);
    assert_eq!(stalled.end().0, Some(143));
}

#[test]
fn a_second_run_is_refused_while_the_first_goes() {
    let ground = ground();
    let stalled = Stalled::start(&ground, run(&ground));
    let words = ["another run is writing `", "home/.out.lock`", "help: wait until it has ended"];
    refused(&ground, &mut ground.apply(&[]), 2, &words);
    refused(&ground, &mut ground.apply(&["--restart"]), 2, &words);
    let (ended, said) = stalled.end();
    assert_eq!(ended, Some(0), "{said}");
    assert_eq!(ground.home(), ["out"]);
}

/// The same command takes over the first shard and ends as an undisturbed run does.
fn goes_on(ground: &Ground) {
    let said = run(ground).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("resuming an interrupted run: 1 of 2 shards is finished"), "{said}");
    let resumed = ground.output();
    fs::remove_dir_all(ground.at("home/out")).unwrap();
    done(ground, &mut run(ground));
    assert!(ground.output() == resumed);
    assert_eq!(ground.home(), ["out"]);
}

#[test]
fn an_interrupted_run_answers_in_json() {
    let ground = ground();
    let mut command = run(&ground);
    command.arg("--json").stdout(Stdio::piped());
    let mut stalled = Stalled::start(&ground, command);
    let mut stdout = stalled.child.stdout.take().unwrap();
    stalled.send(Signal::TERM);
    let (code, said) = stalled.end();
    let mut answer = String::new();
    stdout.read_to_string(&mut answer).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let error = &answer["error"];
    assert_eq!((code, &error["kind"], &error["exit_code"]), (Some(143), &"interrupted".into(), &143.into()), "{said}");
    assert!(error["help"][0].as_str().unwrap().starts_with("the same command resumes"), "{answer}");
}
