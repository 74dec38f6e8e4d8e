//! A declaration that is not the one of the tensors.

use serde_json::{Map, Value, json};

use super::super::fixture::holder;
use super::super::layout::Form;
use super::{By, Mutation, content, declare};

/// The keys under which lists stand.
const LISTS: [&str; 4] = ["modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"];

pub(super) const MUTATIONS: &[Mutation] = &[
    content("quantization_config missing", &["Q101"], By::Lint, |fixture, folder| {
        folder.others.remove("hf_quant_config.json");
        holder(&mut folder.config, fixture.layout.in_text_config).remove("quantization_config");
        Some(())
    }),
    content("quant_method missing", &["Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| map.remove("quant_method").map(drop))
    }),
    content("quant_method of another", &["Q102", "Q103", "Q104", "Q301", "Q306"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| {
            let method = map.get_mut("quant_method")?;
            *method = if *method == "fp8" { json!("compressed-tensors") } else { json!("fp8") };
            Some(())
        })
    }),
    content("quant_method misspelt", &["Q102", "Q104"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| map.get_mut("quant_method").map(|method| *method = json!("fp9")))
    }),
    content("block size missing", &["Q304", "Q303"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            map.get("weight_block_size").filter(|sides| **sides == json!([128, 128]))?;
            map.remove("weight_block_size").map(drop)
        })
    }),
    content("block size of another", &["Q304", "Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            let sides = map.get_mut("weight_block_size").filter(|sides| !sides.is_null())?;
            *sides = json!([64, 64]);
            Some(())
        })
    }),
    content("activation_scheme missing", &["Q104"], By::Lint, |fixture, folder| {
        if folder.config.get("quantization_config").is_some_and(|config| config["quant_method"] == "mxfp8") {
            return None;
        }
        declare(fixture, folder, |map| map.remove("activation_scheme").map(drop))
    }),
    content("activation_scheme of another", &["Q104", "Q307", "Q313"], By::Lint, |fixture, folder| {
        if folder.config.get("quantization_config").is_some_and(|config| config["quant_method"] == "mxfp8") {
            return None;
        }
        declare(fixture, folder, |map| {
            let scheme = map.get_mut("activation_scheme")?;
            *scheme = if *scheme == "static" { json!("dynamic") } else { json!("static") };
            Some(())
        })
    }),
    content("fmt of another", &["Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| map.get_mut("fmt").map(|fmt| *fmt = json!("e5m2")))
    }),
    content("scale_fmt of another", &["Q102"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| map.get_mut("scale_fmt").map(|fmt| *fmt = json!("e5m3")))
    }),
    content("scale_fmt ue8m0 and floats", &["Q406"], By::Lint, |fixture, folder| {
        fixture.weight(|weight| weight.form == Form::Fp8Blocks && !weight.powers)?;
        declare(fixture, folder, |map| {
            (map.get("quant_method")? == "fp8").then(|| drop(map.insert("scale_fmt".to_owned(), json!("ue8m0"))))
        })
    }),
    content(
        "number of bits of another",
        &["Q102", "Q104", "Q304", "Q306", "Q315", "Q402"],
        By::Codes,
        |fixture, folder| {
            declare(fixture, folder, |map| {
                let bits = match map.get_mut("bits") {
                    Some(bits) => bits,
                    None => weights(map)?.get_mut("num_bits")?,
                };
                *bits = if *bits == 8 { json!(4) } else { json!(8) };
                Some(())
            })
            .filter(|()| fixture.layout.hf_quant_config.is_none())
        },
    ),
    content("group size of another", &["Q104", "Q304"], By::Lint, |fixture, folder| {
        if fixture.layout.hf_quant_config.is_some() {
            return None;
        }
        declare(fixture, folder, |map| {
            let size = match map.get_mut("group_size") {
                Some(size) => size,
                None => weights(map)?.get_mut("group_size").filter(|size| !size.is_null())?,
            };
            *size = json!(size.as_u64()? * 2);
            Some(())
        })
    }),
    content("strategy of another", &["Q102", "Q104", "Q304"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| {
            let strategy = weights(map)?.get_mut("strategy")?;
            *strategy = if *strategy == "channel" { json!("tensor") } else { json!("channel") };
            Some(())
        })
    }),
    content("block_structure of another", &["Q304"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            let sides = weights(map)?.get_mut("block_structure").filter(|sides| !sides.is_null())?;
            *sides = json!([64, 128]);
            Some(())
        })
    }),
    content("symmetric flipped", &["Q102", "Q104", "Q313"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| weights(map)?.get_mut("symmetric").map(|flag| *flag = json!(false)))
    }),
    content("type of another", &["Q102", "Q104"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| {
            map.get("format")?;
            let number = weights(map)?.get_mut("type")?;
            *number = if *number == "int" { json!("float") } else { json!("int") };
            Some(())
        })
    }),
    content("format of another", &["Q102", "Q104", "Q306"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| {
            let other = if map.get("format")? == "pack-quantized" { "int-quantized" } else { "pack-quantized" };
            *map.get_mut("format")? = json!(other);
            let group = map.get_mut("config_groups")?.get_mut("group_0")?.as_object_mut()?;
            if let Some(format) = group.get_mut("format") {
                *format = json!(other);
            }
            Some(())
        })
    }),
    content("quantization_status missing", &["Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| map.remove("quantization_status").map(drop))
    }),
    content("targets missing", &["Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            map.get("format")?;
            map.get_mut("config_groups")?.get_mut("group_0")?.as_object_mut()?.remove("targets").map(drop)
        })
    }),
    content("targets of another", &["Q210"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            map.get("format")?;
            let group = map.get_mut("config_groups")?.get_mut("group_0")?.as_object_mut()?;
            group.insert("targets".to_owned(), json!(["re:.*nothing$"])).map(drop)
        })
    }),
    content("activations as static", &["Q104", "Q313"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            map.get("format")?;
            let inputs = map.get_mut("config_groups")?.get_mut("group_0")?.get_mut("input_activations")?;
            let dynamic = inputs.get_mut("dynamic").filter(|dynamic| **dynamic == true)?;
            *dynamic = json!(false);
            Some(())
        })
    }),
    content("quant_algo missing", &["Q104"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| map.remove("quant_algo").map(drop))
    }),
    content("quant_algo of another", &["Q306"], By::Lint, |fixture, folder| {
        declare(fixture, folder, |map| {
            let algorithm = map.get_mut("quant_algo")?;
            *algorithm = if *algorithm == "FP8" { json!("NVFP4") } else { json!("FP8") };
            Some(())
        })
    }),
    content("quant_algo of one file alone", &["Q104"], By::Lint, |_, folder| {
        let text = String::from_utf8(folder.others.get("hf_quant_config.json")?.clone()).ok()?;
        folder.config.get("quantization_config")?;
        folder.others.insert("hf_quant_config.json".to_owned(), text.replace("NVFP4", "FP8").into_bytes());
        Some(())
    }),
    content("AWQ without zero points", &["Q102"], By::Codes, |fixture, folder| {
        declare(fixture, folder, |map| map.get_mut("zero_point").map(|flag| *flag = json!(false)))
    }),
    content("list lacks a kept layer", &["Q202", "Q207"], By::Lint, |fixture, folder| {
        let kept = fixture.layout.kept_entry.as_deref()?;
        edit_lists(fixture, folder, |list| list.retain(|entry| entry != kept))
    }),
    content("list has a quantized layer", &["Q201", "Q207", "Q208"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        if weight.form == Form::Mxfp4Stack {
            return None;
        }
        let module = json!(weight.module);
        edit_lists(fixture, folder, |list| list.push(module.clone())).or_else(|| {
            declare(fixture, folder, |map| {
                if map.get("quant_method")? == "gptq" {
                    let rule = format!("-:^{}$", weight.module.replace('.', "\\."));
                    map.insert("dynamic".to_owned(), json!({ rule: {} }));
                } else {
                    map.insert("modules_to_not_convert".to_owned(), json!([module]));
                }
                Some(())
            })
        })
    }),
    content("head tied and quantized", &["Q210"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        if weight.form == Form::Mxfp4Stack {
            return None;
        }
        folder.config.insert("tie_word_embeddings".to_owned(), json!(true));
        let head = fixture.plain.iter().find(|name| name.ends_with("head.weight") && !name.contains("layers"))?;
        folder.remove(head);
        for name in &weight.names {
            let copied = folder.tensor(name).clone();
            folder.add(&name.replace(&weight.module, head.strip_suffix(".weight")?), copied);
        }
        Some(())
    }),
    content("a key of the model changed", &["Q508"], By::Source, |_, folder| {
        let config = &mut folder.config;
        let config =
            if config.contains_key("hidden_size") { config } else { config.get_mut("text_config")?.as_object_mut()? };
        config.insert("hidden_size".to_owned(), json!(512)).map(drop)
    }),
];

/// The arguments of the weights of the only group.
fn weights(map: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    map.get_mut("config_groups")?.get_mut("group_0")?.get_mut("weights")?.as_object_mut()
}

fn edit_lists(fixture: &super::Fixture, folder: &mut super::Folder, edit: impl Fn(&mut Vec<Value>)) -> Option<()> {
    declare(fixture, folder, |map| {
        let list = LISTS.iter().find(|key| map.get(**key).is_some_and(Value::is_array))?;
        edit(map.get_mut(*list)?.as_array_mut()?);
        Some(())
    })
}
