//! `diff` between results, their source, and spoilt copies.

use qwen_fp8::check::diff;
use serde_json::json;

use crate::support::folder::{Base, Folder, source};

const Q: &str = "model.language_model.layers.1.self_attn.q_proj.weight";

#[test]
fn a_checkpoint_is_the_same_as_itself() {
    for dir in [source().as_path(), Base::Block.dir()] {
        let same = diff(dir, dir, &()).unwrap();
        assert!(same.same && same.changed.is_empty() && same.config.is_empty());
        assert_eq!(same.identical, 70);
    }
}

#[test]
fn a_result_differs_from_its_source_by_rounding() {
    let result = diff(&source(), Base::Block.dir(), &()).unwrap();
    assert_eq!((result.identical, result.changed.len()), (56, 14));
    assert!(result.only_in_a.is_empty() && result.only_in_b.is_empty() && result.renamed.is_empty());
    for tensor in &result.changed {
        let figures = tensor.figures.unwrap();
        assert!((0.02..0.03).contains(&figures.relative_error), "{tensor:?}");
        assert_eq!((tensor.a.form.as_str(), tensor.b.form.as_str()), ("BF16", "F8_E4M3, blocks of 128 × 128"));
    }
    assert_eq!(result.config.len(), 1);
    assert_eq!(result.config[0].pointer, "/quantization_config");
    // The other way round the figures are those of the same differences.
    let back = diff(Base::Block.dir(), &source(), &()).unwrap();
    for (a, b) in result.changed.iter().zip(&back.changed) {
        assert_eq!(a.figures.unwrap().max_error, b.figures.unwrap().max_error);
    }
}

#[test]
fn a_changed_layer_is_found_with_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(&source());
    // BF16: one less in the exponent's lowest place halves a normal number.
    for element in folder.tensor(Q).bytes.as_chunks_mut::<2>().0 {
        let bits = u16::from_le_bytes(*element);
        if bits & 0x7F80 > 0x80 {
            *element = (bits - 0x80).to_le_bytes();
        }
    }
    folder.config["text_config"]["rope_theta"] = json!(7);
    folder.write(dir.path());
    let found = diff(&source(), dir.path(), &()).unwrap();
    assert_eq!(found.changed.len(), 1);
    let figures = found.changed[0].figures.unwrap();
    assert_eq!(found.changed[0].name, Q);
    assert!((figures.relative_error - 0.5).abs() < 1e-6 && figures.cosine > 0.999_999);
    assert_eq!((found.layers.len(), found.layers[0].layer, found.layers[0].changed), (1, 1, 1));
    let kind = found.kinds.iter().find(|kind| kind.kind == "q_proj").unwrap();
    assert_eq!((kind.tensors, kind.changed), (2, 1));
    assert_eq!(found.config.len(), 1);
    assert_eq!(found.config[0].pointer, "/text_config/rope_theta");
    // Against the FP8 form of the original, the change is still there.
    let across = diff(Base::Block.dir(), dir.path(), &()).unwrap();
    let change = across.changed.iter().find(|tensor| tensor.name == Q).unwrap().figures.unwrap();
    assert!((change.relative_error - 0.5).abs() < 0.01);
}

#[test]
fn missing_extra_and_renamed_tensors_are_distinguished() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(&source());
    folder.remove("model.language_model.norm.weight");
    let norm = folder.tensor("model.visual.merger.norm.weight").clone();
    folder.add("model.new.weight", norm);
    // By the name that a language model alone has.
    folder.rename(Q, "model.layers.1.self_attn.q_proj.weight");
    // By content, under a name that says nothing.
    folder.rename("model.visual.pos_embed.weight", "model.positions");
    folder.write(dir.path());
    let found = diff(&source(), dir.path(), &()).unwrap();
    assert!(!found.same && found.changed.is_empty());
    let names = |tensors: &[qwen_fp8::check::DescribedTensor]| {
        tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&found.only_in_a), ["model.language_model.norm.weight"]);
    assert_eq!(names(&found.only_in_b), ["model.new.weight"]);
    let renamed: Vec<_> = found.renamed.iter().map(|renamed| (renamed.a.as_str(), renamed.b.as_str())).collect();
    assert_eq!(
        renamed,
        [(Q, "model.layers.1.self_attn.q_proj.weight"), ("model.visual.pos_embed.weight", "model.positions")]
    );
}
