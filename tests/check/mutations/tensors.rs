//! Tensors that are lost, added, renamed or of another form.

use super::*;

pub(super) static MUTATIONS: &[Mutation] = &[
    content("a lost norm", Base::Block, "Q503", CONTENT, |folder| drop(folder.remove(NORM))),
    content("a lost bias", Base::Block, "Q503", CONTENT, |folder| drop(folder.remove(&format!("{QKV}.bias")))),
    content("a lost weight, its scale left", Base::Block, "Q302", STRUCTURE, |folder| drop(folder.remove(&weight(O)))),
    content("a lost weight and its scale", Base::Block, "Q503", CONTENT, |folder| {
        folder.remove(&weight(O));
        folder.remove(&scale_inv(O));
    }),
    content("one of k and v lost", Base::Block, "Q311", STRUCTURE, |folder| {
        folder.remove(&weight(V));
        folder.remove(&scale_inv(V));
    }),
    content("a lost layer", Base::Block, "Q312", STRUCTURE, |folder| {
        for tensors in folder.shards.values_mut() {
            tensors.retain(|name, _| !name.contains("language_model.layers.1."));
        }
    }),
    content("a lost head", Base::Block, "Q310", STRUCTURE, |folder| drop(folder.remove("lm_head.weight"))),
    content("a lost scale", Base::Block, "Q301", STRUCTURE, |folder| drop(folder.remove(&scale_inv(DOWN)))),
    content("the lost scale of one of q, k and v", Base::Channel, "Q301", STRUCTURE, |folder| {
        folder.remove(&scale(K));
    }),
    content("an extra tensor", Base::Block, "Q504", CONTENT, |folder| {
        let norm = folder.tensor(NORM).clone();
        folder.add("model.language_model.extra.weight", norm);
    }),
    content("an extra scale on a layer that stays", Base::Block, "Q302", STRUCTURE, |folder| {
        let scale = folder.tensor(&scale_inv(Q)).clone();
        folder.add(&scale_inv(QKV), scale);
    }),
    content("a scale under both names", Base::Block, "Q307", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale_inv(Q)).clone();
        folder.add(&scale(Q), tensor);
    }),
    content("an input scale though activations are dynamic", Base::Channel, "Q307", STRUCTURE, |folder| {
        let tensor = Tensor { dtype: "F32".to_owned(), shape: vec![1], bytes: 1f32.to_le_bytes().to_vec() };
        folder.add(&format!("{Q}.input_scale"), tensor);
    }),
    content("a renamed tensor", Base::Block, "Q503", CONTENT, |folder| {
        folder.rename(NORM, "model.language_model.norm_.weight")
    }),
    content("`weight_scale` for `weight_scale_inv`", Base::Block, "Q303", STRUCTURE, |folder| {
        folder.rename(&scale_inv(Q), &scale(Q));
    }),
    content("`weight_scale_inv` for `weight_scale`", Base::Channel, "Q303", STRUCTURE, |folder| {
        folder.rename(&scale(Q), &scale_inv(Q));
    }),
    content("a weight of another FP8", Base::Block, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "F8_E5M2".to_owned();
    }),
    content("a weight as plain bytes", Base::Channel, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "U8".to_owned();
    }),
    content("a copied tensor of another dtype", Base::Block, "Q505", CONTENT, |folder| {
        folder.tensor(NORM).dtype = "F16".to_owned();
    }),
    content("a copied tensor of another shape", Base::Block, "Q505", CONTENT, |folder| {
        folder.tensor(&weight(QKV)).shape.reverse();
    }),
    content("a scale of integers", Base::Block, "Q305", STRUCTURE, |folder| {
        folder.tensor(&scale_inv(UP)).dtype = "I16".to_owned();
    }),
    content("a scale read as F16", Base::Block, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(UP)).dtype = "F16".to_owned();
    }),
    content("a transposed scale", Base::Block, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale_inv(UP));
        assert_ne!(tensor.shape[0], tensor.shape[1]);
        tensor.shape.reverse();
    }),
    content("a transposed weight", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).shape.reverse();
    }),
    content("a flat scale per row", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).shape.pop();
    }),
    content("a scale that is too short", Base::Channel, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale(UP));
        tensor.shape[0] -= 1;
        tensor.bytes.truncate(tensor.shape[0] * 2);
    }),
    content("a weight that was not quantized", Base::Block, "Q202", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        *folder.tensor(&weight(DOWN)) = original.tensor(&weight(DOWN)).clone();
        folder.remove(&scale_inv(DOWN));
    }),
    content("one of q, k and v left out and listed", Base::Block, "Q207", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        *folder.tensor(&weight(Q)) = original.tensor(&weight(Q)).clone();
        folder.remove(&scale_inv(Q));
        folder.edit_list(|list| list.push(json!(Q)));
    }),
    content("no tensor quantized", Base::Block, "Q103", STRUCTURE, |folder| {
        folder.shards = Folder::read(&source()).shards;
    }),
];
