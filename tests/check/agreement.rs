//! The second path against the first: what `apply` writes from hard numbers is sound to `verify`, whatever the dtype of
//! the source, the scale and the quotient.

use half::{bf16, f16};
use qwen_fp8::check::verify;

use crate::folder::{Folder, apply, source};

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
fn what_is_written_is_what_is_proven() {
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
                let verification = verify(&output, Some(&hard), &[]).unwrap();
                assert_eq!(verification.findings, [], "{dtype:?}: {recipe}");
                assert_eq!(verification.tensors.iter().filter(|tensor| tensor.figures.is_some()).count(), 14);
            }
        }
    }
}
