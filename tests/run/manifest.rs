//! The manifest of an output, and what it proves.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use qwen_fp8::checkpoint::checksum::Crc64;
use qwen_fp8::checkpoint::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use qwen_fp8::checkpoint::text::exact;
use qwen_fp8::plan::Job;
use qwen_fp8::run::{RunError, RunOptions, Sha256Of, run};
use qwen_fp8::schemes::Dtype;

use crate::support::fixture::{Action, Case, Fixture, case};

static NEVER: AtomicBool = AtomicBool::new(false);

fn cases() -> Vec<Case> {
    vec![
        case(&[300, 64], 0, Action::Band),
        case(&[7], 0, Action::Copy),
        case(&[600, 64], 1, Action::Tensor),
        case(&[100, 64], 1, Action::Copy),
        case(&[0, 4], 1, Action::Copy),
    ]
}

fn manifest_of(fixture: &Fixture, options: &RunOptions<'_>) -> String {
    run(&fixture.plan, &fixture.output(), options, &()).unwrap();
    fs::read_to_string(fixture.output().join(MANIFEST_FILE)).unwrap()
}

#[test]
fn the_manifest_describes_every_file_and_tensor() {
    let fixture = Fixture::new(&cases());
    let text = manifest_of(&fixture, &RunOptions::new(&NEVER));
    let manifest = Manifest::read(&fixture.output()).unwrap();
    assert_eq!(manifest.text(), text);
    assert_eq!((manifest.source.model.as_str(), manifest.source.revision.as_deref()), ("source", None));
    assert_eq!(manifest.recipe.text, fixture.plan.recipe.text.text);
    assert_eq!(manifest.format, "fp8");
    let mut files: Vec<_> = manifest.files.iter().map(|file| (file.name.clone(), file.crc64nvme, file.size)).collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = fixture.expected.iter().map(|(name, bytes)| (name.clone(), Crc64::of(bytes), bytes.len() as u64));
    assert_eq!(files, expected.collect::<Vec<_>>());
    for (layout, file) in fixture.plan.shards.iter().zip(&manifest.files) {
        let bytes = fs::read(fixture.output().join(&file.name)).unwrap();
        for (placed, tensor) in layout.tensors.iter().zip(&file.tensors) {
            let data = &bytes[placed.offset as usize..][..placed.len as usize];
            assert_eq!((&placed.entry.name, Crc64::of(data)), (&tensor.name, tensor.crc64nvme));
        }
    }
    let schemes: Vec<_> = manifest.actions.iter().map(|action| action.scheme.as_deref()).collect();
    assert_eq!(schemes, [Some("STAMP"), None, Some("STAMP"), None, None]);
    assert_eq!(manifest.schemes, [("STAMP".to_owned(), 1)].into());
    assert_eq!(
        manifest.actions[0].outputs,
        ["layers.0.weight", "layers.0.weight_scale", "layers.0.weight_global"].map(str::to_owned)
    );
    assert!(manifest.actions[1].outputs.is_empty());
    let root = fixture.root.path().to_str().unwrap();
    assert!(!text.contains(root) && !text.contains("/tmp"), "no path of the machine");
}

#[test]
fn threads_and_memory_do_not_change_the_manifest() {
    let fixture = Fixture::new(&cases());
    let mut texts = Vec::new();
    for (threads, max_memory) in [(1, 60_000), (3, 200_000), (8, 16 << 20)] {
        let threads = NonZeroUsize::new(threads);
        texts.push(manifest_of(&fixture, &RunOptions { threads, max_memory, ..RunOptions::new(&NEVER) }));
        fs::remove_dir_all(fixture.output()).unwrap();
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
}

#[test]
fn sha256_is_written_on_request() {
    let fixture = Fixture::new(&cases());
    let sha256 = Sha256Of { output: true, source: true };
    manifest_of(&fixture, &RunOptions { sha256, ..RunOptions::new(&NEVER) });
    let manifest = Manifest::read(&fixture.output()).unwrap();
    let sum = |dir: &Path, name: &str| {
        let output = std::process::Command::new("sha256sum").arg(dir.join(name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_once(' ').unwrap().0.to_owned()
    };
    for file in &manifest.files {
        assert_eq!(file.sha256, Some(sum(&fixture.output(), &file.name)), "{}", file.name);
    }
    for file in &manifest.source.files {
        assert_eq!(file.sha256, Some(sum(&fixture.plan.checkpoint.dir, &file.name)), "{}", file.name);
    }
}

#[test]
fn the_manifest_can_be_left_out() {
    let fixture = Fixture::new(&cases());
    run(&fixture.plan, &fixture.output(), &RunOptions { manifest: false, ..RunOptions::new(&NEVER) }, &()).unwrap();
    assert!(!fixture.output().join(MANIFEST_FILE).exists());
    assert!(matches!(Manifest::read(&fixture.output()), Err(ManifestError::Source(_))));
}

/// The hand-made plans have headers that no reader takes; their layouts, given real ones.
fn readable() -> Fixture {
    let mut fixture = Fixture::new(&cases());
    for shard in &mut fixture.plan.shards {
        let entries: Vec<_> = shard.tensors.iter().map(|placed| placed.entry.clone()).collect();
        let layout = qwen_fp8::checkpoint::layout::ShardLayout::new(shard.file_name.clone(), entries).unwrap();
        for job in &mut fixture.plan.jobs {
            let slots: Vec<_> = match job {
                Job::Copy { to } | Job::Dequantize { to } => vec![to],
                Job::PassThrough { to, .. } => to.iter_mut().collect(),
                Job::Quantize { outputs, .. } => outputs.iter_mut().map(|(_, slot)| slot).collect(),
            };
            for slot in slots {
                if format!("model-{}.safetensors", slot.shard) == shard.file_name {
                    let name = &shard.tensors[slot.tensor].entry.name;
                    slot.tensor = layout.tensors.iter().position(|placed| placed.entry.name == *name).unwrap();
                }
            }
        }
        *shard = layout;
    }
    fixture
}

#[test]
fn changed_files_and_tensors_are_named() {
    let fixture = readable();
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &()).unwrap();
    let manifest = Manifest::read(&fixture.output()).unwrap();
    let check = || -> Vec<(String, Option<String>, String)> {
        let found = manifest.check(&fixture.output(), &());
        found.into_iter().map(|mismatch| (mismatch.file, mismatch.tensor, mismatch.what)).collect()
    };
    assert_eq!(check(), []);
    let named = |file: &str, tensor: Option<&str>, what: &str| {
        vec![(file.to_owned(), tensor.map(str::to_owned), what.to_owned())]
    };
    let shard = &fixture.plan.shards[0];
    let path = fixture.output().join(&shard.file_name);
    let good = fs::read(&path).unwrap();
    for placed in shard.tensors.iter().filter(|placed| placed.len > 0) {
        for at in [placed.offset, placed.offset + placed.len - 1] {
            let mut bytes = good.clone();
            bytes[at as usize] ^= 0x80;
            fs::write(&path, bytes).unwrap();
            let tensor = Some(placed.entry.name.as_str());
            assert_eq!(check(), named("model-0.safetensors", tensor, "its bytes have changed"));
        }
    }
    let spaced = String::from_utf8_lossy(&good[..shard.header.len()]).replacen("\"pt\"", "\"tp\"", 1);
    fs::write(&path, [spaced.as_bytes(), &good[shard.header.len()..]].concat()).unwrap();
    assert_eq!(check(), named("model-0.safetensors", None, "its header has changed"));
    fs::write(&path, &good).unwrap();

    let config = fixture.output().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace('1', "2")).unwrap();
    assert_eq!(check(), named("config.json", None, "its bytes have changed"));
    fs::write(&config, format!("{text} ")).unwrap();
    assert_eq!(
        check(),
        named(
            "config.json",
            None,
            &format!("it has {}, not {}", exact(text.len() as u64 + 1), exact(text.len() as u64))
        )
    );
    fs::remove_file(&config).unwrap();
    assert!(check()[0].2.ends_with("is missing"));
    fs::write(&config, text).unwrap();

    fs::write(fixture.output().join("more.safetensors"), b"").unwrap();
    assert_eq!(check(), named("more.safetensors", None, "the manifest does not name it"));
}

#[test]
fn file_names_that_lead_elsewhere_are_not_followed() {
    let fixture = readable();
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &()).unwrap();
    let mut manifest = Manifest::read(&fixture.output()).unwrap();
    manifest.files[0].name = "../source/model-0.safetensors".to_owned();
    let found = manifest.check(&fixture.output(), &());
    assert_eq!(found[0].what, "its name leads out of the directory");
}

#[test]
fn a_scale_that_no_server_can_use_is_not_published() {
    // The stamp's scales, read as floats: the first is positive, the second is not.
    for (rows, refused) in [(4, false), (8, true)] {
        let mut fixture = Fixture::new(&[case(&[rows, 64], 0, Action::Band)]);
        let Job::Quantize { outputs, .. } = &mut fixture.plan.jobs[0] else { panic!() };
        outputs[1].0.dtype = Dtype::F32;
        let slot = outputs[1].1;
        fixture.plan.shards[slot.shard].tensors[slot.tensor].entry.dtype = Dtype::F32;
        let done = run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &());
        match (refused, done) {
            (false, Ok(_)) => assert!(fixture.output().exists()),
            (true, Err(error @ RunError::SelfCheck { .. })) => {
                let text = error.to_string();
                assert!(text.contains("`layers.0.weight_scale` is not a positive number at element 1"), "{text}");
                assert!(!fixture.output().exists());
                assert_eq!(fixture.left_over(), Vec::<String>::new());
            }
            (_, done) => panic!("{rows} rows: {done:?}"),
        }
    }
}
