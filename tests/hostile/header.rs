//! Shards whose headers lie, and tensors with names that hurt.

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse};
use crate::support::scene::{SECOND, VICTIM, bytes, entries, entry, file, object, raw, second, with_length};

pub(crate) const HEADERS: &[Case] = &[
    Case("empty file", |s| s.shard(b""), Refuse(&[SECOND, "too short"])),
    Case("seven bytes", |s| s.shard(b"\x10\0\0\0\0\0\0"), Refuse(&[SECOND, "too short"])),
    Case("no header", |s| s.shard(with_length(0, b"")), Refuse(&[SECOND, "header"])),
    Case("header past the end", |s| s.shard(with_length(1000, b"{}")), Refuse(&[SECOND, "truncated"])),
    Case("header over 100 MB", |s| s.shard(with_length(100_000_001, b"{}")), Refuse(&[SECOND, "too large"])),
    Case("header of 2^63", |s| s.shard(with_length(1 << 63, b"{}")), Refuse(&[SECOND, "too large"])),
    Case("header of 2^64 - 1", |s| s.shard(with_length(u64::MAX, b"{}")), Refuse(&[SECOND, "too large"])),
    Case(
        "git-lfs pointer",
        |s| s.shard("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"),
        Refuse(&[SECOND, "git lfs pull"]),
    ),
    Case(
        "HTML page",
        |s| s.shard(format!("<!DOCTYPE html><html>429 Too Many Requests{}", " ".repeat(64))),
        Refuse(&[SECOND, "an HTML page"]),
    ),
    Case("zip", |s| s.shard([b"PK\x03\x04".as_slice(), &[0; 200]].concat()), Refuse(&[SECOND, "zip"])),
    Case("pickle", |s| s.shard(b"\x80\x02cos\nsystem\nq\0."), Refuse(&[SECOND, "pickle"])),
    Case("GGUF", |s| s.shard([b"GGUF\x03\0\0\0".as_slice(), &[0; 200]].concat()), Refuse(&[SECOND, "GGUF"])),
    Case("no JSON", |s| s.shard(raw("{this is not json}", b"")), Refuse(&[SECOND, "header", "JSON"])),
    Case("no UTF-8", |s| s.shard(with_length(6, b"{\"\xff\":1")), Refuse(&[SECOND, "UTF-8"])),
    Case("array", |s| s.shard(raw("[]", b"")), Refuse(&[SECOND, "header"])),
    Case("null", |s| s.shard(raw("null", b"")), Refuse(&[SECOND, "header"])),
    Case("leading spaces", |s| s.shard(raw(&format!("  {}", object(&entries(&second()))), &bytes(&second()))), Accept),
    Case(
        "padded with NUL",
        |s| s.shard(raw(&format!("{}\0\0", object(&entries(&second()))), &bytes(&second()))),
        Refuse(&[SECOND, "trailing"]),
    ),
    Case(
        "garbage after the header",
        |s| s.shard(raw(&format!("{}xyz", object(&entries(&second()))), &bytes(&second()))),
        Refuse(&[SECOND, "trailing"]),
    ),
    Case(
        "nested metadata",
        |s| s.shard(raw(&format!("{{\"__metadata__\":{}", "[".repeat(100_000)), b"")),
        Refuse(&[SECOND, "__metadata__"]),
    ),
    Case(
        "nested unknown field",
        |s| s.shard(raw(&format!("{{\"w\":{{\"x\":{}", "{\"a\":".repeat(50_000)), b"")),
        Refuse(&[SECOND, "`w`", "unknown key"]),
    ),
    Case(
        "a name twice",
        |s| s.entry(|_| entry(VICTIM, "U8", &[512], 512, 1024), b""),
        Refuse(&[SECOND, VICTIM, "duplicate"]),
    ),
    Case(
        "a name twice, once escaped",
        |s| s.entry(|_| entry(VICTIM, "BF16", &[16, 16], 512, 1024).replacen('m', "\\u006d", 1), b""),
        Refuse(&[SECOND, VICTIM, "duplicate"]),
    ),
    Case(
        "two metadata",
        |s| s.entry(|_| r#""__metadata__":{},"__metadata__":{"format":"np"}"#.into(), b""),
        Refuse(&[SECOND, "duplicate `__metadata__`"]),
    ),
    Case("overlap", |s| s.entry(|_| entry("evil", "BF16", &[16], 0, 32), b""), Refuse(&[SECOND, "overlaps"])),
    Case(
        "a thousand over one range",
        |s| {
            s.shard(raw(
                &object(&(0..1000).map(|i| entry(&format!("w{i}"), "U8", &[64], 0, 64)).collect::<Vec<_>>()),
                &[0; 64],
            ))
        },
        Refuse(&[SECOND, "overlaps"]),
    ),
    Case(
        "hole",
        |s| s.entry(|end| entry("evil", "BF16", &[2], end + 8, end + 12), &[0; 12]),
        Refuse(&[SECOND, "`evil`", "a hole of 8 bytes"]),
    ),
    Case(
        "hole at the front",
        |s| s.shard(raw(&object(&[entry("evil", "U8", &[2], 8, 10)]), &[0; 10])),
        Refuse(&[SECOND, "`evil`", "hole"]),
    ),
    Case(
        "zip at the end",
        |s| s.shard([file(&second()), b"PK\x05\x06".to_vec(), vec![0; 18]].concat()),
        Refuse(&[SECOND, "goes on for 22 bytes"]),
    ),
    Case("cut short", |s| s.shard(&file(&second())[..2000]), Refuse(&[SECOND, "truncated", "incomplete"])),
    Case("cut in the header", |s| s.shard(&file(&second())[..60]), Refuse(&[SECOND, "truncated"])),
    Case(
        "offsets reversed",
        |s| s.entry(|end| entry("evil", "BF16", &[4], end + 8, end), &[0; 8]),
        Refuse(&[SECOND, "`evil`", "reversed"]),
    ),
    Case(
        "offsets past the end",
        |s| s.entry(|end| entry("evil", "BF16", &[4], end, end + 8), b""),
        Refuse(&[SECOND, "truncated"]),
    ),
    Case(
        "offsets below 0",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[8],"data_offsets":[-8,0]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "offsets as floats",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[0],"data_offsets":[0.0,0.0]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "one offset",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[0],"data_offsets":[0]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "offset of 2^64",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[0],"data_offsets":[0,18446744073709551616]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "shape wraps to 0",
        |s| s.entry(|end| entry("evil", "BF16", &[1 << 32, 1 << 32], end, end), b""),
        Refuse(&[SECOND, "`evil`", "overflows"]),
    ),
    Case(
        "bits wrap to 0",
        |s| s.entry(|end| entry("evil", "F64", &[1 << 61], end, end), b""),
        Refuse(&[SECOND, "`evil`", "overflows"]),
    ),
    Case(
        "shape below 0",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[-4],"data_offsets":[0,0]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "shape of floats",
        |s| s.entry(|_| r#""evil":{"dtype":"U8","shape":[4.0],"data_offsets":[0,0]}"#.into(), b""),
        Refuse(&[SECOND, "`evil`"]),
    ),
    Case(
        "shape and offsets differ",
        |s| s.entry(|end| entry("evil", "BF16", &[5], end, end + 8), &[0; 8]),
        Refuse(&[SECOND, "`evil`", "size mismatch"]),
    ),
    Case(
        "ten thousand dimensions",
        |s| s.entry(|end| entry("evil", "BF16", &[1; 10_000], end, end + 2), &[0; 2]),
        Refuse(&[SECOND, "`evil`", "more than 16 dimensions"]),
    ),
    Case(
        "fifty million dimensions",
        |s| s.shard(raw(&format!("{{\"w\":{{\"shape\":[{}1]", "1,".repeat(20_000_000)), b"")),
        Refuse(&[SECOND, "`w`", "more than 16 dimensions"]),
    ),
    Case(
        "ranges up to 2^64",
        |s| {
            let place = |i: u64| (i * (u64::MAX >> 3), if i == 8 { u64::MAX } else { (i + 1) * (u64::MAX >> 3) });
            let entry =
                |i| entry(&format!("w{i}"), "U8", &[(place(i).1 - place(i).0) as usize], place(i).0, place(i).1);
            s.shard(raw(&object(&(0..9).map(entry).collect::<Vec<_>>()), b""));
        },
        Refuse(&[SECOND, "truncated"]),
    ),
    Case(
        "unknown dtype",
        |s| s.entry(|end| entry("evil", "F3", &[0], end, end), b""),
        Refuse(&[SECOND, "`evil`", "`F3`"]),
    ),
    Case(
        "dtype in small letters",
        |s| s.entry(|end| entry("evil", "bf16", &[0], end, end), b""),
        Refuse(&[SECOND, "`evil`", "`bf16`"]),
    ),
    Case(
        "dtype as a number",
        |s| s.shard(raw(r#"{"w":{"dtype":7,"shape":[0],"data_offsets":[0,0]}}"#, b"")),
        Refuse(&[SECOND, "`w`", "dtype"]),
    ),
    Case(
        "no dtype",
        |s| s.shard(raw(r#"{"w":{"shape":[0],"data_offsets":[0,0]}}"#, b"")),
        Refuse(&[SECOND, "`w`", "missing field `dtype`"]),
    ),
    Case(
        "no shape",
        |s| s.shard(raw(r#"{"w":{"dtype":"U8","data_offsets":[0,0]}}"#, b"")),
        Refuse(&[SECOND, "`w`", "missing field `shape`"]),
    ),
    Case(
        "no offsets",
        |s| s.shard(raw(r#"{"w":{"dtype":"U8","shape":[0]}}"#, b"")),
        Refuse(&[SECOND, "`w`", "missing field `data_offsets`"]),
    ),
    Case(
        "two shapes",
        |s| s.shard(raw(r#"{"w":{"shape":[0],"shape":[1]}}"#, b"")),
        Refuse(&[SECOND, "`w`", "duplicate field `shape`"]),
    ),
    Case("entry as an array", |s| s.shard(raw(r#"{"w":["U8",[0],[0,0]]}"#, b"")), Refuse(&[SECOND, "`w`"])),
    Case(
        "unknown field",
        |s| {
            s.shard(raw(
                &object(&entries(&second())).replace("\"dtype\"", "\"note\":\"x\",\"dtype\""),
                &bytes(&second()),
            ))
        },
        Accept,
    ),
    Case(
        "half a byte",
        |s| s.entry(|end| entry("evil", "F4", &[3], end, end + 2), &[0; 2]),
        Refuse(&[SECOND, "`evil`", "inside a byte"]),
    ),
    Case(
        "metadata of numbers",
        |s| s.shard(raw(r#"{"__metadata__":{"epoch":3}}"#, b"")),
        Refuse(&[SECOND, "a string in `__metadata__`"]),
    ),
    Case(
        "metadata as a tensor",
        |s| s.shard(raw(r#"{"__metadata__":{"dtype":"U8","shape":[0]}}"#, b"")),
        Refuse(&[SECOND, "`__metadata__`"]),
    ),
    Case("metadata of nothing", |s| s.entry(|_| r#""__metadata__":{}"#.into(), b""), Accept),
    Case("metadata of transformers", |s| s.entry(|_| r#""__metadata__":{"format":"pt"}"#.into(), b""), Accept),
    Case("metadata null", |s| s.entry(|_| r#""__metadata__":null"#.into(), b""), Accept),
    Case(
        "eight megabytes of metadata",
        |s| s.entry(|_| format!(r#""__metadata__":{{"note":"{}"}}"#, "x".repeat(8_000_000)), b""),
        Accept,
    ),
    Case(
        "a header of 99 MB",
        |s| s.entry(|_| format!(r#""__metadata__":{{"note":"{}"}}"#, "x".repeat(99_000_000)), b""),
        Accept,
    ),
    Case(
        "not in order",
        |s| s.shard(raw(&object(&entries(&second()).into_iter().rev().collect::<Vec<_>>()), &bytes(&second()))),
        Accept,
    ),
    Case(
        "data at an odd place",
        |s| {
            let header = object(&entries(&second()));
            s.shard(raw(&(header.clone() + &" ".repeat(1 + header.len() % 2)), &bytes(&second())))
        },
        Accept,
    ),
    Case(
        "a hundred thousand tensors",
        |s| {
            s.tensors(
                &[
                    second(),
                    (0..100_000)
                        .map(|i| crate::support::scene::tensor(&format!("extra.{i}.bias"), "BF16", &[0], b""))
                        .collect(),
                ]
                .concat(),
            )
        },
        Accept,
    ),
];

pub(crate) const NAMES: &[Case] = &[
    Case("empty", |s| s.extra("", "BF16", &[1], &[0; 2]), Refuse(&[SECOND, "empty"])),
    Case("NUL", |s| s.extra("a\0b.weight", "BF16", &[1], &[0; 2]), Refuse(&[SECOND, "NUL"])),
    Case("a megabyte", |s| s.extra(&"n".repeat(1 << 20), "BF16", &[1], &[0; 2]), Accept),
    Case(
        "a megabyte, refused",
        |s| s.entry(|_| entry(&"n".repeat(1 << 20), "BF16", &[1], 0, 1), b""),
        Refuse(&[SECOND, "nnn…"]),
    ),
    Case("newline", |s| s.extra("a\nerror: the disk is on fire\r", "BF16", &[1], &[0; 2]), Accept),
    Case("right to left", |s| s.extra("weight\u{202e}gnp.exe", "BF16", &[1], &[0; 2]), Accept),
    Case("escape codes", |s| s.extra("\u{1b}]0;pwned\u{7}\u{1b}[31mred.weight", "BF16", &[1], &[0; 2]), Accept),
    Case(
        "escape codes, refused",
        |s| s.entry(|_| entry("\u{1b}]0;pwned\u{7}\u{9b}31m", "BF16", &[1], 0, 1), b""),
        Refuse(&[SECOND, "\\u{1b}]0;pwned"]),
    ),
    Case(
        "newline, refused",
        |s| s.entry(|_| entry("a\nerror: the disk is on fire\r", "U8", &[9], 0, 1), b""),
        Refuse(&["`a\\nerror: the disk is on fire\\r`"]),
    ),
    Case(
        "right to left, refused",
        |s| s.entry(|_| entry("weight\u{202e}gnp.exe", "U8", &[9], 0, 1), b""),
        Refuse(&["weight\\u{202e}gnp.exe"]),
    ),
    Case(
        "escape codes in a linear layer that is refused",
        |s| s.extra("model.\u{1b}[31m.weight", "I64", &[2, 2], &[0; 32]),
        Refuse(&["model.\\u{1b}[31m"]),
    ),
    Case("like a path", |s| s.extra("../../../../etc/passwd", "BF16", &[1], &[0; 2]), Accept),
    Case(
        "composed and decomposed",
        |s| {
            s.tensors(
                &[
                    second(),
                    vec![
                        crate::support::scene::tensor("caf\u{e9}", "U8", &[1], b"1"),
                        crate::support::scene::tensor("cafe\u{301}", "U8", &[1], b"2"),
                    ],
                ]
                .concat(),
            )
        },
        Accept,
    ),
    Case("like a regex", |s| s.extra("a(b|c)*[d]{2}.bias\\", "BF16", &[1], &[0; 2]), Accept),
    Case("like a glob", |s| s.extra("**/[!x]*.bias", "BF16", &[1], &[0; 2]), Accept),
    Case("another case", |s| s.extra("MODEL.NORM.WEIGHT", "BF16", &[1], &[0; 2]), Accept),
    Case(
        "lone surrogate",
        |s| s.entry(|end| entry("x", "U8", &[0], end, end).replacen('x', "\\ud800", 1), b""),
        Refuse(&[SECOND, "JSON header"]),
    ),
    Case(
        "the name of a scale",
        |s| s.extra(&format!("{VICTIM}_scale"), "F32", &[1], &[0; 4]),
        Refuse(&["up_proj.weight_scale"]),
    ),
    Case(
        "the name of a block scale",
        |s| s.extra(&format!("{VICTIM}_scale_inv"), "F32", &[1], &[0; 4]),
        Refuse(&["up_proj.weight_scale_inv"]),
    ),
    Case(
        "reserved",
        |s| s.shard(raw(r#"{"__metadata__":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, b"")),
        Refuse(&[SECOND, "__metadata__"]),
    ),
];
