//! Every registered scheme keeps the contract, and the suite notices one that does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use qwen_fp8_schemes::conformance::{self, Broken};
use qwen_fp8_schemes::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Format, MAX_OUTPUTS, Make, Matrix, NonFinite, NumberKind,
    QuantizationArgs, Registration, Scheme, ServerSupport, ShapeError, Simd, Strategy, TensorRole, TensorSpec, find,
    registered,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

#[test]
fn every_fp8_scheme_conforms() {
    conforms(|name| name.starts_with("FP8"));
}

#[test]
fn every_integer_scheme_conforms() {
    conforms(is_integer);
}

#[test]
fn every_other_scheme_conforms() {
    conforms(|name| !name.starts_with("FP8") && !is_integer(name));
}

/// `W4A16`, `W8A8` and so on: the many schemes that take longest, and so have a test of their own.
fn is_integer(name: &str) -> bool {
    name.starts_with('W')
}

fn conforms(picks: impl Fn(&str) -> bool) {
    for registration in registered().into_iter().filter(|registration| picks(registration.name)) {
        let report = conformance::check(registration).unwrap_or_else(|failure| panic!("{failure}"));
        let quantizes = matches!(registration.make, Make::Quantize(_));
        assert_eq!((report.cases > 0, report.golden > 0), (quantizes, quantizes), "{}", registration.name);
    }
}

/// Options in company, and values that no schema offers.
#[test]
fn combined_options_conform() {
    for (name, options) in [
        ("FP8", json!({ "scale_dtype": "bf16", "quotient_dtype": "source" })),
        ("FP8_DYNAMIC", json!({ "block_size": [3, 5], "scale_dtype": "f32" })),
        ("FP8_BLOCK", json!({ "block_size": [1000, 20] })),
        ("FP8_BLOCK", json!({ "block_size": [3, 5], "scale_search": "mse", "scale_dtype": "f32" })),
        ("W8A8", json!({ "group_size": "tensor", "quotient_dtype": "source" })),
        ("W2A16", json!({ "group_size": 8, "symmetric": false })),
        ("W3A16", json!({ "group_size": 50, "symmetric": false, "quotient_dtype": "source" })),
        ("W6A16", json!({ "group_size": "channel", "symmetric": false })),
    ] {
        let report =
            conformance::check_with(find(name).unwrap(), &[options]).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.cases > 0, "{name}");
    }
}

#[test]
fn each_way_to_break_the_contract_is_found() {
    type Expected = fn(&Broken) -> bool;
    let faults: [(&str, Expected); 18] = [
        ("skips the last byte", |broken| matches!(broken, Broken::NotWritten { .. })),
        ("depends on the band", |broken| matches!(broken, Broken::Differs { .. })),
        ("depends on the instruction set", |broken| matches!(broken, Broken::Differs { .. })),
        (
            "remembers the band before",
            |broken| matches!(broken, Broken::Differs { way, .. } if way.contains("several threads")),
        ),
        ("takes NaN", |broken| matches!(broken, Broken::NonFiniteMissed { .. })),
        ("misplaces NaN", |broken| matches!(broken, Broken::NonFiniteMissed { .. })),
        ("refuses zero", |broken| matches!(broken, Broken::Refused { .. })),
        ("makes NaN of zero", |broken| matches!(broken, Broken::NonFiniteOutput { suffix: "weight", .. })),
        ("panics on one column", |broken| {
            let Broken::Panics { place, message } = broken else { return false };
            place.contains("x 1 Bf16") && message == "one column"
        }),
        ("declares a suffix twice", |broken| matches!(broken, Broken::Output { .. })),
        ("declares nine outputs", |broken| matches!(broken, Broken::OutputCount { count: 9, .. })),
        ("declares no output", |broken| matches!(broken, Broken::OutputCount { count: 0, .. })),
        ("declares no codes", |broken| matches!(broken, Broken::Output { .. })),
        ("declares too few rows", |broken| matches!(broken, Broken::Output { .. })),
        ("has no rows in a band", |broken| matches!(broken, Broken::NoBandRows)),
        ("refuses every shape", |broken| matches!(broken, Broken::NoShape { .. })),
        ("refuses without a reason", |broken| matches!(broken, Broken::Unclear { .. })),
        ("answers to what it does not do", |broken| matches!(broken, Broken::Arguments { .. })),
    ];
    for (fault, expected) in faults {
        let failure = conformance::check_with(&FAULTY, &[json!({ "fault": fault })]);
        match failure {
            Err(failure) => assert!(expected(&failure.broken), "{fault}: {failure}"),
            // With one instruction set there is nothing to tell apart.
            Ok(_) => assert!(fault.contains("instruction set") && Simd::available().len() == 1, "{fault}: not found"),
        }
    }
    let report = conformance::check(&FAULTY).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.schemes, 2);
}

#[test]
fn incomplete_option_schemas_are_found() {
    let broken = |options| conformance::check(&Registration { options, ..FAULTY }).unwrap_err().broken;
    assert!(matches!(broken(|_| json_schema!({ "type": "object" })), Broken::OpenOptions));
    let bare = |_: &mut SchemaGenerator| {
        json_schema!({
            "properties": { "fault": { "default": 1 } },
            "additionalProperties": false
        })
    };
    assert!(matches!(broken(bare), Broken::NoDescription { .. }));
    let nothing_to_try = |_: &mut SchemaGenerator| {
        json_schema!({
            "properties": { "fault": { "description": "What it does wrong." } },
            "additionalProperties": false
        })
    };
    assert!(matches!(broken(nothing_to_try), Broken::NoExample { .. }));
    let other = |_: &mut SchemaGenerator| json_schema!({ "additionalProperties": false });
    assert!(matches!(broken(other), Broken::Options(_)), "an option is needed that the schema does not have");
}

/// FP8_DYNAMIC with a fault that can be chosen.
const FAULTY: Registration = Registration {
    name: "FAULTY",
    aliases: &[],
    version: 1,
    summary: "Does one thing wrong.",
    options: faulty_options,
    make: Make::Quantize(make_faulty),
    from_arguments: |weights, _| {
        // What only the fault of this name describes in such a way.
        (weights.scale_dtype == Some("nonsense")).then(|| json!({ "fault": "none" }))
    },
    servers: ServerSupport { servers: &[], gpu: "none" },
    golden: &[],
};

fn faulty_options(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "fault": { "description": "What it does wrong.", "type": "string", "examples": ["none"] } },
        "required": ["fault"],
        "additionalProperties": false
    })
}

fn make_faulty(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Some(fault) = options["fault"].as_str().map(str::to_owned) else {
        return Err(BuildError { option: Some("fault"), reason: "`fault` is missing".to_owned() });
    };
    let Make::Quantize(make) = find("FP8_DYNAMIC").unwrap().make else { panic!("FP8_DYNAMIC quantizes") };
    let right = make(json!({}), format)?;
    if options.as_object().is_some_and(|options| options.len() > 1) {
        return Err(BuildError { option: None, reason: "there is one option".to_owned() });
    }
    Ok(Box::new(Faulty { fault, right, last_row: AtomicUsize::new(0) }))
}

#[derive(Debug)]
struct Faulty {
    fault: String,
    right: Box<dyn Scheme>,
    last_row: AtomicUsize,
}

impl Scheme for Faulty {
    fn weights(&self) -> QuantizationArgs {
        let weights = self.right.weights();
        match &*self.fault {
            "answers to what it does not do" => QuantizationArgs { scale_dtype: Some("nonsense"), ..weights },
            _ => weights,
        }
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
            "declares nine outputs" => {
                const MORE: [&str; 7] = ["more_1", "more_2", "more_3", "more_4", "more_5", "more_6", "more_7"];
                specs.extend(MORE.map(|suffix| TensorSpec { suffix, role: TensorRole::Other, ..specs[0].clone() }));
                assert_eq!(specs.len(), MAX_OUTPUTS + 1);
            }
            "declares no output" => specs.clear(),
            "declares no codes" => specs[0].role = TensorRole::Other,
            "declares too few rows" => specs[1].shape[0] /= 2,
            "refuses every shape" if source.rows * source.columns > 0 => {
                return Err(ShapeError { reason: format!("{} columns", source.columns) });
            }
            "refuses without a reason" if source.columns == 1 => return Err(ShapeError { reason: "odd".to_owned() }),
            "panics on one column" if source.columns == 1 => panic!("one column"),
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
        let row_before = self.last_row.swap(band.first_row, Ordering::Relaxed);
        let result = self.right.quantize(band, outputs);
        let Some(last) = outputs[0].last_mut() else { return result };
        match &*self.fault {
            "skips the last byte" => *last = before.unwrap(),
            "depends on the band" => *last = band.rows as u8,
            "depends on the instruction set" => *last = band.simd.name().len() as u8,
            "remembers the band before" if band.first_row > 0 && row_before > band.first_row => *last ^= 1,
            "makes NaN of zero" if *last == 0 => *last = 0x7F,
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
fn unknown_arguments_find_no_scheme() {
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
fn a_row_of_scales_has_the_extent_of_its_block() {
    let Make::Quantize(make) = find("fp8_block").unwrap().make else { panic!("FP8_BLOCK quantizes") };
    let scheme = make(json!({}), Format::Fp8).unwrap();
    let source = Matrix { dtype: qwen_fp8_schemes::SourceDtype::F16, rows: 300, columns: 129 };
    let specs = scheme.outputs(source).unwrap();
    assert_eq!((specs[1].extent, &*specs[1].shape), (Extent::Rows(128), &[3, 2][..]));
}
