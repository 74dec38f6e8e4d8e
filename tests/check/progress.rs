//! The progress of checks: each begins with what it will read, and ends when it has read that much.

use std::sync::Mutex;

use qwen_fp8::check::{diff, lint, verify};
use qwen_fp8::checkpoint::manifest::Manifest;
use qwen_fp8::checkpoint::progress::ProgressSink;

use crate::support::folder::{Base, Folder, apply, source};

/// What was announced, each with its bytes and the bytes that were reported since.
#[derive(Default)]
struct Log(Mutex<Vec<(&'static str, u64, u64, usize)>>);

impl ProgressSink for Log {
    fn reading(&self, what: &'static str, bytes: u64) {
        self.0.lock().unwrap().push((what, bytes, 0, 0));
    }

    fn advanced(&self, bytes: u64) {
        let mut log = self.0.lock().unwrap();
        let (_, _, read, reports) = log.last_mut().expect("nothing is reported before it is announced");
        *read += bytes;
        *reports += 1;
    }
}

impl Log {
    /// The stages by name and bytes; each was reported to its end, and in more than one report.
    fn stages(self) -> Vec<(&'static str, u64)> {
        let log = self.0.into_inner().unwrap();
        for (what, bytes, read, reports) in &log {
            assert_eq!(bytes, read, "{what}");
            assert!(*reports > 1, "{what}: {reports}");
        }
        log.into_iter().map(|(what, bytes, ..)| (what, bytes)).collect()
    }
}

fn tensor_bytes(dir: &std::path::Path, is: impl Fn(&str) -> bool) -> u64 {
    let folder = Folder::read(dir);
    let tensors = folder.shards.values().flatten().filter(|(name, _)| is(name));
    tensors.map(|(_, tensor)| tensor.bytes.len() as u64).sum()
}

#[test]
fn verify_reports_every_byte_of_the_result() {
    for base in [Base::Block, Base::Searched, Base::Shifted, Base::Nvfp4] {
        let log = Log::default();
        verify(base.dir(), Some(&source()), &[], &log).unwrap();
        assert_eq!(log.stages(), [("comparing with the source", tensor_bytes(base.dir(), |_| true))], "{base:?}");
    }
    // Without a source the weights alone, with all that belongs to them.
    let log = Log::default();
    verify(Base::Block.dir(), None, &[], &log).unwrap();
    let quantized = |name: &str| name.contains("language_model.layers") && name.contains("_proj.");
    assert_eq!(log.stages(), [("decoding", tensor_bytes(Base::Block.dir(), quantized))]);
}

#[test]
fn weights_that_pass_through_or_are_read_twice_are_counted_once() {
    let root = tempfile::tempdir().unwrap();
    let (passed, twice) = (root.path().join("passed"), root.path().join("twice"));
    apply("format: fp8\nscheme: PASSTHROUGH\ntargets: Linear\n", Base::Block.dir(), &passed);
    Folder::read(&passed).write(&twice);
    let mut folder = Folder::read(&twice);
    // Codes and scales of one weight differ, so that it is taken for one that was quantized again.
    let module = "model.language_model.layers.0.mlp.up_proj";
    folder.tensor(&format!("{module}.weight")).bytes[3] ^= 1;
    folder.tensor(&format!("{module}.weight_scale_inv")).bytes[0] ^= 1;
    folder.others.remove("qwen-fp8-manifest.json");
    folder.write(&twice);
    std::fs::remove_file(twice.join("qwen-fp8-manifest.json")).unwrap();
    for dir in [passed, twice] {
        let log = Log::default();
        verify(&dir, Some(Base::Block.dir()), &[], &log).unwrap();
        assert_eq!(log.stages(), [("comparing with the source", tensor_bytes(&dir, |_| true))]);
    }
}

#[test]
fn lint_reports_the_scales_and_the_manifest_every_file() {
    let log = Log::default();
    lint(Base::Block.dir(), &log).unwrap();
    let scales = tensor_bytes(Base::Block.dir(), |name| name.ends_with("_scale_inv"));
    assert_eq!(log.stages(), [("reading scales", scales)]);

    let log = Log::default();
    let manifest = Manifest::read(Base::Block.dir()).unwrap();
    assert_eq!(manifest.check(Base::Block.dir(), &log), []);
    let bytes = manifest.files.iter().map(|file| file.size).sum();
    assert_eq!(log.stages(), [("comparing with the checksums of the manifest", bytes)]);
}

#[test]
fn diff_reports_the_tensors_of_both_sides() {
    for (a, b) in [(source(), Base::Block.dir()), (Base::Block.dir().to_owned(), Base::Block.dir())] {
        let log = Log::default();
        diff(&a, b, &log).unwrap();
        let bytes = [a.as_path(), b].map(|dir| tensor_bytes(dir, |_| true)).iter().sum();
        assert_eq!(log.stages(), [("comparing", bytes)]);
    }
    // Tensors of other names are read once more, to see which they are.
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(&source());
    let names = ["q_norm", "k_norm"].map(|norm| format!("model.language_model.layers.1.self_attn.{norm}.weight"));
    let mut bytes = 0;
    for (index, name) in names.iter().enumerate() {
        bytes += folder.tensor(name).bytes.len() as u64;
        folder.rename(name, &format!("other.{index}.weight"));
    }
    folder.write(dir.path());
    let log = Log::default();
    diff(&source(), dir.path(), &log).unwrap();
    assert_eq!(log.stages()[0], ("looking for renamed tensors", 2 * bytes));
}
