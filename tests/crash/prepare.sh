# Sourced by the crash tests: the program, a checkpoint, the result of an undisturbed run, and the counting of what passed.
# Everything lives in $scratch, which goes at the end with whatever is mounted in it. TOOL and SOURCE may be given.

set -uo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

scratch=$(mktemp -d)
passed=0
failed=0
began=$SECONDS

clean_up() {
    for mounted in "$scratch"/*.mount; do
        umount -l "$mounted" 2>/dev/null
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

pass() {
    passed=$((passed + 1))
}

fail() {
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$*"
}

# The closing line, and the exit status that goes with it.
finish() {
    printf '%s: %d passed, %d failed (%d s)%s\n' "$(basename "$0")" "$passed" "$failed" $((SECONDS - began)) "${1:+; $1}"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

skip() {
    printf '%s: 0 passed, 0 failed; skipped: %s\n' "$(basename "$0")" "$1"
    exit 0
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local seconds=$1
    shift
    for ((tenth = 0; tenth < seconds * 10; tenth++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    return 1
}

# tree DIR: one checksum over the names and bytes of a directory's files.
tree() {
    (cd "$1" 2>/dev/null && find . -type f | LC_ALL=C sort | xargs -r -d '\n' sha256sum | sha256sum | cut -c1-64)
}

# stamps DIR: what a write, a replacement or a rename would change.
stamps() {
    find "$1" -printf '%P %i %s %T@ %m\n' | LC_ALL=C sort
}

# A small multi-shard checkpoint with the names of Qwen3-VL: 380 MB in 12 shards.
make_checkpoint() {
    # As `cargo test --workspace` has made it already: built by itself it would have other features, and most of it be compiled again.
    cargo build --profile test --workspace --quiet --example synth_checkpoint &&
        "${CARGO_TARGET_DIR:-target}/debug/examples/synth_checkpoint" "$1" \
            --no-vision --vocabulary 256 --layers 1 --max-shard-size 40000000 2>/dev/null
}

# apply OUTPUT [OPTION...]: the run under test; its messages go to $scratch/log.
apply() {
    local output=$1
    shift
    "$tool" apply recipes/fp8_dynamic.yaml --model "$source" --output "$output" "$@" >"$scratch/log" 2>&1
}

# is_complete OUTPUT: whether it is what the undisturbed run wrote.
is_complete() {
    diff -qr "$scratch/undisturbed" "$1" >/dev/null 2>&1
}

# check_source: the source is what it was, down to the times of its files.
check_source() {
    [ "$(stamps "$source")" = "$source_stamps" ]
}

# ended_well STATUS: the program ended by its own will, and said why.
ended_well() {
    case $1 in
    0 | 1 | 2 | 129 | 130 | 143) ! grep -q panicked "$scratch/log" ;;
    *) false ;;
    esac
}

# remove OUTPUT: away with it and with what lies beside it.
remove() {
    rm -rf "$1" "$(dirname "$1")/.$(basename "$1").partial" "$(dirname "$1")/.$(basename "$1").lock"
}

prepare() {
    tool=${TOOL:-${CARGO_TARGET_DIR:-target}/release/qwen-fp8}
    # Without the lints that CI wraps the compiler in, under which cargo would compile all of it once more.
    if [ -z "${TOOL:-}" ]; then
        env -u RUSTC_WORKSPACE_WRAPPER cargo build --quiet --release || exit 1
    fi
    tool=$(realpath "$tool")
    source=${SOURCE:-$1}
    source=$(realpath "$source")
    apply "$scratch/undisturbed" || {
        cat "$scratch/log"
        exit 1
    }
    reference=$(tree "$scratch/undisturbed")
    source_stamps=$(stamps "$source")
    source_tree=$(tree "$source")
}
