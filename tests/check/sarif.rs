//! `lint --format sarif` against the official schema, and against what the schema cannot say.

use std::collections::BTreeSet;
use std::path::Path;

use qwen_fp8::check::{Finding, RULES, lint, sarif};
use serde_json::{Value, json};

use crate::support::folder::{Base, Folder, source};

fn schema() -> jsonschema::Validator {
    let mut schema: Value = serde_json::from_str(include_str!("sarif-schema-2.1.0.json")).unwrap();
    // The one pattern with a bracket that nothing opens, which ECMAScript's regexes do not have; no log here has that key.
    for owner in ["run", "toolComponent"] {
        let language = schema["definitions"][owner]["properties"]["language"].as_object_mut().unwrap();
        assert!(language.remove("pattern").is_some_and(|pattern| pattern.as_str().unwrap().ends_with("]?$")));
    }
    jsonschema::draft7::options().should_validate_formats(true).build(&schema).unwrap()
}

/// Holds the log of a checkpoint against the schema; the findings it is made of.
fn hold(schema: &jsonschema::Validator, dir: &Path) -> Vec<Finding> {
    let findings = lint(dir, &()).unwrap();
    let log = sarif(&findings, &dir.into());
    let errors: Vec<_> = schema.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "{}", dir.display());
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), RULES.len());
    let bases = run["originalUriBaseIds"].as_object().unwrap();
    for base in bases.values() {
        let uri = base["uri"].as_str().unwrap();
        assert!(uri.starts_with("file:///") && uri.ends_with('/'), "{uri}");
    }
    for result in run["results"].as_array().unwrap() {
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let text = result["message"]["text"].as_str().unwrap();
        assert!(!text.is_empty());
        // Neither a placeholder nor a link.
        let literal = text.replace("{{", "").replace("}}", "");
        assert!(!literal.contains(['{', '}']) && !text.contains("]("), "{text}");
        for location in result["locations"].as_array().unwrap() {
            let artifact = &location["physicalLocation"]["artifactLocation"];
            assert!(bases.contains_key(artifact["uriBaseId"].as_str().unwrap()));
            // Relative, and never out of the checkpoint.
            let uri = artifact["uri"].as_str().unwrap();
            assert!(!uri.is_empty() && !uri.starts_with('/') && !uri.contains(".."), "{uri}");
            // A colon in the first segment would make a scheme of it.
            assert!(uri.is_ascii() && !uri.split('/').next().unwrap().contains(':'), "{uri}");
        }
    }
    assert_eq!(run["results"].as_array().unwrap().len(), findings.len());
    findings
}

#[test]
fn logs_of_good_and_plain_checkpoints_are_valid() {
    let schema = schema();
    for base in [Base::Block, Base::Channel, Base::Packed, Base::Nvfp4, Base::Mixed] {
        assert_eq!(hold(&schema, base.dir()), [], "{base:?}");
    }
    assert_eq!(hold(&schema, &source()).len(), 1);
}

#[test]
fn logs_of_damaged_checkpoints_are_valid() {
    type Spoil = fn(&mut Folder);
    let schema = schema();
    let root = tempfile::tempdir().unwrap();
    let spoils: [(Base, Spoil); 8] = [
        (Base::Block, |folder| {
            folder.edit_list(|list| {
                list.clear();
                list.extend(["model.visual", "re:.*visual.*", "nothing"].map(|name| json!(name)));
                list.push(json!(7));
            });
            folder.remove("lm_head.weight");
        }),
        (Base::Block, |folder| {
            folder.quantization()["weight_block_size"] = json!([64, 64]);
            folder.quantization()["modules_to_not_convert"] = json!([]);
        }),
        (Base::Channel, |folder| drop(folder.config.remove("quantization_config"))),
        (Base::Channel, |folder| folder.quantization()["config_groups"]["group/~0"] = json!({ "targets": [null] })),
        // Names that no URI and no terminal takes as they are.
        (Base::Block, |folder| {
            let names = [
                "[{0}](http:evil)",
                "a:b \u{1b}[31m\"\\",
                "ü/../%41?#",
                "模型.weight_scale",
                "\u{202e}.weight_scale_inv",
            ];
            let scale = folder.tensor("model.language_model.layers.0.mlp.up_proj.weight_scale_inv").clone();
            names.iter().for_each(|name| folder.add(&format!("{name}.weight_scale"), scale.clone()));
        }),
        (Base::Block, |folder| {
            let shard = folder.shards.pop_last().unwrap().1;
            folder.shards.insert("mödel %41.safetensors".to_owned(), shard);
            folder.others.insert("st:ray \u{7}.safetensors".to_owned(), Vec::new());
            folder.remove("model.language_model.layers.1.mlp.up_proj.weight_scale_inv");
        }),
        (Base::Shifted, |folder| {
            for suffix in ["weight_zero_point", "weight_shape"] {
                folder.remove(&format!("model.language_model.layers.0.mlp.up_proj.{suffix}"));
            }
        }),
        (Base::Nvfp4, |folder| {
            let name = "model.language_model.layers.0.mlp.up_proj.weight_global_scale";
            folder.tensor(name).bytes = f32::NAN.to_le_bytes().to_vec();
        }),
    ];
    let mut codes = BTreeSet::new();
    for (index, (base, spoil)) in spoils.into_iter().enumerate() {
        // The directory's name is part of the log.
        let dir = root.path().join(format!("{index} ü%20#?"));
        let mut folder = Folder::read(base.dir());
        spoil(&mut folder);
        folder.write(&dir);
        let findings = hold(&schema, &dir);
        assert!(!findings.is_empty(), "{index}");
        codes.extend(findings.iter().map(|finding| finding.rule.code));
    }
    // A file that is no checkpoint has its finding too.
    std::fs::write(root.path().join("config.json"), "{}").unwrap();
    std::fs::write(root.path().join("model.safetensors"), "no header").unwrap();
    codes.extend(hold(&schema, root.path()).iter().map(|finding| finding.rule.code));
    let places = ["Q001", "Q003", "Q101", "Q104", "Q203", "Q209", "Q301", "Q302", "Q304", "Q310", "Q313", "Q401"];
    assert!(places.iter().all(|code| codes.contains(code)), "{codes:?}");
}
