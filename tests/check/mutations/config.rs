//! config.json: the list of what stays, and what else it declares.

use super::*;

pub(super) static MUTATIONS: &[Mutation] = &[
    content("a list entry removed", Base::Block, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| list.retain(|name| name != QKV));
    }),
    content("a list entry removed, compressed-tensors", Base::Channel, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| list.retain(|name| name != QKV));
    }),
    content("a list entry misspelt", Base::Block, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| {
            list.iter_mut().filter(|name| **name == QKV).for_each(|name| *name = json!(format!("{QKV}s")))
        });
    }),
    content("a cache of integers", Base::Channel, "Q104", STRUCTURE, |folder| {
        let scheme = json!({ "num_bits": 8, "type": "int", "symmetric": true, "strategy": "tensor" });
        folder.quantization()["kv_cache_scheme"] = scheme;
    }),
    content("a cache with a scale per token", Base::Channel, "Q104", STRUCTURE, |folder| {
        let scheme = json!({ "num_bits": 8, "type": "float", "symmetric": true, "strategy": "token" });
        folder.quantization()["kv_cache_scheme"] = scheme;
    }),
    content("a list entry for a quantized layer", Base::Block, "Q201", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!(DOWN)));
    }),
    content("a list entry for nothing", Base::Block, "Q206", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!("model.language_model.layers.7.mlp.down_proj")));
    }),
    content("a list entry that is a number", Base::Block, "Q209", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!(7)))
    }),
    content("a prefix for the vision tower", Base::Block, "Q203", STRUCTURE, |folder| {
        list_vision_as(folder, "model.visual")
    }),
    content("a prefix, compressed-tensors", Base::Channel, "Q203", STRUCTURE, |folder| {
        list_vision_as(folder, "model.visual")
    }),
    content("a regex where none is read", Base::Block, "Q204", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*visual.*")
    }),
    content("a regex over the file's names", Base::Channel, "Q205", STRUCTURE, |folder| {
        list_vision_as(folder, "re:model.visual.*")
    }),
    content("a regex that does not parse", Base::Channel, "Q209", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*(visual")
    }),
    content("a regex that only vLLM reads", Base::Channel, "Q212", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*(?i)VISUAL.*")
    }),
    content("a regex that vLLM reads otherwise", Base::Channel, "Q212", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*visua[[:alpha:]].*")
    }),
    content("a regex that takes in quantized layers", Base::Channel, "Q201", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!("re:.*down_proj")));
    }),
    content("lists that differ", Base::Block, "Q106", STRUCTURE, |folder| {
        folder.quantization()["modules_to_not_convert"].as_array_mut().unwrap().pop();
    }),
    content("another block size", Base::Block, "Q304", STRUCTURE, |folder| {
        folder.quantization()["weight_block_size"] = json!([64, 128]);
    }),
    content("no block size", Base::Block, "Q304", STRUCTURE, |folder| {
        folder.quantization().remove("weight_block_size");
    }),
    content("a block size of zero", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization()["weight_block_size"] = json!([0, 128]);
    }),
    content("no `activation_scheme`", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization().remove("activation_scheme");
    }),
    content("static activations with blocks", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization()["activation_scheme"] = json!("static");
    }),
    content("another `fmt`", Base::Block, "Q104", STRUCTURE, |folder| folder.quantization()["fmt"] = json!("e5m2")),
    content("no `quant_method`", Base::Block, "Q104", STRUCTURE, |folder| {
        drop(folder.quantization().remove("quant_method"))
    }),
    content("another `quant_method`", Base::Block, "Q102", STRUCTURE, |folder| {
        folder.quantization()["quant_method"] = json!("fbgemm_fp8");
    }),
    content("a `quantization_config` that is text", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.config["quantization_config"] = json!("fp8");
    }),
    files("a number in it that no machine holds", "Q104", STRUCTURE, |dir| {
        edit_bytes(&dir.join("config.json"), |text| {
            let edited = String::from_utf8_lossy(text).replace("\"fmt\":", "\"x\":1e999,\"fmt\":");
            *text = edited.into_bytes();
        });
    }),
    content("no `quantization_config`", Base::Block, "Q101", STRUCTURE, |folder| {
        folder.config.remove("quantization_config");
    }),
    content("a status that is not `compressed`", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["quantization_status"] = json!("frozen");
    }),
    content("no groups", Base::Channel, "Q104", STRUCTURE, |folder| folder.quantization()["config_groups"] = json!({})),
    content("a group without targets", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["targets"] = json!([]);
    }),
    content("a group with other targets", Base::Channel, "Q210", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["targets"] = json!(["re:.*self_attn.*"]);
    }),
    content("another strategy", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["strategy"] = json!("tensor");
    }),
    content("asymmetric weights", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["symmetric"] = json!(false);
    }),
    content("another number of bits", Base::Channel, "Q102", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["num_bits"] = json!(4);
    }),
    content("a key of the model changed", Base::Block, "Q508", CONTENT, |folder| {
        folder.config["text_config"]["rms_norm_eps"] = json!(1e-5);
    }),
    content("a key of the model lost", Base::Block, "Q508", CONTENT, |folder| {
        drop(folder.config.remove("image_token_id"))
    }),
];
