//! Integers, microscaled floats and NVFP4: codes in nibbles and words, zero points, exponents and global scales.

use super::*;

fn packed(module: &str) -> String {
    format!("{module}.weight_packed")
}

fn zero_point(module: &str) -> String {
    format!("{module}.weight_zero_point")
}

fn weight_shape(module: &str) -> String {
    format!("{module}.weight_shape")
}

fn global(module: &str) -> String {
    format!("{module}.weight_global_scale")
}

fn of_inputs(module: &str) -> String {
    format!("{module}.input_global_scale")
}

/// The lowest bit of the first element, in the middle of the tensor.
fn flip(folder: &mut Folder, name: &str, bit: u8) {
    let bytes = &mut folder.tensor(name).bytes;
    let at = bytes.len() / 2 / 4 * 4;
    bytes[at] ^= bit;
}

fn set_weights(folder: &mut Folder, key: &str, value: Value) {
    folder.quantization()["config_groups"]["group_0"]["weights"][key] = value;
}

fn set_shape(folder: &mut Folder, shape: [i64; 2]) {
    folder.tensor(&weight_shape(UP)).bytes = shape.map(i64::to_le_bytes).concat();
}

fn set_global(folder: &mut Folder, value: f32) {
    folder.tensor(&global(UP)).bytes = value.to_le_bytes().to_vec();
}

/// Exchanges the first two elements of so many bytes.
fn exchange(folder: &mut Folder, name: &str, width: usize) {
    let bytes = &mut folder.tensor(name).bytes;
    let (a, b) = bytes.split_at_mut(width);
    assert_ne!(a[..width], b[..width]);
    a[..width].swap_with_slice(&mut b[..width]);
}

fn lose(folder: &mut Folder, module: &str) {
    for tensors in folder.shards.values_mut() {
        tensors.retain(|name, _| !name.starts_with(&format!("{module}.")));
    }
}

pub(super) static MUTATIONS: &[Mutation] = &[
    // A byte for an integer.
    content("an integer one off", Base::Int8, "Q502", CONTENT, |folder| flip(folder, &weight(Q), 1)),
    content("the sign of an integer", Base::Int8, "Q502", CONTENT, |folder| flip(folder, &weight(Q), 0x80)),
    content("the lowest bit of the scale of integers", Base::Int8, "Q506", CONTENT, |folder| {
        flip(folder, &scale(UP), 1)
    }),
    content("two scales of integers exchanged", Base::Int8, "Q502", CONTENT, |folder| exchange(folder, &scale(UP), 2)),
    content("a scale of zero for integers", Base::Int8, "Q401", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).bytes[..2].fill(0);
    }),
    content("a lost scale of integers", Base::Int8, "Q301", STRUCTURE, |folder| drop(folder.remove(&scale(UP)))),
    content("integers of another sign", Base::Int8, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "U8".to_owned();
    }),
    content("integers called FP8", Base::Int8, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "F8_E4M3".to_owned();
    }),
    content("fewer bits than the integers have", Base::Int8, "Q402", CONTENT, |folder| {
        set_weights(folder, "num_bits", json!(4));
    }),
    content("integers declared as floats", Base::Int8, "Q102", STRUCTURE, |folder| {
        set_weights(folder, "type", json!("float"));
    }),
    content("zero points that are not there", Base::Int8, "Q313", STRUCTURE, |folder| {
        set_weights(folder, "symmetric", json!(false));
    }),
    content("a scale per row called groups", Base::Int8, "Q304", STRUCTURE, |folder| {
        set_weights(folder, "strategy", json!("group"));
        set_weights(folder, "group_size", json!(128));
    }),
    content("integers whose activations are FP4", Base::Int8, "Q104", STRUCTURE, |folder| {
        let inputs = &mut folder.quantization()["config_groups"]["group_0"]["input_activations"];
        (inputs["type"], inputs["num_bits"]) = (json!("float"), json!(4));
    }),
    // Integers of four bits in a byte, with zero points.
    content("an integer of five bits", Base::Int4, "Q402", CONTENT, |folder| {
        folder.tensor(&weight(UP)).bytes[700] = 8;
    }),
    content("a zero point of five bits", Base::Int4, "Q404", STRUCTURE, |folder| {
        folder.tensor(&zero_point(UP)).bytes[7] = 0xF7;
    }),
    content("a zero point one off", Base::Int4, "Q502", CONTENT, |folder| flip(folder, &zero_point(UP), 1)),
    content("a scale of integers with zero points", Base::Int4, "Q506", CONTENT, |folder| flip(folder, &scale(O), 1)),
    content("lost zero points", Base::Int4, "Q313", STRUCTURE, |folder| drop(folder.remove(&zero_point(DOWN)))),
    // Integers in words.
    content("the lowest bit of a nibble", Base::Packed, "Q502", CONTENT, |folder| flip(folder, &packed(Q), 1)),
    content("the highest bit of a nibble", Base::Packed, "Q502", CONTENT, |folder| flip(folder, &packed(K), 0x80)),
    content("nibbles in the other order", Base::Packed, "Q502", CONTENT, |folder| {
        folder.tensor(&packed(UP)).bytes.iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
    }),
    content("words of two layers exchanged", Base::Packed, "Q502", CONTENT, |folder| {
        folder.swap(&packed(UP), &packed("model.language_model.layers.0.mlp.gate_proj"));
    }),
    content("a scale of packed integers", Base::Packed, "Q506", CONTENT, |folder| flip(folder, &scale(UP), 1)),
    content("two groups' scales exchanged", Base::Packed, "Q502", CONTENT, |folder| exchange(folder, &scale(UP), 2)),
    content("a negative scale of packed integers", Base::Packed, "Q401", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).bytes[1] |= 0x80;
    }),
    content("a transposed `weight_shape`", Base::Packed, "Q315", STRUCTURE, |folder| set_shape(folder, [256, 384])),
    content("a row too many in `weight_shape`", Base::Packed, "Q315", STRUCTURE, |folder| {
        set_shape(folder, [385, 256])
    }),
    content("a column too few in `weight_shape`", Base::Packed, "Q304", STRUCTURE, |folder| {
        set_shape(folder, [384, 255]);
    }),
    content("a negative `weight_shape`", Base::Packed, "Q315", STRUCTURE, |folder| set_shape(folder, [384, -256])),
    content("a huge `weight_shape`", Base::Packed, "Q315", STRUCTURE, |folder| set_shape(folder, [384, i64::MAX])),
    content("a lost `weight_shape`", Base::Packed, "Q313", STRUCTURE, |folder| drop(folder.remove(&weight_shape(UP)))),
    content("a `weight_shape` of other integers", Base::Packed, "Q314", STRUCTURE, |folder| {
        let tensor = folder.tensor(&weight_shape(UP));
        tensor.dtype = "I32".to_owned();
        tensor.bytes = [384i32, 256].map(i32::to_le_bytes).concat();
    }),
    content("a lost scale of packed integers", Base::Packed, "Q301", STRUCTURE, |folder| {
        drop(folder.remove(&scale(K)))
    }),
    content("lost words, the rest left", Base::Packed, "Q302", STRUCTURE, |folder| drop(folder.remove(&packed(O)))),
    content("a lost packed layer", Base::Packed, "Q503", CONTENT, |folder| lose(folder, O)),
    content("a lost half of a merged packed layer", Base::Packed, "Q311", STRUCTURE, |folder| lose(folder, UP)),
    content("an extra packed layer", Base::Packed, "Q504", CONTENT, |folder| {
        for suffix in ["weight_packed", "weight_scale", "weight_shape"] {
            let tensor = folder.tensor(&format!("{O}.{suffix}")).clone();
            folder.add(&format!("model.language_model.layers.0.self_attn.r_proj.{suffix}"), tensor);
        }
    }),
    content("a BF16 weight beside the words", Base::Packed, "Q302", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        folder.add(&weight(O), original.tensor(&weight(O)).clone());
    }),
    content("zero points that nothing declares", Base::Packed, "Q307", STRUCTURE, |folder| {
        let tensor = Tensor { dtype: "I32".to_owned(), shape: vec![48, 2], bytes: vec![0x88; 48 * 2 * 4] };
        folder.add(&zero_point(UP), tensor);
    }),
    content("smaller groups", Base::Packed, "Q304", STRUCTURE, |folder| {
        set_weights(folder, "group_size", json!(64));
    }),
    content("larger groups", Base::Packed, "Q304", STRUCTURE, |folder| set_weights(folder, "group_size", json!(256))),
    content("groups of nothing", Base::Packed, "Q104", STRUCTURE, |folder| set_weights(folder, "group_size", json!(0))),
    content("more bits than the words have", Base::Packed, "Q315", STRUCTURE, |folder| {
        set_weights(folder, "num_bits", json!(8));
    }),
    content("bits beyond a byte", Base::Packed, "Q102", STRUCTURE, |folder| set_weights(folder, "num_bits", json!(9))),
    content("words declared as bytes", Base::Packed, "Q306", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["format"] = json!("int-quantized");
    }),
    content("columns in another order", Base::Packed, "Q102", STRUCTURE, |folder| {
        set_weights(folder, "actorder", json!("group"));
    }),
    content("a packed layer that is listed", Base::Packed, "Q201", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!(O)));
    }),
    // Zero points in words.
    content("a bit of a packed zero point", Base::Shifted, "Q502", CONTENT, |folder| flip(folder, &zero_point(UP), 1)),
    content("packed zero points exchanged", Base::Shifted, "Q502", CONTENT, |folder| {
        exchange(folder, &zero_point(UP), 4);
    }),
    content("the zero points of another layer", Base::Shifted, "Q502", CONTENT, |folder| {
        folder.swap(&zero_point(UP), &zero_point("model.language_model.layers.0.mlp.gate_proj"));
    }),
    content("a nibble under a zero point", Base::Shifted, "Q502", CONTENT, |folder| flip(folder, &packed(UP), 1)),
    content("a scale with a zero point", Base::Shifted, "Q506", CONTENT, |folder| flip(folder, &scale(UP), 1)),
    content("lost packed zero points", Base::Shifted, "Q313", STRUCTURE, |folder| drop(folder.remove(&zero_point(Q)))),
    content("zero points as bytes", Base::Shifted, "Q314", STRUCTURE, |folder| {
        let tensor = folder.tensor(&zero_point(UP));
        (tensor.dtype, tensor.shape[1]) = ("I8".to_owned(), tensor.shape[1] * 4);
    }),
    content("transposed zero points", Base::Shifted, "Q314", STRUCTURE, |folder| {
        folder.tensor(&zero_point(UP)).shape.reverse();
    }),
    content("zero points called symmetric", Base::Shifted, "Q307", STRUCTURE, |folder| {
        set_weights(folder, "symmetric", json!(true));
    }),
    // Microscaled floats.
    content("a microscaled code one off", Base::Mxfp8, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(Q));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 1;
    }),
    content("a microscaled NaN", Base::Mxfp8, "Q402", CONTENT, |folder| folder.tensor(&weight(V)).bytes[77] = 0x7F),
    content("an exponent one up", Base::Mxfp8, "Q506", CONTENT, |folder| folder.tensor(&scale(UP)).bytes[9] += 1),
    content("an exponent one down", Base::Mxfp8, "Q502", CONTENT, |folder| folder.tensor(&scale(UP)).bytes[9] -= 1),
    content("an exponent that is NaN", Base::Mxfp8, "Q401", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).bytes[9] = 255;
    }),
    content("exponents of another dtype", Base::Mxfp8, "Q305", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).dtype = "F8_E8M0".to_owned();
    }),
    content("exponents that are missing", Base::Mxfp8, "Q301", STRUCTURE, |folder| drop(folder.remove(&scale(UP)))),
    content("microscaled groups of 16", Base::Mxfp8, "Q104", STRUCTURE, |folder| {
        set_weights(folder, "group_size", json!(16));
    }),
    content("microscaled weights called FP8", Base::Mxfp8, "Q102", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["format"] = json!("float-quantized");
    }),
    content("microscaled weights without a `scale_dtype`", Base::Mxfp8, "Q102", STRUCTURE, |folder| {
        set_weights(folder, "scale_dtype", Value::Null);
    }),
    content("the lowest bit of an E2M3 code", Base::Mxfp6, "Q502", CONTENT, |folder| flip(folder, &packed(Q), 1)),
    content("E2M3 codes in the other order of bytes", Base::Mxfp6, "Q502", CONTENT, |folder| {
        folder.tensor(&packed(UP)).bytes.as_chunks_mut::<3>().0.iter_mut().for_each(|four| four.reverse());
    }),
    content("an exponent of E2M3 one up", Base::Mxfp6, "Q506", CONTENT, |folder| {
        folder.tensor(&scale(UP)).bytes[9] += 1
    }),
    content("E2M3 codes without their last three bytes", Base::Mxfp6, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&packed(UP));
        let rows = tensor.shape[0];
        let row = tensor.bytes.len() / rows;
        tensor.bytes = tensor.bytes.chunks(row).flat_map(|bytes| &bytes[..row - 3]).copied().collect();
        tensor.shape[1] -= 3;
    }),
    content("the lowest bit of an E2M1 code", Base::Mxfp4, "Q502", CONTENT, |folder| flip(folder, &packed(Q), 1)),
    content("E2M1 codes in the other order", Base::Mxfp4, "Q502", CONTENT, |folder| {
        folder.tensor(&packed(UP)).bytes.iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
    }),
    content("an exponent of E2M1 one up", Base::Mxfp4, "Q506", CONTENT, |folder| {
        folder.tensor(&scale(UP)).bytes[9] += 1;
    }),
    content("exponents of two groups", Base::Mxfp4, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale(UP)).bytes;
        let at = bytes.windows(2).position(|pair| pair[0] != pair[1]).unwrap();
        bytes.swap(at, at + 1);
    }),
    content("E2M1 codes as signed bytes", Base::Mxfp4, "Q306", STRUCTURE, |folder| {
        folder.tensor(&packed(UP)).dtype = "I8".to_owned();
    }),
    content("microscaled parts of one layer declared apart", Base::Mxfp4, "Q202", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        lose(folder, UP);
        folder.add(&weight(UP), original.tensor(&weight(UP)).clone());
    }),
    // NVFP4.
    content("a code under two scales", Base::Nvfp4, "Q502", CONTENT, |folder| flip(folder, &packed(Q), 1)),
    content("the lowest bit of an E4M3 scale", Base::Nvfp4, "Q506", CONTENT, |folder| flip(folder, &scale(UP), 1)),
    content("two E4M3 scales exchanged", Base::Nvfp4, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale(UP)).bytes;
        let at = bytes.windows(2).position(|pair| pair[0].abs_diff(pair[1]) > 3).unwrap();
        bytes.swap(at, at + 1);
    }),
    content("an E4M3 scale that is NaN", Base::Nvfp4, "Q401", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).bytes[3] = 0x7F;
    }),
    content("an E4M3 scale of zero", Base::Nvfp4, "Q401", STRUCTURE, |folder| folder.tensor(&scale(UP)).bytes[3] = 0),
    content("a negative E4M3 scale", Base::Nvfp4, "Q401", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).bytes[3] |= 0x80;
    }),
    content("E4M3 scales as bytes", Base::Nvfp4, "Q305", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).dtype = "U8".to_owned();
    }),
    content("the lowest bit of a global scale", Base::Nvfp4, "Q506", CONTENT, |folder| {
        folder.tensor(&global(UP)).bytes[2] ^= 1;
    }),
    content("a global scale apart from its partner's", Base::Nvfp4, "Q405", STRUCTURE, |folder| {
        set_global(folder, 2688.0);
    }),
    content("the global scale of another layer", Base::Nvfp4, "Q502", CONTENT, |folder| {
        folder.swap(&global(O), &global(DOWN));
    }),
    content("a global scale of zero", Base::Nvfp4, "Q401", STRUCTURE, |folder| set_global(folder, 0.0)),
    content("a global scale that is infinite", Base::Nvfp4, "Q401", STRUCTURE, |folder| {
        set_global(folder, f32::INFINITY);
    }),
    content("a lost global scale", Base::Nvfp4, "Q313", STRUCTURE, |folder| drop(folder.remove(&global(V)))),
    content("a global scale for each of two", Base::Nvfp4, "Q314", STRUCTURE, |folder| {
        let tensor = folder.tensor(&global(UP));
        tensor.shape = vec![2];
        tensor.bytes = tensor.bytes.repeat(2);
    }),
    content("a global scale for activations that are kept", Base::Nvfp4, "Q307", STRUCTURE, |folder| {
        let tensor = folder.tensor(&global(UP)).clone();
        folder.add(&format!("{UP}.input_global_scale"), tensor);
    }),
    content("NVFP4 in groups of 32", Base::Nvfp4, "Q104", STRUCTURE, |folder| {
        set_weights(folder, "group_size", json!(32));
    }),
    // NVFP4 with quantized activations.
    content("a scale of activations that nobody gave", Base::Nvfp4Inputs, "Q506", CONTENT, |folder| {
        folder.tensor(&of_inputs(DOWN)).bytes = 448f32.to_le_bytes().to_vec();
    }),
    content("the lowest bit of a scale of activations", Base::Nvfp4Inputs, "Q506", CONTENT, |folder| {
        folder.tensor(&of_inputs(O)).bytes[0] ^= 1;
    }),
    content("a scale of activations apart from its partner's", Base::Nvfp4Inputs, "Q405", STRUCTURE, |folder| {
        folder.tensor(&of_inputs(UP)).bytes = 2f32.to_le_bytes().to_vec();
    }),
    content("an infinite scale of activations", Base::Nvfp4Inputs, "Q401", STRUCTURE, |folder| {
        folder.tensor(&of_inputs(DOWN)).bytes = f32::INFINITY.to_le_bytes().to_vec();
    }),
    content("a lost scale of activations", Base::Nvfp4Inputs, "Q313", STRUCTURE, |folder| {
        drop(folder.remove(&of_inputs(V)));
    }),
    content("a scale of activations for each of two", Base::Nvfp4Inputs, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&of_inputs(DOWN));
        tensor.shape = vec![2];
        tensor.bytes = tensor.bytes.repeat(2);
    }),
    content("a scale of activations as an integer", Base::Nvfp4Inputs, "Q305", STRUCTURE, |folder| {
        folder.tensor(&of_inputs(DOWN)).dtype = "I32".to_owned();
    }),
    content(
        "scales of activations that config.json does not quantize",
        Base::Nvfp4Inputs,
        "Q307",
        STRUCTURE,
        |folder| {
            folder.quantization()["config_groups"]["group_0"]["input_activations"] = Value::Null;
        },
    ),
    content("the global scale of weights for that of activations", Base::Nvfp4Inputs, "Q506", CONTENT, |folder| {
        folder.swap(&global(DOWN), &of_inputs(DOWN));
    }),
    // Several forms in one checkpoint.
    content("a nibble of one form", Base::Mixed, "Q502", CONTENT, |folder| flip(folder, &packed(Q), 1)),
    content("a nibble of the other form", Base::Mixed, "Q502", CONTENT, |folder| flip(folder, &packed(UP), 1)),
    content("the formats of two groups exchanged", Base::Mixed, "Q102", STRUCTURE, |folder| {
        let groups = &mut folder.quantization()["config_groups"];
        let (a, b) = (groups["group_0"]["format"].clone(), groups["group_1"]["format"].clone());
        (groups["group_0"]["format"], groups["group_1"]["format"]) = (b, a);
    }),
    content("a layer in the wrong group", Base::Mixed, "Q306", STRUCTURE, |folder| {
        let groups = &mut folder.quantization()["config_groups"];
        for (group, is_due) in [("group_0", true), ("group_1", false)] {
            let targets = groups[group]["targets"].as_array_mut().unwrap();
            targets.retain(|target| *target != O);
            targets.extend(is_due.then(|| json!(O)));
        }
    }),
    content("a layer in no group", Base::Mixed, "Q210", STRUCTURE, |folder| {
        for group in ["group_0", "group_1"] {
            let targets = folder.quantization()["config_groups"][group]["targets"].as_array_mut().unwrap();
            targets.retain(|target| *target != O);
        }
    }),
    content("a group without its format", Base::Mixed, "Q104", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_1"]["format"] = Value::Null;
    }),
];
