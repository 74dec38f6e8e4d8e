//! Decodes E4M3 codes and their scales to floats.

use half::{bf16, f16};

use super::e4m3;
use crate::SourceDtype;

/// Rows of E4M3 codes whose groups share scales.
#[derive(Clone, Copy, Debug)]
pub struct Fp8Codes<'a> {
    /// Whole rows of codes.
    pub codes: &'a [u8],
    /// Columns of the weight, one code each.
    pub columns: usize,
    /// The row of the weight that comes first.
    pub first_row: usize,
    /// Rows and columns of a group; the last ones of a weight may be cut short.
    pub group: [usize; 2],
    /// The scales of the groups that these rows belong to, row of groups by row of groups.
    pub scales: &'a [f32],
}

/// Decodes to little-endian numbers of `dtype`: the product of code and scale in F32, rounded once; NaN stays NaN.
///
/// That is what compressed-tensors and transformers decode to where scales are BF16: the product of the two then is exact.
pub fn decode(codes: Fp8Codes<'_>, dtype: SourceDtype, out: &mut [u8]) {
    match dtype {
        SourceDtype::Bf16 => decode_as(codes, out, |value| bf16::from_f32(value).to_le_bytes()),
        SourceDtype::F16 => decode_as(codes, out, |value| f16::from_f32(value).to_le_bytes()),
        SourceDtype::F32 => decode_as(codes, out, f32::to_le_bytes),
    }
}

/// Decodes group by group, each through a table of what its codes stand for.
fn decode_as<const WIDTH: usize>(codes: Fp8Codes<'_>, out: &mut [u8], narrow: impl Fn(f32) -> [u8; WIDTH]) {
    let Fp8Codes { codes, columns, first_row, group: [height, width], scales } = codes;
    if columns == 0 {
        return;
    }
    // A table of 256 per group: a group has far more elements than codes, and the product of each code is rounded once.
    let rows = codes.len() / columns;
    let across = columns.div_ceil(width);
    let out = out.as_chunks_mut::<WIDTH>().0;
    let mut begin = 0;
    while begin < rows {
        let row_of_groups = (first_row + begin) / height - first_row / height;
        let end = rows.min((row_of_groups + 1 + first_row / height) * height - first_row);
        for (index, first) in (0..columns).step_by(width).enumerate() {
            let table = table(scales[row_of_groups * across + index], &narrow);
            let last = columns.min(first + width);
            for row in begin..end {
                let run = row * columns + first..row * columns + last;
                for (out, &code) in out[run.clone()].iter_mut().zip(&codes[run]) {
                    *out = table[code as usize];
                }
            }
        }
        begin = end;
    }
}

fn table<const WIDTH: usize>(scale: f32, narrow: impl Fn(f32) -> [u8; WIDTH]) -> [[u8; WIDTH]; 256] {
    std::array::from_fn(|code| {
        let magnitude = match code as u8 & 0x7F {
            0x7F => f32::NAN,
            code => e4m3::decode(code),
        };
        narrow(if code < 0x80 { magnitude * scale } else { -magnitude * scale })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(codes: Fp8Codes<'_>) -> Vec<f32> {
        let mut out = vec![0; codes.codes.len() * 2];
        decode(codes, SourceDtype::Bf16, &mut out);
        out.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect()
    }

    #[test]
    fn every_code_decodes_to_its_value_times_the_scale() {
        let codes: Vec<u8> = (0..=255).collect();
        for scale in [1f32, 0.75, 3.0e-3, 2f32.powi(-120), 2f32.powi(100)] {
            let group = [1, 256];
            let found = decoded(Fp8Codes { codes: &codes, columns: 256, first_row: 5, group, scales: &[scale] });
            for (code, found) in codes.iter().zip(found) {
                let exact = float8::F8E4M3::from_bits(*code).to_f32() * scale;
                let expected = bf16::from_f32(exact).to_f32();
                assert!(found == expected || found.is_nan() && expected.is_nan(), "{code:#04x} {scale}");
                assert_eq!(found.is_sign_negative() && !found.is_nan(), *code > 0x80 && *code < 0xFF || *code == 0x80);
            }
        }
    }

    #[test]
    fn rows_may_begin_inside_a_block() {
        // Groups of 2 x 3 in a weight of 5 columns, from row 3 on: rows 3 | 4 5 | 6.
        let codes = [0x38; 20];
        let scales = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let found = decoded(Fp8Codes { codes: &codes, columns: 5, first_row: 3, group: [2, 3], scales: &scales });
        let expected = [[1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0]];
        let expected: Vec<f32> = expected.iter().flat_map(|[a, b]| [*a, *a, *a, *b, *b]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn f16_f32_and_empty_rows_decode() {
        let codes = Fp8Codes { codes: &[0x7E, 0x81], columns: 2, first_row: 0, group: [1, 2], scales: &[0.1] };
        let mut out = [0; 8];
        decode(codes, SourceDtype::F32, &mut out);
        assert_eq!(out, [(448.0f32 * 0.1).to_le_bytes(), (-0.001953125f32 * 0.1).to_le_bytes()].concat()[..]);
        let mut out = [0; 4];
        decode(codes, SourceDtype::F16, &mut out);
        assert_eq!(out[..2], f16::from_f32(448.0 * 0.1).to_le_bytes());
        decode(Fp8Codes { codes: &[], columns: 0, ..codes }, SourceDtype::F32, &mut []);
    }
}
