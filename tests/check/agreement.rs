//! The second path against the first: what `apply` writes from hard numbers is sound to `verify`, whatever the dtype of
//! the source, the scale and the quotient.

use half::{bf16, f16};
use qwen_fp8::check::verify;

use crate::support::folder::{Folder, apply, source};

#[derive(Clone, Copy, Debug)]
enum Dtype {
    Bf16,
    F16,
    F32,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }

    fn bytes(self, number: f32) -> Vec<u8> {
        match self {
            Self::Bf16 => bf16::from_f32(number).to_le_bytes().to_vec(),
            Self::F16 => f16::from_f32(number).to_le_bytes().to_vec(),
            Self::F32 => number.to_le_bytes().to_vec(),
        }
    }
}

/// Finite numbers of every size that the dtype has, by row: ordinary ones, the least, zeros, the largest, a mixture, and
/// quotients that lie between two codes.
fn hard_number(dtype: Dtype, row: usize, column: usize) -> f32 {
    let mixed = (row * 1009 + column).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (unit, sign) = (((mixed >> 40) as f32) / 16_777_216.0, if mixed & 1 == 0 { 1.0 } else { -1.0 });
    let (least, largest) = match dtype {
        Dtype::Bf16 => (2f32.powi(-133), 3e38),
        Dtype::F16 => (2f32.powi(-24), 65_504.0),
        Dtype::F32 => (2f32.powi(-149), 3e38),
    };
    let magnitude = match row / 16 % 8 {
        0 => unit * 0.02,
        1 => (unit * 20.0).floor() * least,
        2 => 0.0,
        3 => unit * largest,
        4 => (unit * 30.0 - 20.0).exp2(),
        // 448 halves make the scale a power of two, and multiples of 1/16 ties.
        5 if column.is_multiple_of(128) => 448.0 / 512.0,
        5 => (unit * 448.0 * 16.0).floor() / 16.0 / 512.0,
        // Around the least scales that F16 has, which round far from their quotient.
        6 => (unit * 448.0 * 2f32.powi(-24) * (0.4 + 0.37 * (row % 16) as f32)).max(least),
        _ => 0.02,
    };
    sign * magnitude.min(largest)
}

#[test]
fn verify_passes_what_apply_writes() {
    let root = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        let hard = root.path().join(dtype.name());
        let mut folder = Folder::read(&source());
        for (name, tensor) in folder.shards.values_mut().flatten() {
            if name.contains("language_model.layers") && name.ends_with("_proj.weight") {
                let columns = tensor.shape[1];
                let numbers = (0..tensor.shape[0] * columns).map(|at| hard_number(dtype, at / columns, at % columns));
                tensor.bytes = numbers.flat_map(|number| dtype.bytes(number)).collect();
                tensor.dtype = dtype.name().to_owned();
            }
        }
        folder.write(&hard);
        for (form, of_scale) in [
            ("format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\n", "bf16"),
            ("format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\n", "f32"),
            ("format: fp8\nscheme: FP8\n", "bf16"),
            ("format: compressed-tensors\nscheme: FP8_BLOCK\n", "source"),
            ("format: compressed-tensors\nscheme: FP8_DYNAMIC\n", "source"),
            ("format: compressed-tensors\nscheme: FP8_DYNAMIC\n", "f32"),
            ("format: compressed-tensors\nscheme: FP8\n", "source"),
        ] {
            for quotient in if matches!(dtype, Dtype::F32) { &["f32"][..] } else { &["f32", "source"] } {
                let recipe = format!(
                    "{form}scale_dtype: {of_scale}\nquotient_dtype: {quotient}\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n"
                );
                let output = tempfile::tempdir().unwrap();
                let output = output.path().join("result");
                apply(&recipe, &hard, &output);
                let verification = verify(&output, Some(&hard), &[], &()).unwrap();
                assert_eq!(verification.findings, [], "{dtype:?}: {recipe}");
                assert_eq!(verification.tensors.iter().filter(|tensor| tensor.figures.is_some()).count(), 14);
            }
        }
    }
}

/// A projection of the first layer, by which a storage form is held against the program.
const DOWN: &str = "model.language_model.layers.0.mlp.down_proj";

/// Every storage form of few bits, in the dtypes and with the quotients that its scheme takes.
#[test]
fn every_storage_form_agrees_on_hard_numbers() {
    let root = tempfile::tempdir().unwrap();
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        let hard = root.path().join(dtype.name());
        let mut folder = Folder::read(&source());
        let tensor = folder.tensor(&format!("{DOWN}.weight"));
        let columns = tensor.shape[1];
        let numbers =
            (0..tensor.shape[0] * columns).map(|at| tame(dtype, hard_number(dtype, at / columns, at % columns)));
        tensor.bytes = numbers.flat_map(|number| dtype.bytes(number)).collect();
        tensor.dtype = dtype.name().to_owned();
        folder.write(&hard);
        for (index, scheme) in [
            "W8A8",
            "W8A8\nquotient_dtype: source",
            "W8A8\nsymmetric: false",
            "W8A8\nsymmetric: false\nquotient_dtype: source",
            "W8A8\ngroup_size: tensor",
            "W4A8\nsymmetric: false",
            "W4A16",
            "W4A16\nquotient_dtype: source",
            "W3A16\ngroup_size: 32",
            "W5A16\nsymmetric: false",
            "W2A16\nsymmetric: false\nquotient_dtype: source",
            "W4A16_ASYM",
            "W4A16_ASYM\nquotient_dtype: source\ngroup_size: channel",
            "MXFP8",
            "MXFP6A16",
            "MXFP4",
            "MXFP4XFP8",
            "MXFP4\nquotient_dtype: source",
            "NVFP4A16",
        ]
        .into_iter()
        .enumerate()
        {
            let recipe =
                format!("format: compressed-tensors\nscheme: {scheme}\ntargets: \"re:.*layers.0.mlp.down_proj\"\n");
            let output = root.path().join(format!("{}-{index}", dtype.name()));
            apply(&recipe, &hard, &output);
            let verification = verify(&output, Some(&hard), &[], &()).unwrap();
            assert_eq!(verification.findings, [], "{dtype:?}: {recipe}");
            assert_eq!(verification.tensors.iter().filter(|tensor| tensor.figures.is_some()).count(), 1);
        }
    }
}

/// F16 has no number for the global scale of small weights: it is 1, and the scales under it are coarse.
#[test]
fn a_global_scale_that_overflows_becomes_one() {
    let root = tempfile::tempdir().unwrap();
    let (small, output) = (root.path().join("small"), root.path().join("output"));
    let mut folder = Folder::read(&source());
    let tensor = folder.tensor(&format!("{DOWN}.weight"));
    let columns = tensor.shape[1];
    let numbers = (0..tensor.shape[0] * columns).map(|at| hard_number(Dtype::F16, at / columns, at % columns));
    tensor.bytes = numbers.flat_map(|number| Dtype::F16.bytes(number.clamp(-0.03, 0.03))).collect();
    tensor.dtype = "F16".to_owned();
    folder.write(&small);
    apply("format: compressed-tensors\nscheme: NVFP4A16\ntargets: \"re:.*layers.0.mlp.down_proj\"\n", &small, &output);
    assert_eq!(Folder::read(&output).tensor(&format!("{DOWN}.weight_global_scale")).bytes, 1f32.to_le_bytes());
    assert_eq!(verify(&output, Some(&small), &[], &()).unwrap().findings, []);
}

/// Numbers that all forms hold: of those next to the end of a dtype, differences and the next power of two are infinite.
fn tame(dtype: Dtype, number: f32) -> f32 {
    let end = match dtype {
        Dtype::F16 => 28_000.0,
        Dtype::Bf16 | Dtype::F32 => 8e37,
    };
    number.clamp(-end, end)
}

/// The reference makes zeros of a group whose next power of two is infinite, and no proof may pass that over.
#[test]
fn weights_that_a_storage_form_loses_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let (hard, output) = (root.path().join("hard"), root.path().join("output"));
    let mut folder = Folder::read(&source());
    let tensor = folder.tensor(&format!("{DOWN}.weight"));
    tensor.bytes[..2].copy_from_slice(&bf16::from_f32(3.2e38).to_le_bytes());
    folder.write(&hard);
    apply("format: compressed-tensors\nscheme: MXFP8\ntargets: \"re:.*layers.0.mlp.down_proj\"\n", &hard, &output);
    let findings = verify(&output, Some(&hard), &[], &()).unwrap().findings;
    assert_eq!(findings.iter().map(|finding| finding.rule.code).collect::<Vec<_>>(), ["Q502"]);
}
