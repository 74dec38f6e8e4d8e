#!/usr/bin/env bash
# Version:   globset 0.4.21 (crates.io), the globs of ripgrep and of many Rust tools, and `fnmatch` of Python's standard
#            library (seen with 3.11), by which several Python tools read the patterns of modules to leave out. Needs `cargo`.
# Input:     the pattern `*.[^q]_proj` and names of modules. POSIX writes "any but" as `[!q]`, and says of `[^q]` in a
#            pattern of file names that its result is unspecified, so both readings are allowed.
# Behaviour: for globset `^` means "any but", as in a regular expression and as in bash. For `fnmatch` it is a member of the
#            set like any other, so that the pattern selects q_proj, the one name that it seems to leave out, and none of
#            the others. Neither complains. `[!q]` is read alike by both.
# Seen:      2026-11-28
seen="[^q]: globset k_proj v_proj o_proj, fnmatch q_proj; [!q]: globset k_proj v_proj o_proj, fnmatch k_proj v_proj o_proj"
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
globset = { version = "=0.4.21", default-features = false }
TOML
cat >"$scratch/src/main.rs" <<'RUST'
fn main() {
    let mut arguments = std::env::args().skip(1);
    let pattern = arguments.next().expect("a pattern is given");
    let matcher = globset::Glob::new(&pattern).expect("the pattern is valid").compile_matcher();
    let selected: Vec<String> = arguments.filter(|name| matcher.is_match(name)).collect();
    println!("{}", selected.join(" "));
}
RUST
CARGO_TARGET_DIR="$scratch/target" cargo build --quiet --manifest-path "$scratch/Cargo.toml"
cat >"$scratch/fnmatch_selects.py" <<'PYTHON'
import fnmatch
import sys

pattern, *names = sys.argv[1:]
print(" ".join(name for name in names if fnmatch.fnmatchcase(name, pattern)))
PYTHON

names=(model.layers.0.self_attn.{q,k,v,o}_proj)
last_part() {
    sed 's/model\.layers\.0\.self_attn\.//g'
}
found=
for set in '[^q]' '[!q]'; do
    by_globset=$("$scratch/target/debug/shows" "*.${set}_proj" "${names[@]}" | last_part)
    by_fnmatch=$(python3 "$scratch/fnmatch_selects.py" "*.${set}_proj" "${names[@]}" | last_part)
    found+="${found:+; }$set: globset $by_globset, fnmatch $by_fnmatch"
done
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "globset and Python's fnmatch no longer read a caret in brackets as this script says" >&2
    exit 1
fi
