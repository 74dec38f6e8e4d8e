#!/usr/bin/env bash
# Version:   regex 1.13.2 and fancy-regex 0.20.2 (crates.io; the second is made of the first, and is what the crate jsonschema
#            takes for `pattern`), and `re` of Python's standard library (seen with 3.11). Needs `cargo`.
# Input:     the patterns `^a{2}{2}$` and `^a{2}+$`, as they come about when a pattern is put together from parts.
# Behaviour: `^a{2}{2}$` is four letters for regex, the text `aa{2}` for fancy-regex, and an error for Python.
#            `^a{2}+$` is two, four, six letters for regex; for the two others `{2}+` is one sign, two letters that
#            are not given back, and four letters do not match. The two crates take both patterns without a word, so that a
#            pattern which a schema has checked with one of them selects other names with the other. Put parts in `(?:...)`.
# Seen:      2026-11-28
seen="^a{2}{2}\$: regex aaaa, fancy-regex aa{2}, Python multiple repeat at position 5; "
seen+="^a{2}+\$: regex aa aaaa, fancy-regex aa, Python aa; "
seen+="^(?:a{2}){2}\$: regex aaaa, fancy-regex aaaa, Python aaaa"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
cat >"$scratch/Cargo.toml" <<'TOML'
[package]
name = "shows"
version = "0.0.0"
edition = "2021"

[dependencies]
fancy-regex = "=0.20.2"
regex = "=1.13.2"
TOML
cat >"$scratch/src/main.rs" <<'RUST'
fn main() {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().expect("an engine is given");
    let pattern = arguments.next().expect("a pattern is given");
    let matches: Box<dyn Fn(&str) -> bool> = if engine == "regex" {
        let compiled = regex::Regex::new(&pattern).expect("regex takes the pattern");
        Box::new(move |text| compiled.is_match(text))
    } else {
        let compiled = fancy_regex::Regex::new(&pattern).expect("fancy-regex takes the pattern");
        Box::new(move |text| compiled.is_match(text).expect("the pattern is cheap"))
    };
    let matched: Vec<String> = arguments.filter(|text| matches(text)).collect();
    println!("{}", matched.join(" "));
}
RUST
CARGO_TARGET_DIR="$scratch/target" cargo build --quiet --manifest-path "$scratch/Cargo.toml"
cat >"$scratch/by_re.py" <<'PYTHON'
import re
import sys

pattern, *texts = sys.argv[1:]
try:
    print(" ".join(text for text in texts if re.search(pattern, text)))
except re.error as error:
    print(error)
PYTHON

texts=(a aa aaa aaaa 'aa{2}')
found=
for pattern in '^a{2}{2}$' '^a{2}+$' '^(?:a{2}){2}$'; do
    by_regex=$("$scratch/target/debug/shows" regex "$pattern" "${texts[@]}")
    by_fancy_regex=$("$scratch/target/debug/shows" fancy-regex "$pattern" "${texts[@]}")
    by_python=$(python3 "$scratch/by_re.py" "$pattern" "${texts[@]}")
    found+="${found:+; }$pattern: regex $by_regex, fancy-regex $by_fancy_regex, Python $by_python"
done
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "regex, fancy-regex and Python no longer read a repetition after a repetition as this script says" >&2
    exit 1
fi
