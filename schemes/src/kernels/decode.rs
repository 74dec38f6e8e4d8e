//! Decodes stored codes, with their scales and zero points, to floats.

use super::element::{Bf16, Element, F16, F32};
use super::number::Number;
use super::pack::packed_bytes;
use super::{e2m1, e2m3, e4m3};
use crate::simd::Vectorized;
use crate::{Simd, SourceDtype};

/// The numbers that stored codes stand for, and how a row of codes lies in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFormat {
    /// E4M3, a byte each.
    E4m3,
    /// E2M3, four in three bytes, from the lowest bit on; the last of a row may fill fewer.
    E2m3,
    /// E2M1, two in a byte, the first in its lower half.
    E2m1,
    /// Integers in two's complement, a byte each.
    Integer,
    /// Integers of this many bits, eight at most, raised by half of their range: one after the other in 32-bit words,
    /// from the lowest bit on.
    PackedInteger(u32),
}

impl CodeFormat {
    /// Returns the bytes of a row of so many codes.
    ///
    /// # Examples
    /// ```
    /// use qwen_fp8_schemes::CodeFormat;
    ///
    /// assert_eq!((CodeFormat::E2m1.row_bytes(32), CodeFormat::PackedInteger(3).row_bytes(32)), (16, 12));
    /// ```
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::E4m3 | Self::Integer => columns,
            Self::E2m3 => (columns * 6).div_ceil(8),
            Self::E2m1 => columns.div_ceil(2),
            Self::PackedInteger(bits) => packed_bytes(columns, bits),
        }
    }
}

/// Rows of stored codes whose groups share scales.
#[derive(Clone, Copy, Debug)]
pub struct StoredCodes<'a> {
    /// What the codes stand for, and their packing.
    pub format: CodeFormat,
    /// Whole rows of codes.
    pub codes: &'a [u8],
    /// Columns of the weight.
    pub columns: usize,
    /// The row of the weight that comes first.
    pub first_row: usize,
    /// Rows and columns of a group; the last ones of a weight may be cut short.
    pub group: [usize; 2],
    /// The scales of the groups that these rows belong to, row of groups by row of groups.
    pub scales: &'a [f32],
    /// The zero points of these groups; empty where all are zero.
    pub zeros: &'a [f32],
    /// The group of each column, below the number of groups in a row; empty where neighbours share one.
    pub groups_of_columns: &'a [u32],
}

/// Decodes to little-endian numbers of `dtype`: the code less its zero point, times the scale, in F32, rounded once;
/// NaN stays NaN. Every instruction set gives the same bytes.
///
/// That is what compressed-tensors and transformers decode to where scales are BF16 or powers of two: the product then
/// is exact before it is rounded.
pub fn decode(codes: StoredCodes<'_>, dtype: SourceDtype, out: &mut [u8], simd: Simd) {
    match dtype {
        SourceDtype::Bf16 => simd.run(Decoding::<Bf16> { codes, out: Bf16::row(out) }),
        SourceDtype::F16 => simd.run(Decoding::<F16> { codes, out: F16::row(out) }),
        SourceDtype::F32 => simd.run(Decoding::<F32> { codes, out: F32::row(out) }),
    }
}

/// Elements of a group from which a table of what its codes stand for pays.
const TABLE_PAYS: usize = 512;

/// Codes whose numbers are held at a time; a multiple of eight, so that none of another run begins inside a byte.
const RUN: usize = 256;

struct Decoding<'a, E: Element> {
    codes: StoredCodes<'a>,
    out: &'a mut [E::Raw],
}

impl<E: Number> Vectorized for Decoding<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        let StoredCodes { format, columns, group: [height, width], .. } = self.codes;
        if columns == 0 {
            return;
        }
        // As far as rows are there: few of them do not earn a table back.
        let height = height.min(self.out.len() / columns);
        // The product of each code is rounded once for a group, which has more elements than codes.
        if format == CodeFormat::E4m3 && height.saturating_mul(width.min(columns)) >= TABLE_PAYS {
            by_table::<E>(self.codes, self.out);
        } else {
            by_run::<E>(self.codes, self.out);
        }
    }
}

/// Decodes E4M3 group by group, each through a table of what its codes stand for.
#[inline(always)]
fn by_table<E: Number>(
    StoredCodes { codes, columns, first_row, group: [height, width], scales, .. }: StoredCodes<'_>,
    out: &mut [E::Raw],
) {
    let rows = codes.len() / columns;
    let across = columns.div_ceil(width);
    let mut begin = 0;
    while begin < rows {
        let row_of_groups = (first_row + begin) / height - first_row / height;
        let end = rows.min((row_of_groups + 1 + first_row / height) * height - first_row);
        for (index, first) in (0..columns).step_by(width).enumerate() {
            let table = table::<E>(scales[row_of_groups * across + index]);
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

fn table<E: Number>(scale: f32) -> [E::Raw; 256] {
    std::array::from_fn(|code| E::rounded(signed_e4m3(code as u8) * scale))
}

/// Decodes each code by itself, a run of a row at a time: first to its number, then by its group.
#[inline(always)]
fn by_run<E: Number>(stored: StoredCodes<'_>, out: &mut [E::Raw]) {
    let StoredCodes { format, codes, columns, first_row, scales, zeros, groups_of_columns, .. } = stored;
    let [height, width] = stored.group;
    let across = columns.div_ceil(width);
    let mut numbers = [0f32; RUN];
    let rows = codes.chunks_exact(format.row_bytes(columns)).zip(out.chunks_exact_mut(columns));
    for (row, (codes, out)) in rows.enumerate() {
        let groups = ((first_row + row) / height - first_row / height) * across;
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let first = run * RUN;
            let numbers = &mut numbers[..out.len()];
            // Numbers first, then groups: a group may have fewer codes than a vector.
            read_numbers(format, codes, first, numbers);
            if !groups_of_columns.is_empty() {
                let of_columns = &groups_of_columns[first..first + out.len()];
                for ((out, &number), &group) in out.iter_mut().zip(&*numbers).zip(of_columns) {
                    let at = groups + group as usize;
                    *out = E::rounded((number - zeros.get(at).copied().unwrap_or(0.0)) * scales[at]);
                }
                continue;
            }
            let mut from = 0;
            while from < out.len() {
                let group = (first + from) / width;
                let end = out.len().min((group + 1).saturating_mul(width) - first);
                let (scale, zero) = (scales[groups + group], zeros.get(groups + group).copied().unwrap_or(0.0));
                for (out, &number) in out[from..end].iter_mut().zip(&numbers[from..end]) {
                    *out = E::rounded((number - zero) * scale);
                }
                from = end;
            }
        }
    }
}

/// Reads the numbers that the codes of a row stand for, from the column `first` on.
#[inline(always)]
fn read_numbers(format: CodeFormat, row: &[u8], first: usize, numbers: &mut [f32]) {
    match format {
        CodeFormat::E4m3 => read_bytes(&row[first..], numbers, signed_e4m3),
        CodeFormat::Integer => read_bytes(&row[first..], numbers, |code| f32::from(code.cast_signed())),
        // No integer of these straddles two bytes, and most have these bits.
        CodeFormat::PackedInteger(8) => read_bytes(&row[first..], numbers, |code| f32::from(code) - 128.0),
        CodeFormat::PackedInteger(4) => read_nibbles(&row[first / 2..], numbers, |code| f32::from(code) - 8.0),
        CodeFormat::E2m1 => read_nibbles(&row[first / 2..], numbers, e2m1::decode),
        CodeFormat::E2m3 => {
            for (column, number) in (first..).zip(numbers) {
                *number = e2m3::decode(bits_from(|at| byte(row, at), column * 6, 6));
            }
        }
        CodeFormat::PackedInteger(bits) => {
            for (column, number) in (first..).zip(numbers) {
                *number = lowered(|at| byte(row, at), column * bits as usize, bits);
            }
        }
    }
}

#[inline(always)]
fn read_bytes(codes: &[u8], numbers: &mut [f32], value: impl Fn(u8) -> f32) {
    for (number, &code) in numbers.iter_mut().zip(codes) {
        *number = value(code);
    }
}

#[inline(always)]
fn read_nibbles(codes: &[u8], numbers: &mut [f32], value: impl Fn(u8) -> f32) {
    let (pairs, last) = numbers.as_chunks_mut::<2>();
    for (pair, &code) in pairs.iter_mut().zip(codes) {
        *pair = [value(code & 0xF), value(code >> 4)];
    }
    if let ([number], Some(&code)) = (last, codes.get(pairs.len())) {
        *number = value(code & 0xF);
    }
}

/// Returns the value of an E4M3 code with its sign.
#[inline(always)]
pub(super) fn signed_e4m3(code: u8) -> f32 {
    let magnitude = match code & 0x7F {
        0x7F => f32::NAN,
        code => e4m3::decode(code),
    };
    if code < 0x80 { magnitude } else { -magnitude }
}

/// Returns a byte of a packed row; behind its end there is padding, which no integer reaches into.
#[inline(always)]
fn byte(row: &[u8], at: usize) -> u8 {
    row.get(at).copied().unwrap_or(0)
}

/// Reads the integer that begins at a bit, and lowers it by half of its range.
#[inline(always)]
pub(super) fn lowered(byte: impl Fn(usize) -> u8, bit: usize, bits: u32) -> f32 {
    (i32::from(bits_from(byte, bit, bits)) - (1 << (bits - 1))) as f32
}

/// Reads so many bits, eight at most, from a bit on.
#[inline(always)]
fn bits_from(byte: impl Fn(usize) -> u8, bit: usize, bits: u32) -> u8 {
    // Two neighbouring bytes always hold them.
    let window = u16::from_le_bytes([byte(bit / 8), byte(bit / 8 + 1)]);
    (window >> (bit % 8) & ((1 << bits) - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pack::bit_by_bit;
    use half::{bf16, f16};

    fn decoded(codes: StoredCodes<'_>) -> Vec<f32> {
        let rows = codes.codes.len() / codes.format.row_bytes(codes.columns);
        let mut out = vec![0; rows * codes.columns * 2];
        decode(codes, SourceDtype::Bf16, &mut out, Simd::PORTABLE);
        for simd in Simd::available() {
            for dtype in [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32] {
                let [mut one, mut other] = [(); 2].map(|()| vec![0; rows * codes.columns * dtype.bytes()]);
                decode(codes, dtype, &mut one, Simd::PORTABLE);
                decode(codes, dtype, &mut other, simd);
                assert_eq!(one, other, "{simd:?} {dtype:?}");
            }
        }
        out.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect()
    }

    fn e4m3(codes: &[u8], columns: usize) -> StoredCodes<'_> {
        let group = [1, columns];
        let (format, scales, zeros) = (CodeFormat::E4m3, &[], &[]);
        StoredCodes { format, codes, columns, first_row: 0, group, scales, zeros, groups_of_columns: &[] }
    }

    #[test]
    fn columns_may_have_their_groups_in_any_order() {
        let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8];
        let (scales, zeros, groups_of_columns) = (&[1.0, 10.0, 0.5, 2.0], &[0.0, 1.0, 0.0, -1.0], &[1, 0, 0, 1]);
        let format = CodeFormat::Integer;
        let stored = StoredCodes { format, group: [1, 2], scales, zeros, groups_of_columns, ..e4m3(&bytes, 4) };
        assert_eq!(decoded(stored), [0.0, 2.0, 3.0, 30.0, 12.0, 3.0, 3.5, 18.0]);
    }

    #[test]
    fn every_code_decodes_to_its_value_times_the_scale() {
        let codes: Vec<u8> = (0..=255).collect();
        let twice = [codes.clone(), codes].concat();
        for scale in [1f32, 0.75, 3.0e-3, 2f32.powi(-127), 2f32.powi(-120), 2f32.powi(100)] {
            // With a table for 512 codes, and without for 256 in groups of 32.
            for (group, scales) in [([1, 512], vec![scale]), ([1, 32], vec![scale; 16])] {
                let found = decoded(StoredCodes { first_row: 5, group, scales: &scales, ..e4m3(&twice, 512) });
                for (code, found) in twice.iter().zip(found) {
                    let exact = float8::F8E4M3::from_bits(*code).to_f32() * scale;
                    let expected = bf16::from_f32(exact).to_f32();
                    assert!(found == expected || found.is_nan() && expected.is_nan(), "{code:#04x} {scale}");
                    let is_negative = *code > 0x80 && *code < 0xFF || *code == 0x80;
                    assert_eq!(found.is_sign_negative() && !found.is_nan(), is_negative);
                }
            }
        }
    }

    /// Every scale that is a power of two; under Miri, which interprets, those at the ends and a few between them.
    fn powers_of_two() -> impl Iterator<Item = f32> {
        let step = if cfg!(miri) { 127 } else { 1 };
        (0..255u32).step_by(step).map(|byte| f32::from_bits((byte << 23).max(1 << 22)))
    }

    #[test]
    fn every_nibble_decodes_to_its_value_times_the_scale() {
        let values = [0.0f32, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let value = |code: usize| if code < 8 { values[code] } else { -values[code - 8] };
        let codes: Vec<u8> = (0..=255).collect();
        for scale in powers_of_two() {
            let scales = [scale; 32];
            let stored = StoredCodes { format: CodeFormat::E2m1, group: [1, 16], scales: &scales, ..e4m3(&codes, 512) };
            for (column, found) in decoded(stored).into_iter().enumerate() {
                let byte = codes[column / 2];
                let expected = value(usize::from(byte >> (column % 2 * 4)) & 0xF) * scale;
                assert_eq!(found.to_bits(), bf16::from_f32(expected).to_f32().to_bits(), "{column} {scale:e}");
            }
        }
    }

    #[test]
    fn every_six_bits_decode_to_their_value_times_the_scale() {
        let values = [[0.0, 0.125], [1.0, 0.125], [2.0, 0.25], [4.0, 0.5]];
        let value = |code: u8| {
            let [first, step]: [f32; 2] = values[usize::from(code >> 3 & 3)];
            (first + f32::from(code & 7) * step) * if code < 32 { 1.0 } else { -1.0 }
        };
        let codes: Vec<u8> = (0..64).chain((0..64).rev()).collect();
        let packed = bit_by_bit(&codes, 6);
        for scale in powers_of_two() {
            let scales = [scale; 4];
            let stored =
                StoredCodes { format: CodeFormat::E2m3, group: [1, 32], scales: &scales, ..e4m3(&packed, 128) };
            for (&code, found) in codes.iter().zip(decoded(stored)) {
                let expected = bf16::from_f32(value(code) * scale).to_f32();
                assert_eq!(found.to_bits(), expected.to_bits(), "{code} {scale:e}");
            }
        }
    }

    #[test]
    fn packed_integers_decode_to_their_distance_from_the_zero_point() {
        for bits in 2..=8u32 {
            let half = 1 << (bits - 1);
            let integers: Vec<i32> = (0..77).map(|at| (at * 37) % (2 * half) - half).collect();
            let raised: Vec<u8> = integers.iter().map(|integer| (integer + half) as u8).collect();
            let packed = if bits == 8 { bit_by_bit(&raised, 8) } else { bit_by_bit(&raised, bits) };
            let (scales, zeros) = ([0.5, 2.0, -1.0], [0.0, -2.0, 1.0]);
            let of = |format, codes| StoredCodes {
                format,
                group: [1, 30],
                scales: &scales,
                zeros: &zeros,
                ..e4m3(codes, 77)
            };
            let expected: Vec<f32> = (integers.iter().enumerate())
                .map(|(at, &integer)| (integer as f32 - zeros[at / 30]) * scales[at / 30])
                .collect();
            assert_eq!(decoded(of(CodeFormat::PackedInteger(bits), &packed)), expected, "{bits}");
            let bytes: Vec<u8> = integers.iter().map(|&integer| integer as u8).collect();
            assert_eq!(decoded(of(CodeFormat::Integer, &bytes)), expected, "{bits}");
        }
    }

    #[test]
    fn rows_may_begin_inside_a_block() {
        // Groups of 2 x 3 in a weight of 5 columns, from row 3 on: rows 3 | 4 5 | 6.
        let codes = [0x38; 20];
        let scales = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let found = decoded(StoredCodes { first_row: 3, group: [2, 3], scales: &scales, ..e4m3(&codes, 5) });
        let expected = [[1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0]];
        let expected: Vec<f32> = expected.iter().flat_map(|[a, b]| [*a, *a, *a, *b, *b]).collect();
        assert_eq!(found, expected);
        // Blocks of which a table pays, with the same result.
        let (codes, scales) = ([0x38; 4 * 600], [1.0, 2.0, 3.0]);
        let found = decoded(StoredCodes { first_row: 3, group: [2, 600], scales: &scales, ..e4m3(&codes, 600) });
        assert_eq!((found[0], found[600], found[1200], found[1800]), (1.0, 2.0, 2.0, 3.0));
    }

    #[test]
    fn f16_f32_and_empty_rows_decode() {
        let codes = StoredCodes { scales: &[0.1], ..e4m3(&[0x7E, 0x81], 2) };
        let mut out = [0; 8];
        decode(codes, SourceDtype::F32, &mut out, Simd::detect());
        assert_eq!(out, [(448.0f32 * 0.1).to_le_bytes(), (-0.001953125f32 * 0.1).to_le_bytes()].concat()[..]);
        let mut out = [0; 4];
        decode(codes, SourceDtype::F16, &mut out, Simd::detect());
        assert_eq!(out[..2], f16::from_f32(448.0 * 0.1).to_le_bytes());
        decode(StoredCodes { codes: &[], columns: 0, ..codes }, SourceDtype::F32, &mut [], Simd::detect());
    }
}
