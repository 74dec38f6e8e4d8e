//! A scheme of a stranger whose tensors have names of its own: what a run checks of scales follows from their roles.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::{Recipe, RecipeText};
use qwen_fp8::run::{RunError, RunOptions, RunReport, run};
use qwen_fp8::schemes::{
    Band, Dtype, Dynamic, Extent, MAX_OUTPUTS, Make, Matrix, NonFinite, QuantizationArgs, Registration, Scheme,
    ServerSupport, ShapeError, Strategy, TensorRole, TensorSpec, read_options, register_scheme,
};
use schemars::JsonSchema;
use serde::Deserialize;

const WEIGHT: &str = "model.language_model.layers.0.mlp.down_proj.weight";

register_scheme!(Registration {
    name: "ODD_NAMES",
    aliases: &[],
    version: 7,
    summary: "Stores its scales under names without the word.",
    options: |generator| OddNames::json_schema(generator),
    make: Make::Quantize(|options, _| Ok(Box::new(read_options::<OddNames>(options)?))),
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &[], gpu: "none" },
    golden: &[],
});

/// Options of `ODD_NAMES`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OddNames {
    /// The scale that each row gets.
    #[schemars(example = 1.0)]
    factor: f32,
    /// The scale above the scales.
    #[schemars(example = 1.0)]
    overall: f32,
    /// Tensors beyond these three.
    #[serde(default)]
    #[schemars(example = 0)]
    more: usize,
}

impl Scheme for OddNames {
    fn weights(&self) -> QuantizationArgs {
        QuantizationArgs::float8(Strategy::Channel, Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        None
    }

    fn storage_format(&self) -> &'static str {
        "naive-quantized"
    }

    fn outputs(&self, Matrix { rows, columns, .. }: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        const MORE: [&str; MAX_OUTPUTS] = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
        let whole =
            |suffix, role| TensorSpec { suffix, role, dtype: Dtype::F32, shape: vec![1], extent: Extent::Whole };
        let mut specs = vec![
            whole("weight_overall", TensorRole::GlobalScale),
            TensorSpec::per_row("weight_factor", TensorRole::Scale, Dtype::F32, [rows, 1]),
            TensorSpec::per_row("weight", TensorRole::Codes, Dtype::F8_E4M3, [rows, columns]),
        ];
        specs.extend(MORE[..self.more].iter().map(|suffix| whole(suffix, TensorRole::Other)));
        Ok(specs)
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [overall, factors, codes, ..] = outputs else { panic!("three outputs") };
        overall.as_chunks_mut().0.iter_mut().for_each(|to| *to = self.overall.to_le_bytes());
        for (row, to) in factors.as_chunks_mut().0.iter_mut().enumerate() {
            // The first three rows have good scales, so that a message can only name the right row.
            *to = if band.first_row + row < 3 { 1.0 } else { self.factor }.to_le_bytes();
        }
        codes.fill(0x38);
        Ok(())
    }
}

fn plan(factor: &str, overall: &str, more: usize) -> Result<Plan, String> {
    let text = format!(
        "format: compressed-tensors\nserving: warn\nrules:\n  - scheme: ODD_NAMES\n    factor: {factor}\n    overall: \
         {overall}\n    more: {more}\n    targets: [{WEIGHT}]\n"
    );
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), &text)).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny-qwen3-vl");
    Plan::build(recipe, Checkpoint::open(&model).unwrap()).map_err(|refused| {
        let messages: Vec<_> = refused.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        messages.join("\n")
    })
}

/// Applies the scheme to one weight; nothing is left where that fails.
fn apply(factor: &str, overall: &str) -> Result<RunReport, RunError> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let never = AtomicBool::new(false);
    let done = run(&plan(factor, overall, 0).unwrap(), &output, &RunOptions::new(&never), &());
    assert_eq!(output.exists(), done.is_ok());
    done
}

#[test]
fn an_infinite_scale_of_any_name_ends_the_run() {
    let error = apply("1e39", "1.0").unwrap_err();
    assert!(matches!(&error, RunError::InfiniteScale { tensor, row: 3, .. } if tensor == WEIGHT), "{error}");
    let error = apply("1.0", "1e39").unwrap_err();
    assert!(matches!(&error, RunError::InfiniteScale { tensor, .. } if tensor == WEIGHT), "{error}");
}

#[test]
fn a_scale_of_any_name_that_is_not_positive_is_not_published() {
    for (factor, overall, expected) in [
        ("-1.0", "1.0", "down_proj.weight_factor` is not a positive number at element 3"),
        ("1.0", "0.0", "down_proj.weight_overall` is not a positive number at element 0"),
    ] {
        let error = apply(factor, overall).unwrap_err();
        assert!(matches!(error, RunError::SelfCheck { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn degenerate_scales_of_any_name_are_counted() {
    let report = apply("1e-40", "1.0").unwrap();
    let found: Vec<_> = report.degenerate_scales.iter().map(|met| (&*met.tensor, met.counts.subnormal)).collect();
    assert_eq!(found, [(WEIGHT, 256 - 3)]);
    assert_eq!(report.degenerate_scales[0].counts.first, Some([3, 0]));
    assert!(apply("1.0", "1.0").unwrap().degenerate_scales.is_empty());
}

#[test]
fn a_scheme_with_too_many_outputs_is_refused_by_the_plan() {
    assert!(plan("1.0", "1.0", MAX_OUTPUTS - 3).is_ok());
    let refused = plan("1.0", "1.0", MAX_OUTPUTS - 2).unwrap_err();
    let expected = "its scheme writes 9 tensors for a weight, and may write 1 to 8";
    assert!(refused.contains(WEIGHT) && refused.contains(expected), "{refused}");
}
