//! Weights of the suite, made from a seed and the same on every machine.

use crate::{Matrix, SourceDtype};

/// Kind of a weight's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleContent {
    Normal,
    /// Normal but for one value that is thousands of times larger.
    Outlier,
    Zero,
    NegativeZero,
    /// Zero but for every third block of 32 rows and columns.
    Sparse,
    Constant,
    /// The largest number of the dtype and those next to it.
    Large,
    /// The smallest numbers of the dtype and all subnormal ones.
    Tiny,
    /// Every value halfway between two neighbours of E4M3, under a scale that is a power of two.
    TiesOfE4m3,
    /// The same for E2M1.
    TiesOfE2m1,
    /// The same for integers of 8 bits in the first row, of 7 in the second, down to 2, and again.
    TiesOfIntegers,
    /// Any finite bit pattern.
    Bits,
}

impl SampleContent {
    pub(super) const ALL: [Self; 12] = [
        Self::Normal,
        Self::Outlier,
        Self::Zero,
        Self::NegativeZero,
        Self::Sparse,
        Self::Constant,
        Self::Large,
        Self::Tiny,
        Self::TiesOfE4m3,
        Self::TiesOfE2m1,
        Self::TiesOfIntegers,
        Self::Bits,
    ];

    /// Returns whether the difference of two values may be infinite.
    pub(super) fn is_vast(self) -> bool {
        matches!(self, Self::Large | Self::Bits)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Outlier => "normal but for one",
            Self::Zero => "zero",
            Self::NegativeZero => "negative zero",
            Self::Sparse => "mostly zero",
            Self::Constant => "constant",
            Self::Large => "large",
            Self::Tiny => "tiny",
            Self::TiesOfE4m3 => "ties of E4M3",
            Self::TiesOfE2m1 => "ties of E2M1",
            Self::TiesOfIntegers => "ties of integers",
            Self::Bits => "any finite bits",
        }
    }
}

/// Returns the bytes of a weight.
pub(super) fn sample(source: Matrix, content: SampleContent) -> Vec<u8> {
    let Matrix { dtype, rows, columns } = source;
    let mut random = Random::new(0x5EED ^ (rows as u64) << 32 ^ columns as u64);
    let mut bytes = vec![0; rows * source.row_bytes()];
    for index in 0..rows * columns {
        let (row, column) = (index / columns, index % columns);
        let bits = match content {
            SampleContent::Outlier if index == rows * columns / 2 => encode(dtype, -60.0),
            SampleContent::Normal | SampleContent::Outlier => encode(dtype, random.normal() * 0.02),
            SampleContent::Zero => 0,
            SampleContent::NegativeZero => encode(dtype, -0.0),
            SampleContent::Sparse if (row / 32 + column / 32) % 3 == 0 => encode(dtype, random.normal()),
            SampleContent::Sparse => 0,
            SampleContent::Constant => encode(dtype, -0.375),
            SampleContent::Large if index == 0 => largest(dtype),
            SampleContent::Large => (largest(dtype) - (random.next() as u32 & 0x3F)) | sign(dtype, &mut random),
            // Rows of fewer and fewer digits.
            SampleContent::Tiny => {
                let subnormal = random.next() as u32 & ((1 << significand(dtype)) - 1);
                (subnormal >> (row as u32 % significand(dtype))) | sign(dtype, &mut random)
            }
            SampleContent::TiesOfE4m3 => encode(dtype, tie(column, row, 448.0, e4m3_tie) * 2f32.powi(-14)),
            SampleContent::TiesOfE2m1 => encode(dtype, tie(column, row, 6.0, e2m1_tie) * 2f32.powi(-6)),
            SampleContent::TiesOfIntegers => {
                let levels = 1 << (8 - row % 7);
                let tie = tie(column, row, (levels - 1) as f32 / 2.0, |number| (number % (levels / 2)) as f32 + 0.5);
                encode(dtype, tie * 2f32.powi(-6))
            }
            SampleContent::Bits => (random.next() as u32 % (largest(dtype) + 1)) | sign(dtype, &mut random),
        };
        put(source, &mut bytes, index, bits);
    }
    bytes
}

/// Returns the value at a column: 16 columns begin with the largest value of both signs, so that every group has it,
/// and go on with ties.
fn tie(column: usize, row: usize, largest: f32, nth: impl Fn(usize) -> f32) -> f32 {
    match column % 16 {
        0 => largest,
        1 => -largest,
        place => {
            // Each tie with both signs.
            let number = column / 16 * 14 + place - 2 + row;
            if number.is_multiple_of(2) { nth(number / 2) } else { -nth(number / 2) }
        }
    }
}

/// Returns a value halfway between two neighbours of E4M3.
fn e4m3_tie(number: usize) -> f32 {
    let value = |code: usize| match (code / 8, code % 8) {
        (0, step) => step as f32 * 2f32.powi(-9),
        (exponent, step) => (8 + step) as f32 * 2f32.powi(exponent as i32 - 10),
    };
    let code = number % 0x7E;
    (value(code) + value(code + 1)) / 2.0
}

/// Returns a value halfway between two neighbours of E2M1.
fn e2m1_tie(number: usize) -> f32 {
    [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0][number % 7]
}

/// Puts `value`, a NaN or an infinity, at an element.
pub(super) fn put_non_finite(source: Matrix, bytes: &mut [u8], index: usize, value: f32) {
    put(source, bytes, index, encode(source.dtype, value));
}

fn put(source: Matrix, bytes: &mut [u8], index: usize, bits: u32) {
    let size = source.dtype.bytes();
    bytes[index * size..][..size].copy_from_slice(&bits.to_le_bytes()[..size]);
}

fn encode(dtype: SourceDtype, value: f32) -> u32 {
    match dtype {
        SourceDtype::Bf16 => half::bf16::from_f32(value).to_bits().into(),
        SourceDtype::F16 => half::f16::from_f32(value).to_bits().into(),
        SourceDtype::F32 => value.to_bits(),
    }
}

fn largest(dtype: SourceDtype) -> u32 {
    match dtype {
        SourceDtype::Bf16 => half::bf16::MAX.to_bits().into(),
        SourceDtype::F16 => half::f16::MAX.to_bits().into(),
        SourceDtype::F32 => f32::MAX.to_bits(),
    }
}

/// Returns the number of stored bits of the significand: values with no other bits set are subnormal.
fn significand(dtype: SourceDtype) -> u32 {
    match dtype {
        SourceDtype::Bf16 => 7,
        SourceDtype::F16 => 10,
        SourceDtype::F32 => 23,
    }
}

fn sign(dtype: SourceDtype, random: &mut Random) -> u32 {
    (random.next() as u32 & 1) << (8 * dtype.bytes() - 1)
}

/// Random numbers by SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// Returns the sum of four uniform numbers, less its mean, scaled to unit variance: normal enough.
    fn normal(&mut self) -> f32 {
        let uniform = self.next();
        let sum: u32 = (0..4).map(|part| (uniform >> (16 * part)) as u16 as u32).sum();
        (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_row_holds_every_tie_of_e4m3_and_of_8_bits() {
        let source = Matrix { dtype: SourceDtype::F32, rows: 1, columns: 300 };
        let distinct = |content, scale: f32| {
            let bytes = sample(source, content);
            let values = bytes.as_chunks().0.iter().map(|&value| (f32::from_le_bytes(value).abs() / scale).to_bits());
            values.collect::<BTreeSet<u32>>()
        };
        let e4m3 = distinct(SampleContent::TiesOfE4m3, 2f32.powi(-14));
        assert!((0..0x7E).all(|number| e4m3.contains(&e4m3_tie(number).to_bits())));
        let integers = distinct(SampleContent::TiesOfIntegers, 2f32.powi(-6));
        assert!((0..128).all(|number| integers.contains(&(number as f32 + 0.5).to_bits())));
        assert_eq!(distinct(SampleContent::TiesOfE2m1, 2f32.powi(-6)).len(), 8);
    }

    #[test]
    fn ties_are_exact_in_every_dtype() {
        for content in [SampleContent::TiesOfE4m3, SampleContent::TiesOfE2m1, SampleContent::TiesOfIntegers] {
            let of = |dtype| sample(Matrix { dtype, rows: 7, columns: 300 }, content);
            let exact: Vec<f32> = of(SourceDtype::F32).as_chunks().0.iter().map(|&f| f32::from_le_bytes(f)).collect();
            let bf16 = of(SourceDtype::Bf16);
            assert!(
                bf16.as_chunks().0.iter().map(|&f| half::bf16::from_le_bytes(f).to_f32()).eq(exact.iter().copied())
            );
            let f16 = of(SourceDtype::F16);
            assert!(f16.as_chunks().0.iter().map(|&f| half::f16::from_le_bytes(f).to_f32()).eq(exact.iter().copied()));
        }
    }
}
