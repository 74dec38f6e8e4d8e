//! Reads stored scales and zero points as numbers.

use std::ops::Range;

use half::{bf16, f16};
use safetensors::Dtype;

use super::decode::{lowered, signed_e4m3};

/// The scale above the scales of a weight, and its effect on them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GlobalFactor {
    /// Scales were multiplied by it before they were rounded: compressed-tensors' NVFP4.
    Divides(f32),
    /// Scales were divided by it before they were rounded: ModelOpt's NVFP4.
    Multiplies(f32),
}

/// Appends the values of stored scales: floats as they are, E4M3 by its table, and the bytes of E8M0 and U8 as powers
/// of two, `2^(byte - 127)`, of which byte 255 is NaN. Each is put under the global scale in F32. Scales of any other
/// dtype have no value.
pub fn scale_values(dtype: Dtype, bytes: &[u8], global: Option<GlobalFactor>, out: &mut Vec<f32>) {
    let first = out.len();
    match dtype {
        Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw))),
        Dtype::BF16 => out.extend(bytes.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32())),
        Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|&raw| f16::from_le_bytes(raw).to_f32())),
        Dtype::F8_E4M3 => out.extend(bytes.iter().map(|&code| signed_e4m3(code))),
        Dtype::F8_E8M0 | Dtype::U8 => out.extend(bytes.iter().map(|&byte| power_of_two(byte))),
        _ => {}
    }
    for scale in &mut out[first..] {
        *scale = match global {
            None => *scale,
            Some(GlobalFactor::Divides(factor)) => *scale / factor,
            Some(GlobalFactor::Multiplies(factor)) => *scale * factor,
        };
    }
}

/// Returns `2^(byte - 127)` for a byte of E8M0; NaN for 255.
fn power_of_two(byte: u8) -> f32 {
    match byte {
        // The exponent of F32 has the same bias, but for its least value, which is subnormal.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        byte => f32::from_bits(u32::from(byte) << 23),
    }
}

/// Returns the rows of 32-bit words that hold these rows of integers of `bits` bits, which are packed down each column.
pub fn packed_rows(rows: &Range<usize>, bits: u32) -> Range<usize> {
    rows.start * bits as usize / 32..(rows.end * bits as usize).div_ceil(32)
}

/// Appends rows of integers that are packed down each column, raised by half of their range; `words` are the rows that
/// [`packed_rows`] names, with `across` words in each.
pub fn packed_down(words: &[u8], rows: &Range<usize>, across: usize, bits: u32, out: &mut Vec<f32>) {
    let first_bit = packed_rows(rows, bits).start * 32;
    for row in rows.clone() {
        let bit = row * bits as usize - first_bit;
        out.extend((0..across).map(|column| {
            let byte = |at: usize| words.get((at / 4 * across + column) * 4 + at % 4).copied().unwrap_or(0);
            lowered(byte, bit, bits)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pack::bit_by_bit;

    fn values(dtype: Dtype, bytes: &[u8], global: Option<GlobalFactor>) -> Vec<f32> {
        let mut out = vec![7.0];
        scale_values(dtype, bytes, global, &mut out);
        out.split_off(1)
    }

    #[test]
    fn every_byte_of_e8m0_is_a_power_of_two() {
        let bytes: Vec<u8> = (0..=255).collect();
        for dtype in [Dtype::F8_E8M0, Dtype::U8] {
            for (byte, value) in bytes.iter().zip(values(dtype, &bytes, None)) {
                match byte {
                    255 => assert!(value.is_nan()),
                    _ => assert_eq!(f64::from(value), 2f64.powi(i32::from(*byte) - 127), "{byte}"),
                }
            }
        }
    }

    #[test]
    fn scales_stand_under_the_global_one() {
        let divided = values(Dtype::F8_E4M3, &[0x7E, 0x38], Some(GlobalFactor::Divides(3.0)));
        assert_eq!(divided, [448.0 / 3.0f32, 1.0 / 3.0]);
        let multiplied = values(Dtype::F8_E4M3, &[0x7E, 0x38], Some(GlobalFactor::Multiplies(0.3)));
        assert_eq!(multiplied, [448.0 * 0.3f32, 0.3]);
        assert_eq!(values(Dtype::BF16, &[0x80, 0x3F], None), [1.0]);
        assert_eq!(values(Dtype::F16, &[0, 0x3C], None), [1.0]);
        assert_eq!(values(Dtype::F32, &1.5f32.to_le_bytes(), None), [1.5]);
        assert!(values(Dtype::I64, &[0; 8], None).is_empty());
    }

    #[test]
    fn integers_that_are_packed_down_come_back_from_any_row_on() {
        for bits in 2..=8u32 {
            let (rows, across, half) = (45, 3, 1 << (bits - 1));
            let integer = |row: usize, column: usize| (row * 7 + column * 11) as i32 % (2 * half) - half;
            let columns: Vec<Vec<u8>> = (0..across)
                .map(|column| {
                    let raised: Vec<u8> = (0..rows).map(|row| (integer(row, column) + half) as u8).collect();
                    bit_by_bit(&raised, bits)
                })
                .collect();
            let words = columns[0].len() / 4;
            let all: Vec<u8> = (0..words)
                .flat_map(|word| columns.iter().flat_map(move |column| column[word * 4..][..4].to_vec()))
                .collect();
            for range in [0..rows, 1..2, 10..33, 31..32, 44..45] {
                let packed = packed_rows(&range, bits);
                let mut out = Vec::new();
                packed_down(&all[packed.start * across * 4..packed.end * across * 4], &range, across, bits, &mut out);
                let expected: Vec<f32> =
                    range.flat_map(|row| (0..across).map(move |column| integer(row, column) as f32)).collect();
                assert_eq!(out, expected, "{bits}");
            }
        }
    }
}
