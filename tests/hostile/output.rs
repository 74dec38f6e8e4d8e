//! Outputs in places where none may be.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Either, Refuse};
use crate::support::scene::SECOND;

const INSIDE: &[&str] = &["output", "the source"];

pub(crate) const CASES: &[Case] = &[
    Case("the input", |s| s.output = "model".into(), Refuse(INSIDE)),
    Case("the input in other words", |s| s.output = "model/../model/.".into(), Refuse(INSIDE)),
    Case(
        "a link to the input",
        |s| {
            s.link("model", "alias");
            s.output = "alias".into()
        },
        Refuse(&["output"]),
    ),
    Case("inside of the input", |s| s.output = "model/fp8".into(), Refuse(INSIDE)),
    Case(
        "inside of the input by a link",
        |s| {
            s.link("model", "alias");
            s.output = "alias/fp8".into()
        },
        Refuse(INSIDE),
    ),
    Case(
        "inside of a folder of the input",
        |s| {
            s.dir("model/sub");
            s.output = "model/sub/fp8".into()
        },
        Refuse(INSIDE),
    ),
    Case(
        "the folder that holds the input",
        |s| s.output = ".".into(),
        Refuse(&["the source `model` lies inside the output `.`"]),
    ),
    Case("the folder above", |s| s.output = "..".into(), Refuse(&["the source `model` lies inside the output `..`"])),
    Case("the root", |s| s.output = "/".into(), Refuse(&["the source `model` lies inside the output `/`"])),
    Case(
        "a folder that holds the input by a link",
        |s| {
            s.dir("store/model");
            for entry in fs::read_dir(s.at("model")).unwrap() {
                let name = entry.unwrap().file_name();
                fs::rename(s.at("model").join(&name), s.at("store/model").join(&name)).unwrap();
            }
            fs::remove_dir(s.at("model")).unwrap();
            s.link("store/model", "model");
            s.output = "store".into()
        },
        Refuse(&["the source `model` lies inside the output `store`"]),
    ),
    Case(
        "a folder with a file",
        |s| {
            s.dir("out");
            s.write("out/thesis.txt", "years")
        },
        Refuse(&["output", "exists"]),
    ),
    Case(
        "another checkpoint",
        |s| {
            s.dir("out");
            s.write("out/config.json", "{}");
            s.write("out/model.safetensors", "x")
        },
        Refuse(&["output", "exists"]),
    ),
    Case("an empty folder", |s| s.dir("out"), Accept),
    Case("a file", |s| s.write("out", "mine"), Refuse(&["output", "exists"])),
    Case("a FIFO", |s| s.fifo("out"), Refuse(&["output", "exists"])),
    Case("a link to nothing", |s| s.link("outside/new", "out"), Refuse(&["output", "exists"])),
    Case("a link to itself", |s| s.link("out", "out"), Refuse(&["/out`"])),
    Case(
        "a link to an empty folder",
        |s| {
            s.dir("outside/empty");
            s.link("outside/empty", "out")
        },
        Refuse(&["output", "exists"]),
    ),
    Case(
        "a planted link to a victim",
        |s| {
            s.dir("out");
            s.link("../outside/canary.txt", "out/model-00002-of-00002.safetensors")
        },
        Refuse(&["output", "exists"]),
    ),
    Case(
        "hard links to the input",
        |s| {
            s.dir("out");
            fs::hard_link(s.at("model").join(SECOND), s.at("out").join(SECOND)).unwrap()
        },
        Refuse(&["output", "exists"]),
    ),
    Case("no parent", |s| s.output = "a/b/out".into(), Refuse(&["a/b"])),
    Case("a file for a parent", |s| s.output = "recipe.yaml/out".into(), Refuse(&["recipe.yaml"])),
    Case("a name of 300 bytes", |s| s.output = "o".repeat(300).into(), Refuse(&["ooo"])),
    Case("no name", |s| s.output = "".into(), Refuse(&["output"])),
    Case(
        "a name with escape codes",
        |s| {
            s.dir("\u{1b}[31m");
            s.write("\u{1b}[31m/x", "");
            s.output = "\u{1b}[31m".into()
        },
        Refuse(&["\\u{1b}[31m"]),
    ),
    Case("like an option", |s| s.output = "-o".into(), Accept),
    Case("not UTF-8", |s| s.output = OsStr::from_bytes(b"caf\xe9\xff").to_owned(), Accept),
    // Whatever the names beside the output are: what was planted there is not written through, nor removed.
    Case("a planted link for staging", |s| s.link("outside", ".out.partial"), Either),
    Case(
        "a planted folder for staging",
        |s| {
            s.dir(".out.partial");
            s.write(".out.partial/thesis.txt", "years")
        },
        Either,
    ),
    Case("a planted link for the lock", |s| s.link("outside/canary.txt", ".out.lock"), Either),
    Case("somebody's file for the lock", |s| s.write(".out.lock", "mine"), Either),
    Case("a planted FIFO for the lock", |s| s.fifo(".out.lock"), Either),
];
