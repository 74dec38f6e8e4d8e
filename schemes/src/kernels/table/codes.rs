//! The table of one scale, where it applies, and the numbers that its bytes are computed with.

use std::sync::LazyLock;

use crate::kernels::division::divide;
use crate::kernels::element::Bf16;

/// The codes of the significands under one significand of a scale, where no vector of them crosses a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct CodeTable {
    #[cfg(any(target_arch = "x86_64", test))]
    pub(super) codes: [u8; 128],
    /// The first of each 8 codes.
    pub(super) first: [u8; 16],
    /// The last mantissa of each 8 that has that code.
    pub(super) last: [u8; 16],
}

/// The octave in which a table applies.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct TablePlace {
    pub(super) scale: f32,
    /// The number that is subtracted from the stored exponents of elements.
    pub(super) base: u8,
    /// Divides all elements: the scale is so small that subnormal weights count.
    pub(super) divided: bool,
}

/// Octaves below the scale from which on elements are zero.
pub(super) const DEPTH: u8 = 12;

/// The number that codes are lifted by while they are computed: that of 448 is then the largest byte.
pub(super) const LIFT: u8 = u8::MAX - 0x7E;

/// The code of `2^-10`, lifted, if there were normal values down to there: all below is zero.
pub(super) const LIFTED_LEAST: u8 = LIFT - 24;

/// The number of lifted codes from that one on that belong to elements which are neither zero nor normal.
pub(super) const SMALL: u8 = 32;

/// The most octaves of which eight times is still a byte: more than there are below 448.
pub(super) const OCTAVES: u8 = 31;

impl TablePlace {
    /// A place under which every code is zero.
    pub(super) const NOWHERE: Self = Self { scale: f32::INFINITY, base: u8::MAX, divided: false };

    #[inline(always)]
    pub(super) fn of(scale: f32) -> Self {
        match ((scale.to_bits() >> 23) as u8).checked_sub(DEPTH) {
            Some(base) => Self { scale, base, divided: false },
            None => Self { scale, base: 0, divided: true },
        }
    }

    /// Returns the place of a power of two, given as its reciprocal; under a reciprocal of zero every code is zero.
    #[inline(always)]
    pub(in crate::kernels) fn of_power(reciprocal: f32) -> Self {
        match reciprocal > 0.0 {
            true => Self::of(1.0 / reciprocal),
            false => Self::NOWHERE,
        }
    }
}

impl CodeTable {
    /// Returns the table of a scale, of which only the significand counts.
    #[inline(always)]
    pub(super) fn of<const ROUNDED: bool>(scale: f32) -> Self {
        // Scales in BF16 have 128 significands: their tables are made once. Those of F32 are made for each scale.
        static OF_BF16: [LazyLock<Box<[CodeTable]>>; 2] = [
            LazyLock::new(|| (0..128).map(|significand| CodeTable::made::<false>(significand << 16)).collect()),
            LazyLock::new(|| (0..128).map(|significand| CodeTable::made::<true>(significand << 16)).collect()),
        ];
        let significand = scale.to_bits() & 0x007F_FFFF;
        match significand & 0xFFFF {
            0 => OF_BF16[usize::from(ROUNDED)][significand as usize >> 16],
            _ => Self::made::<ROUNDED>(significand),
        }
    }

    /// Divides all significands by one of `f32`, given as the bits that are stored.
    #[inline(always)]
    fn made<const ROUNDED: bool>(significand: u32) -> Self {
        let mut codes = [0; 128];
        divide::<Bf16, ROUNDED>(&SIGNIFICANDS, f32::from_bits(significand | 127 << 23), &mut codes);
        // Quotients are between a half and 2, and lie `DEPTH` octaves above none.
        let codes = codes.map(|code| code + LIFT - 8 * DEPTH);
        let eights = codes.as_chunks::<8>().0;
        let first = std::array::from_fn(|index| eights[index][0]);
        let last = std::array::from_fn(|index| {
            let same = eights[index].iter().map(|&code| u8::from(code == first[index])).sum::<u8>();
            8 * index as u8 + same - 1
        });
        Self {
            #[cfg(any(target_arch = "x86_64", test))]
            codes,
            first,
            last,
        }
    }
}

/// All BF16 from 1 to 2.
const SIGNIFICANDS: [[u8; 2]; 128] = {
    let mut all = [[0; 2]; 128];
    let mut mantissa = 0;
    while mantissa < 128 {
        all[mantissa] = (127 << 7 | mantissa as u16).to_le_bytes();
        mantissa += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that the first ones and the last mantissas stand for.
    fn expanded(table: &CodeTable) -> [u8; 128] {
        std::array::from_fn(|mantissa| {
            let eight = mantissa / 8;
            table.first[eight] + u8::from(mantissa as u8 > table.last[eight])
        })
    }

    fn check<const ROUNDED: bool>(significand: u32) {
        let table = CodeTable::made::<ROUNDED>(significand);
        assert_eq!(expanded(&table), table.codes, "{significand:#08x}");
        assert!(table.codes.is_sorted() && table.codes[127] < LIFT, "{significand:#08x}");
    }

    #[test]
    fn no_eight_mantissas_have_three_codes() {
        // Those next to a BF16, where quotients are nearly in the middle between two codes, and others.
        let near = (0..128).flat_map(|bf16| (-3..=3).map(move |step: i32| ((bf16 << 16) + step) as u32 & 0x007F_FFFF));
        for significand in near.chain((0..1 << 23).step_by(997)) {
            check::<false>(significand);
            check::<true>(significand);
        }
    }

    #[test]
    fn a_scale_has_the_table_of_its_significand() {
        for scale in [1.0, 1.5, 0.013, f32::from_bits(0x3C7F_0000), f32::MIN_POSITIVE] {
            let made = CodeTable::made::<false>(scale.to_bits() & 0x007F_FFFF);
            assert_eq!(CodeTable::of::<false>(scale).codes, made.codes);
            let made = CodeTable::made::<true>(scale.to_bits() & 0x007F_FFFF);
            assert_eq!(CodeTable::of::<true>(scale).codes, made.codes);
        }
        let base = |scale| (TablePlace::of(scale).base, TablePlace::of(scale).divided);
        let [smallest, smaller] = [-115, -116].map(|exponent| base(2f32.powi(exponent)));
        assert_eq!((base(1.0), smallest, smaller), ((115, false), (0, false), (0, true)));
    }
}
