//! What `config.json` says of every preset that needs no data: by compressed-tensors 0.19.0 as `presets.json` has it, by 0.20.0
//! as `presets-0.20.json` does.

use std::collections::BTreeSet;

use qwen_fp8_schemes::{Dynamic, Format, Make, NumberKind, QuantizationArgs, Scheme, Strategy, find, registered};
use serde_json::{Value, json};

#[test]
fn every_preset_is_described_as_llm_compressor_does() {
    let presets: serde_json::Map<String, Value> = serde_json::from_str(include_str!("presets.json")).unwrap();
    assert_eq!(presets.len(), 27);
    for (name, preset) in presets {
        let scheme = make(&name, json!({}));
        assert_eq!(scheme.storage_format(), preset["format"], "{name}");
        assert_eq!(json!(scheme.weights()), preset["weights"], "{name}");
        assert_eq!(json!(scheme.input_activations()), preset["input_activations"], "{name}");
    }
}

/// compressed-tensors 0.20 leaves keys out that 0.19 writes as null or empty, and has presets that 0.19 does not.
#[test]
fn what_a_newer_release_leaves_out_says_nothing() {
    let presets: serde_json::Map<String, Value> = serde_json::from_str(include_str!("presets-0.20.json")).unwrap();
    assert_eq!(presets.len(), 30);
    let mut left_out = BTreeSet::new();
    for (name, preset) in presets {
        let scheme = make(&name, json!({}));
        assert_eq!(scheme.storage_format(), preset["format"], "{name}");
        for (ours, theirs) in [
            (json!(scheme.weights()), &preset["weights"]),
            (json!(scheme.input_activations()), &preset["input_activations"]),
        ] {
            let Some(ours) = ours.as_object() else {
                assert!(theirs.is_null(), "{name}");
                continue;
            };
            for (key, value) in ours {
                match theirs.get(key) {
                    Some(theirs) => assert_eq!(value, theirs, "{name} {key}"),
                    None => {
                        assert!(value.is_null() || *value == json!({}) || key == "zp_dtype", "{name} {key}");
                        left_out.insert(key.clone());
                    }
                }
            }
            assert!(theirs.as_object().unwrap().keys().all(|key| ours.contains_key(key)), "{name}");
        }
    }
    let keys = ["actorder", "block_structure", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"];
    assert_eq!(left_out, keys.map(str::to_owned).into());
}

#[test]
fn its_arguments_find_the_preset() {
    for registration in registered() {
        let Make::Quantize(make) = registration.make else { continue };
        let Ok(scheme) = make(json!({}), Format::CompressedTensors) else {
            // Its arguments are those of a preset that is calibrated: only a recipe can ask for what stands in for that.
            assert_eq!(registration.name, "NVFP4");
            continue;
        };
        let (found, options) = only_answer(&scheme.weights(), scheme.input_activations().as_ref()).unwrap();
        assert_eq!(found, registration.name);
        assert_eq!(describe(&*self::make(found, options)), describe(&*scheme));
    }
}

#[test]
fn other_integers_find_their_scheme_and_options() {
    let integer = |num_bits, symmetric, strategy, dynamic| QuantizationArgs {
        num_bits,
        kind: NumberKind::Int,
        symmetric,
        strategy,
        dynamic,
        scale_dtype: None,
    };
    let inputs = [
        None,
        Some(integer(8, true, Strategy::Token, Dynamic::Dynamic)),
        Some(integer(8, false, Strategy::Token, Dynamic::Dynamic)),
    ];
    for bits in 2..=8 {
        for symmetric in [true, false] {
            for strategy in [Strategy::Channel, Strategy::Group(32), Strategy::Group(128), Strategy::Tensor] {
                for inputs in &inputs {
                    let weights = integer(bits, symmetric, strategy, Dynamic::Static);
                    let Some((name, options)) = only_answer(&weights, inputs.as_ref()) else {
                        assert!(!symmetric && strategy == Strategy::Tensor, "{weights:?}");
                        continue;
                    };
                    let scheme = make(name, options);
                    assert_eq!((&scheme.weights(), &scheme.input_activations()), (&weights, inputs), "{name}");
                    let format = if inputs.is_none() { "pack-quantized" } else { "int-quantized" };
                    assert_eq!(scheme.storage_format(), format, "{name}");
                }
            }
        }
    }
    for bits in [1, 9] {
        assert!(only_answer(&integer(bits, true, Strategy::Channel, Dynamic::Static), None).is_none());
    }
    let per_tensor = integer(8, true, Strategy::Tensor, Dynamic::Dynamic);
    assert!(only_answer(&integer(8, true, Strategy::Channel, Dynamic::Static), Some(&per_tensor)).is_none());
}

/// The scheme that answers to the arguments, with its options; two would be one too many.
fn only_answer(weights: &QuantizationArgs, inputs: Option<&QuantizationArgs>) -> Option<(&'static str, Value)> {
    let answer = |registration: &qwen_fp8_schemes::Registration| (registration.from_arguments)(weights, inputs);
    let mut answers = registered().into_iter().filter_map(|it| answer(it).map(|options| (it.name, options)));
    let first = answers.next();
    let second = answers.next();
    assert!(second.is_none(), "{first:?} and {second:?}");
    first
}

fn make(name: &str, options: Value) -> Box<dyn Scheme> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name} quantizes") };
    make(options, Format::CompressedTensors).unwrap()
}

fn describe(scheme: &dyn Scheme) -> Value {
    json!([scheme.storage_format(), scheme.weights(), scheme.input_activations()])
}
