//! Every registered scheme keeps the contract, and the suite notices one that does not.

use qwen_fp8_schemes::conformance::{self, Broken};
use qwen_fp8_schemes::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Format, Make, Matrix, NonFinite, NumberKind, QuantizationArgs,
    Registration, Scheme, ServerSupport, ShapeError, Simd, Strategy, TensorSpec, find, registered,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

#[test]
fn every_registered_scheme_conforms() {
    for registration in registered() {
        let mut options = vec![json!({})];
        if registration.name.starts_with("FP8") {
            options.push(json!({ "scale_dtype": "f32" }));
            options.push(json!({ "scale_dtype": "bf16", "quotient_dtype": "source" }));
            options.push(json!({ "activations": "none" }));
        }
        if registration.name == "FP8_DYNAMIC" {
            options.push(json!({ "block_size": 128 }));
            options.push(json!({ "scale_search": "mse" }));
        }
        if registration.name == "FP8_BLOCK" {
            options.push(json!({ "block_size": [3, 5] }));
            options.push(json!({ "block_size": [1000, 20] }));
            options.push(json!({ "scale_search": "mse", "scale_dtype": "f32" }));
        }
        // Integers of all widths are one kernel: what varies is spread over them.
        options.extend(match registration.name {
            "W8A8" => {
                vec![json!({ "group_size": "tensor", "quotient_dtype": "source" }), json!({ "symmetric": false })]
            }
            "W2A16" => vec![json!({ "group_size": 8, "symmetric": false })],
            "W3A16" => vec![json!({ "group_size": 50, "symmetric": false, "quotient_dtype": "source" })],
            "W6A16" => vec![json!({ "group_size": "channel", "symmetric": false })],
            "W7A16" => vec![json!({ "group_size": "channel", "quotient_dtype": "source" })],
            "W8A16" => vec![json!({ "group_size": "tensor" })],
            _ => Vec::new(),
        });
        let report = conformance::check(registration, &options).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.cases > 0, matches!(registration.make, Make::Quantize(_)));
    }
}

#[test]
fn broken_promises_are_found() {
    type Expected = fn(&Broken) -> bool;
    let faults: [(&str, Expected); 9] = [
        ("skips the last byte", |broken| matches!(broken, Broken::NotWritten { .. })),
        ("depends on the band", |broken| matches!(broken, Broken::Differs { .. })),
        ("depends on the instruction set", |broken| matches!(broken, Broken::Differs { .. })),
        ("takes NaN", |broken| matches!(broken, Broken::Poison { .. })),
        ("misplaces NaN", |broken| matches!(broken, Broken::Poison { .. })),
        ("refuses zero", |broken| matches!(broken, Broken::Refused { .. })),
        ("declares a suffix twice", |broken| matches!(broken, Broken::Output { .. })),
        ("declares too few rows", |broken| matches!(broken, Broken::Output { .. })),
        ("has no rows in a band", |broken| matches!(broken, Broken::NoBandRows)),
    ];
    for (fault, expected) in faults {
        let failure = conformance::check(&FAULTY, &[json!({ "fault": fault })]);
        match failure {
            Err(failure) => assert!(expected(&failure.broken), "{fault}: {failure}"),
            // With one instruction set there is nothing to tell apart.
            Ok(_) => assert!(fault.contains("instruction set") && Simd::available().len() == 1, "{fault}: not found"),
        }
    }
    conformance::check(&FAULTY, &[json!({ "fault": "none" })]).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn open_options_are_found() {
    let open = Registration { options: |_| json_schema!({ "type": "object" }), ..FAULTY };
    assert!(matches!(conformance::check(&open, &[]).unwrap_err().broken, Broken::OpenOptions));
    let bare = Registration {
        options: |_| json_schema!({ "properties": { "fault": {} }, "additionalProperties": false }),
        ..FAULTY
    };
    assert!(matches!(conformance::check(&bare, &[]).unwrap_err().broken, Broken::NoDescription { .. }));
}

/// FP8_DYNAMIC with a fault that can be chosen.
const FAULTY: Registration = Registration {
    name: "FAULTY",
    aliases: &[],
    summary: "Does one thing wrong.",
    options: faulty_options,
    make: Make::Quantize(make_faulty),
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: "none", gpu: "none" },
};

fn faulty_options(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "fault": { "description": "What it does wrong.", "type": "string" } },
        "additionalProperties": false
    })
}

fn make_faulty(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Some(fault) = options["fault"].as_str().map(str::to_owned) else {
        return Err(BuildError { option: Some("fault"), reason: "`fault` is missing".to_owned() });
    };
    let Make::Quantize(make) = find("FP8_DYNAMIC").unwrap().make else { panic!("FP8_DYNAMIC quantizes") };
    Ok(Box::new(Faulty { fault, right: make(json!({}), format)? }))
}

#[derive(Debug)]
struct Faulty {
    fault: String,
    right: Box<dyn Scheme>,
}

impl Scheme for Faulty {
    fn weights(&self) -> QuantizationArgs {
        self.right.weights()
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        self.right.input_activations()
    }

    fn storage_format(&self) -> &'static str {
        self.right.storage_format()
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let mut specs = self.right.outputs(source)?;
        match &*self.fault {
            "declares a suffix twice" => specs[1].suffix = specs[0].suffix,
            "declares too few rows" => specs[1].shape[0] /= 2,
            _ => {}
        }
        Ok(specs)
    }

    fn band_rows(&self) -> usize {
        if self.fault == "has no rows in a band" { 0 } else { self.right.band_rows() }
    }

    fn amax_scope(&self) -> AmaxScope {
        self.right.amax_scope()
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let before = outputs[0].last().copied();
        let result = self.right.quantize(band, outputs);
        let Some(last) = outputs[0].last_mut() else { return result };
        match &*self.fault {
            "skips the last byte" => *last = before.unwrap(),
            "depends on the band" => *last = band.rows as u8,
            "depends on the instruction set" => *last = band.simd.name().len() as u8,
            "takes NaN" => return Ok(()),
            "misplaces NaN" => return result.map_err(|error| NonFinite { row: error.row + 1, ..error }),
            "refuses zero" if *last == 0 => return Err(NonFinite { row: 0, column: 0, value: 0.0 }),
            _ => {}
        }
        result
    }
}

/// Arguments that no scheme here answers to, so that a recipe that asks for them is refused and not misread.
#[test]
fn foreign_arguments_are_nobodys() {
    let int9 = QuantizationArgs {
        num_bits: 9,
        kind: NumberKind::Int,
        symmetric: true,
        strategy: Strategy::Channel,
        dynamic: Dynamic::Static,
        scale_dtype: None,
    };
    let group =
        QuantizationArgs { num_bits: 8, kind: NumberKind::Float, strategy: Strategy::Group(128), ..int9.clone() };
    let tile = QuantizationArgs { num_bits: 8, strategy: Strategy::Block([128, 128]), ..int9.clone() };
    for weights in [int9, group, tile] {
        assert!(registered().iter().all(|registration| (registration.from_arguments)(&weights, None).is_none()));
    }
}

#[test]
fn the_extent_of_scales_is_the_tile() {
    let Make::Quantize(make) = find("fp8_block").unwrap().make else { panic!("FP8_BLOCK quantizes") };
    let scheme = make(json!({}), Format::Fp8).unwrap();
    let source = Matrix { dtype: qwen_fp8_schemes::SourceDtype::F16, rows: 300, columns: 129 };
    let specs = scheme.outputs(source).unwrap();
    assert_eq!((specs[1].extent, &*specs[1].shape), (Extent::Rows(128), &[3, 2][..]));
}
