//! Numbers that are told about: what `on_nonfinite` makes of NaN and infinity, from the recipe to the proof of the result,
//! and groups of zeros or of numbers too small for their scale.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use qwen_fp8::check::{Finding, Verdict, lint, verify};
use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::manifest::{MANIFEST_FILE, Manifest, NonFiniteRecord};
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::diagnostic::Level;
use qwen_fp8::recipe::{Recipe, RecipeText};
use qwen_fp8::run::{DegenerateScaleCounts, Observer, RunError, RunOptions, RunReport, run};
use qwen_fp8::schemes::{Make, registered};
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::support::program::program;

const DOWN: &str = "model.language_model.layers.0.mlp.down_proj.weight";
const QUERY: &str = "model.language_model.layers.1.self_attn.q_proj.weight";

/// Row, column and bits of BF16.
type Edit = (usize, usize, u16);
const IN_DOWN: [Edit; 3] = [(3, 6, 0x7FC0), (3, 5, 0xFFC0), (200, 300, 0x7F81)];
const IN_QUERY: [Edit; 2] = [(130, 255, 0xFF80), (0, 1, 0x7F80)];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3-vl")
}

/// The tiny model with other numbers: as a rule, NaNs in a weight of its first shard and infinities in one of its last.
struct Damaged(TempDir);

impl Damaged {
    fn new() -> Self {
        Self::with(&[(DOWN, &IN_DOWN), (QUERY, &IN_QUERY)])
    }

    fn with(edits: &[(&str, &[Edit])]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        fs::create_dir(folder.source()).unwrap();
        for entry in fs::read_dir(fixture()).unwrap() {
            let entry = entry.unwrap();
            let mut bytes = fs::read(entry.path()).unwrap();
            if entry.path().extension().is_some_and(|extension| extension == "safetensors") {
                edits.iter().for_each(|(name, values)| poke(&mut bytes, name, values));
            }
            fs::write(folder.source().join(entry.file_name()), bytes).unwrap();
        }
        folder
    }

    fn source(&self) -> PathBuf {
        self.0.path().join("source")
    }

    fn output(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plan(&self, recipe: &str) -> Plan {
        let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), recipe)).unwrap();
        Plan::build(recipe, Checkpoint::open(&self.source()).unwrap()).unwrap()
    }

    fn apply(&self, recipe: &str, name: &str, threads: usize) -> Result<RunReport, RunError> {
        self.apply_until(recipe, name, threads, usize::MAX)
    }

    /// Ends the run after so many shards.
    fn apply_until(&self, recipe: &str, name: &str, threads: usize, shards: usize) -> Result<RunReport, RunError> {
        let until = Until { shards: shards.into(), cancel: AtomicBool::new(false) };
        // So little memory that a weight is many bands.
        let options =
            RunOptions { threads: NonZeroUsize::new(threads), max_memory: 1 << 20, ..RunOptions::new(&until.cancel) };
        run(&self.plan(recipe), &self.output(name), &options, &until)
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let recipe = self.0.path().join("recipe.yaml");
        let mut command = Command::new(program());
        command.args([arguments[0], recipe.to_str().unwrap(), "--model", self.source().to_str().unwrap()]);
        command.args(&arguments[1..]).output().unwrap()
    }
}

/// Cancels a run after so many shards.
struct Until {
    shards: AtomicUsize,
    cancel: AtomicBool,
}

impl Observer for Until {
    fn shard_finished(&self, _: &str) {
        if self.shards.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
}

fn poke(shard: &mut [u8], name: &str, values: &[Edit]) {
    let place = {
        let Ok(view) = SafeTensors::deserialize(shard).unwrap().tensor(name) else { return };
        (view.data().as_ptr().addr() - shard.as_ptr().addr(), view.shape()[1])
    };
    for &(row, column, bits) in values {
        shard[place.0 + (row * place.1 + column) * 2..][..2].copy_from_slice(&bits.to_le_bytes());
    }
}

fn recipe(scheme: &str, format: &str) -> String {
    format!(
        "format: {format}\nserving: warn\non_nonfinite: keep\nscheme: {scheme}\ntargets: Linear\nignore: ['re:.*visual.*']\n"
    )
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.rule.code).collect();
    codes.sort_unstable();
    codes
}

/// The layouts, and how many scales of each weight are spoilt in them.
const LAYOUTS: [(&str, &str, [u64; 2]); 4] = [
    ("FP8_DYNAMIC", "compressed-tensors", [2, 2]),
    ("FP8_BLOCK", "compressed-tensors", [2, 2]),
    ("FP8_BLOCK", "fp8", [2, 2]),
    ("FP8", "compressed-tensors", [1, 1]),
];

#[test]
fn weights_with_non_finite_elements_are_named_and_counted_whatever_the_threads() {
    let damaged = Damaged::new();
    for (scheme, format, scales) in LAYOUTS {
        let recipe = recipe(scheme, format);
        let names = [1, 4].map(|threads| format!("{scheme}-{format}-{threads}"));
        for (threads, name) in [1, 4].into_iter().zip(&names) {
            let report = damaged.apply(&recipe, name, threads).unwrap();
            let down = NonFiniteRecord { nan: 3, infinite: 0, scales: scales[0], first: Some([3, 5]) };
            let query = NonFiniteRecord { nan: 0, infinite: 2, scales: scales[1], first: Some([0, 1]) };
            let kept: Vec<_> = report.non_finite.iter().map(|kept| (&*kept.tensor, &kept.counts)).collect();
            assert_eq!(kept, [(DOWN, &down), (QUERY, &query)], "{name}");
            let manifest = Manifest::read(&damaged.output(name)).unwrap();
            let kept =
                manifest.actions.iter().filter_map(|action| Some((&*action.tensor, action.non_finite.as_ref()?)));
            assert_eq!(kept.collect::<Vec<_>>(), [(DOWN, &down), (QUERY, &query)], "{name}");
        }
        assert_eq!(files(&damaged.output(&names[0])), files(&damaged.output(&names[1])), "{scheme} {format}");
    }
}

#[test]
fn verify_accepts_non_finite_scales_of_the_named_weights_alone() {
    let damaged = Damaged::new();
    for (scheme, format, _) in LAYOUTS {
        let name = format!("{scheme}-{format}");
        damaged.apply(&recipe(scheme, format), &name, 2).unwrap();
        let output = damaged.output(&name);
        let verified = verify(&output, Some(&damaged.source()), &[], &()).unwrap();
        let errors = verified.findings.iter().filter(|finding| !matches!(finding.rule.code, "Q309" | "Q211"));
        let errors: Vec<Finding> = errors.cloned().collect();
        assert_eq!(codes(&errors), ["Q403", "Q403"], "{name}: {errors:#?}");
        let alone = verify(&output, None, &[], &()).unwrap().verdict;
        assert_eq!((verified.verdict, alone), (Verdict::Proven, Verdict::StructureOnly), "{name}");
        assert!(
            verified.tensors.iter().filter_map(|tensor| tensor.figures).all(|figures| figures.max_error.is_finite())
        );
        assert!(lint(&output, &()).unwrap().iter().any(|finding| finding.rule.code == "Q403"));

        // Against a source that is whole, the manifest's word is not enough.
        let against_whole = verify(&output, Some(&fixture()), &[], &()).unwrap();
        assert!(
            against_whole.verdict == Verdict::AtFault && codes(&against_whole.findings).contains(&"Q401"),
            "{name}"
        );

        // One more spoilt scale than the manifest knows, in another weight and in one that it names.
        let shard = output.join("model-00001-of-00004.safetensors");
        let whole = fs::read(&shard).unwrap();
        let suffix = if format == "fp8" { "weight_scale_inv" } else { "weight_scale" };
        for (module, element) in [("gate_proj", 0), ("down_proj", 1)] {
            let mut bytes = whole.clone();
            let spoilt = DOWN.replace("down_proj.weight", &format!("{module}.{suffix}"));
            let scales = {
                let shard = SafeTensors::deserialize(&whole).unwrap();
                let data = shard.tensor(&spoilt).unwrap().data();
                let begin = data.as_ptr().addr() - whole.as_ptr().addr();
                begin..begin + data.len()
            };
            // Under one scale for all there is no second one.
            let Some(scale) = bytes[scales].chunks_exact_mut(2).nth(element) else { continue };
            scale.copy_from_slice(&0x7FC0u16.to_le_bytes());
            fs::write(&shard, bytes).unwrap();
            assert!(codes(&verify(&output, None, &[], &()).unwrap().findings).contains(&"Q401"), "{name} {module}");
            assert!(codes(&lint(&output, &()).unwrap()).contains(&"Q401"), "{name} {module}");
        }
        // A finite scale beside those that are not, twice as large.
        let mut bytes = whole.clone();
        let scales = DOWN.replace("weight", suffix);
        let data = SafeTensors::deserialize(&whole).unwrap().tensor(&scales).unwrap().data().as_ptr_range();
        let begin = data.start.addr() - whole.as_ptr().addr();
        let scales = &mut bytes[begin..begin + (data.end.addr() - data.start.addr())];
        let is_finite = |scale: &&mut [u8]| scale[1] & 0x7f != 0x7f || scale[0] & 0x80 == 0;
        if let Some(scale) = scales.chunks_exact_mut(2).find(is_finite) {
            let doubled = u16::from_le_bytes([scale[0], scale[1]]) + 0x80;
            scale.copy_from_slice(&doubled.to_le_bytes());
            fs::write(&shard, bytes).unwrap();
            let altered = verify(&output, Some(&damaged.source()), &[], &()).unwrap();
            let found = codes(&altered.findings);
            assert!(found.contains(&"Q506"), "{name}: {found:?}");
        }
        fs::write(&shard, whole).unwrap();

        fs::remove_file(output.join(MANIFEST_FILE)).unwrap();
        let verified = verify(&output, Some(&damaged.source()), &[], &()).unwrap();
        let found = codes(&verified.findings);
        assert!(
            verified.verdict == Verdict::AtFault && found.contains(&"Q401") && found.contains(&"Q402"),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_resumed_run_reports_non_finite_elements_met_before_the_interruption() {
    let damaged = Damaged::new();
    for (scheme, format, _) in LAYOUTS {
        for size in ["", "max_shard_size: 300kB\n"] {
            let recipe = format!("{size}{}", recipe(scheme, format));
            let name = format!("{scheme}-{format}-{}", size.len());
            let report = damaged.apply(&recipe, &name, 1).unwrap();
            for shards in 1..damaged.plan(&recipe).shards.len() {
                let stopped = format!("{name}-{shards}");
                let error = damaged.apply_until(&recipe, &stopped, 1, shards).unwrap_err();
                assert!(matches!(error, RunError::Cancelled), "{error}");
                let resumed = damaged.apply(&recipe, &stopped, 1).unwrap();
                assert_eq!(resumed.non_finite, report.non_finite, "{stopped}");
                assert_eq!(files(&damaged.output(&stopped)), files(&damaged.output(&name)), "{stopped}");
            }
        }
    }
}

#[test]
fn an_error_is_the_default_and_says_what_can_be_done() {
    let damaged = Damaged::new();
    let error = |recipe: &str| {
        let error = damaged.apply(recipe, "none", 2).unwrap_err();
        assert!(!damaged.output("none").exists());
        assert!(error.help().iter().any(|help| help.contains("`on_nonfinite: keep`")), "{:?}", error.help());
        error.to_string()
    };
    let strict = recipe("FP8_DYNAMIC", "compressed-tensors").replace("on_nonfinite: keep\n", "");
    let message = error(&strict);
    assert!(message.contains(DOWN) && message.contains("row 3, column 5"), "{message}");
    assert_eq!(error(&format!("on_nonfinite: error\n{strict}")), message);
}

#[test]
fn a_scheme_that_cannot_keep_them_is_refused_before_anything_is_read() {
    for registration in registered() {
        let Make::Quantize(_) = registration.make else { continue };
        let scheme = match registration.name {
            "NVFP4" => "NVFP4\ninput_scale: 1.0",
            name => name,
        };
        let text = recipe(scheme, "compressed-tensors");
        let parsed = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), &text)).unwrap();
        let keeps = parsed.rules[0].scheme.as_ref().unwrap().keeps_non_finite();
        assert_eq!(keeps, ["FP8", "FP8_BLOCK", "FP8_DYNAMIC"].contains(&registration.name), "{}", registration.name);
        let diagnostics = Plan::check_recipe(&parsed);
        let refused = diagnostics.iter().find(|diagnostic| diagnostic.message.contains("on_nonfinite"));
        assert_eq!(refused.is_none(), keeps, "{}", registration.name);
        if let Some(refused) = refused {
            assert_eq!(refused.level, Level::Error);
            assert!(refused.message.contains(registration.name), "{}", refused.message);
            let checkpoint = Checkpoint::open(&fixture()).unwrap();
            let planned = Plan::build(parsed, checkpoint).unwrap_err();
            assert!(planned.diagnostics.contains(refused), "{}", registration.name);
        }
    }
}

#[test]
fn apply_reports_non_finite_weights() {
    let damaged = Damaged::new();
    fs::write(damaged.output("recipe.yaml"), recipe("FP8_DYNAMIC", "compressed-tensors")).unwrap();
    let plan = String::from_utf8(damaged.command(&["plan"]).stdout).unwrap();
    assert!(plan.contains("format compressed-tensors; NaN and infinities are kept"), "{plan}");
    let output = damaged.output("output");
    let done = damaged.command(&["apply", "--json", "--output", output.to_str().unwrap()]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    assert!(said.contains("kept 3 NaN and 2 infinities in 2 weights, which make 4 scales non-finite"), "{said}");
    assert!(said.contains("down_proj.weight`: 3 NaN, 0 infinities, 2 scales, the first at row 3, column 5"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["non_finite"][1]["tensor"], QUERY);
    assert_eq!(report["non_finite"][1]["infinite"], 2);
}

#[test]
fn degenerate_scales_are_counted_and_named_whatever_the_threads_and_interruptions() {
    let fill = |rows: std::ops::Range<usize>, columns: usize, bits| {
        rows.flat_map(move |row| (0..columns).map(move |column| (row, column, bits))).collect::<Vec<_>>()
    };
    // In the first shard a tile and a row of zeros, in the last a tile of the smallest subnormal numbers.
    let zeros = [fill(128..256, 128, 0x8000), fill(7..8, 384, 0)].concat();
    let damaged = Damaged::with(&[(DOWN, &zeros), (QUERY, &fill(0..128, 256, 1))]);
    let odd = |zero, underflowed, first| DegenerateScaleCounts { zero, underflowed, subnormal: 0, first: Some(first) };
    for (scheme, format, down, query) in [
        ("FP8_BLOCK", "fp8", odd(1, 0, [128, 0]), odd(0, 2, [0, 0])),
        ("FP8_DYNAMIC", "compressed-tensors", odd(1, 0, [7, 0]), odd(0, 128, [0, 0])),
        ("W4A16", "compressed-tensors", odd(128 + 3, 0, [7, 0]), odd(0, 256, [0, 0])),
    ] {
        let recipe = recipe(scheme, format).replace("on_nonfinite: keep\n", "");
        for (threads, shards) in [(1, usize::MAX), (4, usize::MAX), (1, 1), (1, 3)] {
            let name = format!("{scheme}-{threads}-{shards}");
            if shards < usize::MAX {
                damaged.apply_until(&recipe, &name, threads, shards).unwrap_err();
            }
            let report = damaged.apply(&recipe, &name, threads).unwrap();
            let found: Vec<_> = report.degenerate_scales.iter().map(|met| (&*met.tensor, &met.counts)).collect();
            assert_eq!(found, [(DOWN, &down), (QUERY, &query)], "{name}");
        }
    }
    fs::write(damaged.output("recipe.yaml"), recipe("FP8_BLOCK", "fp8")).unwrap();
    let said = damaged.command(&["apply", "--output", damaged.output("output").to_str().unwrap()]).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("scales of 2 weights: 1 granule of zeros, 2 granules too small for a scale\n"), "{said}");
    assert!(said.contains("down_proj.weight`: 1 granule of zeros, the first at row 128, column 0\n"), "{said}");
}

/// The reference stores an infinite scale where the span of a group is more than its dtype holds.
#[test]
fn a_group_too_wide_for_a_scale_is_named_and_nothing_is_written() {
    let largest = [(200, 130, 0x7F7F), (200, 131, 0xFF7F)];
    let damaged = Damaged::with(&[(DOWN, &largest)]);
    let of = |scheme: &str| recipe(scheme, "compressed-tensors").replace("on_nonfinite: keep\n", "");
    for threads in [1, 4] {
        let error = damaged.apply(&of("W4A16_ASYM"), "wide", threads).unwrap_err();
        assert!(matches!(&error, RunError::InfiniteScale { row: 200, tensor, .. } if tensor == DOWN), "{error}");
        assert!(!damaged.output("wide").exists());
    }
    // Without a zero point the scale follows from one end of the group alone.
    damaged.apply(&of("W4A16"), "symmetric", 2).unwrap();
}
