//! The weights of the suite: made from a seed, the same on every machine.

use crate::{Matrix, SourceDtype};

/// What the numbers of a weight are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Normal,
    Zero,
    NegativeZero,
    /// Zero but for every third tile of 32 rows and columns.
    Sparse,
    Constant,
    Large,
    /// The smallest numbers of the dtype, subnormal ones among them.
    Tiny,
    /// Any finite bit pattern.
    Bits,
}

impl Content {
    pub(super) const ALL: [Self; 8] = [
        Self::Normal,
        Self::Zero,
        Self::NegativeZero,
        Self::Sparse,
        Self::Constant,
        Self::Large,
        Self::Tiny,
        Self::Bits,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Zero => "zero",
            Self::NegativeZero => "negative zero",
            Self::Sparse => "mostly zero",
            Self::Constant => "constant",
            Self::Large => "large",
            Self::Tiny => "tiny",
            Self::Bits => "any finite bits",
        }
    }
}

/// The bytes of a weight.
pub(super) fn sample(source: Matrix, content: Content) -> Vec<u8> {
    let mut random = Random(0x5EED ^ (source.rows as u64) << 32 ^ source.columns as u64);
    let mut bytes = vec![0; source.rows * source.row_bytes()];
    for index in 0..source.rows * source.columns {
        let (row, column) = (index / source.columns, index % source.columns);
        let bits = match content {
            Content::Normal => encode(source.dtype, random.normal() * 0.02),
            Content::Zero => 0,
            Content::NegativeZero => encode(source.dtype, -0.0),
            Content::Sparse if (row / 32 + column / 32) % 3 == 0 => encode(source.dtype, random.normal()),
            Content::Sparse => 0,
            Content::Constant => encode(source.dtype, -0.375),
            Content::Large => (largest(source.dtype) - (random.next() as u32 & 0x3F)) | sign(source.dtype, &mut random),
            Content::Tiny => (random.next() as u32 & 0x3F) | sign(source.dtype, &mut random),
            Content::Bits => (random.next() as u32 % (largest(source.dtype) + 1)) | sign(source.dtype, &mut random),
        };
        put(source, &mut bytes, index, bits);
    }
    bytes
}

/// Puts `value`, a NaN or an infinity, at an element.
pub(super) fn poison(source: Matrix, bytes: &mut [u8], index: usize, value: f32) {
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

fn sign(dtype: SourceDtype, random: &mut Random) -> u32 {
    (random.next() as u32 & 1) << (8 * dtype.bytes() - 1)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// The sum of twelve uniform numbers, less its mean: normal enough.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }
}
