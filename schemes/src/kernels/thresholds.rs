//! The cast to E2M1 without a division: the bits of an element are compared with those of seven thresholds.

use super::signed::Signed;
use crate::Simd;
use crate::simd::InstructionSet;

/// Thresholds under one scale: the largest magnitudes that are still below each of the codes from 1 to 7.
#[derive(Clone, Copy)]
pub(super) struct Thresholds<E: Signed> {
    limits: [E::Magnitude; 7],
    /// The integer that is added to magnitudes before they are compared.
    raised: i32,
}

/// The quotients at which the codes change, as far as they can be told apart once they are rounded to `f32`.
///
/// The middles between E2M1 values go to the even code. Half a step of `f32` above or below a middle, quotients round to
/// it. These numbers have 25 bits: their product with an `f32` is exact in `f64`.
const QUOTIENTS: [(f64, TieSide); 7] = [
    (0.25 * (1.0 + HALF_STEP), TieSide::Below),
    (0.75 - 0.5 * HALF_STEP, TieSide::Above),
    (1.25 + HALF_STEP, TieSide::Below),
    (1.75 - HALF_STEP, TieSide::Above),
    (2.5 + 2.0 * HALF_STEP, TieSide::Below),
    (3.5 - 2.0 * HALF_STEP, TieSide::Above),
    (5.0 + 4.0 * HALF_STEP, TieSide::Below),
];

/// Half a step of the `f32` from 1 on.
const HALF_STEP: f64 = 1.0 / (1 << 24) as f64;

/// The code that a quotient exactly between two codes belongs to.
#[derive(Clone, Copy)]
enum TieSide {
    Below = 0,
    Above = 1,
}

impl<E: Signed> Thresholds<E> {
    /// The thresholds of quotients by `step`; `None` for a step under which the bits do not say it all: thresholds may be
    /// subnormal under smaller ones, and quotients by larger ones may be zero and lose their signs.
    #[inline(always)]
    pub(super) fn of(step: f32) -> Option<Self> {
        Self::has(step).then(|| {
            let limit =
                |(quotient, side): (f64, TieSide)| magnitude::<E>((quotient * step as f64).to_bits() - side as u64);
            Self { limits: QUOTIENTS.map(|at| E::from_integer(limit(at))), raised: 0 }
        })
    }

    /// The same for a power of two, which is taken off the exponents of elements: the limits are constants.
    #[inline(always)]
    pub(super) fn of_power(step: f32) -> Option<Self> {
        Self::has(step).then(|| {
            let octaves = 127 - (step.to_bits() >> 23) as i32;
            Self { limits: Self::OF_ONE.map(E::from_integer), raised: octaves << E::SIGNIFICAND }
        })
    }

    const OF_ONE: [i32; 7] = {
        let mut thresholds = [0; 7];
        let mut code = 0;
        while code < 7 {
            let (quotient, side) = QUOTIENTS[code];
            thresholds[code] = magnitude::<E>(quotient.to_bits() - side as u64);
            code += 1;
        }
        thresholds
    };

    #[inline(always)]
    fn has(step: f32) -> bool {
        (4.0 * E::SMALLEST_NORMAL..=1.0).contains(&step)
    }

    /// The codes of finite elements. As with [`e2m1::encode`](super::e2m1::encode), all but zeros keep their signs.
    #[inline(always)]
    pub(super) fn encode<const N: usize>(&self, elements: &[E::Raw; N], codes: &mut [u8; N], simd: Simd) {
        #[cfg(target_arch = "x86_64")]
        if size_of::<E::Raw>() == 2 && N.is_multiple_of(16) && simd.level() != InstructionSet::Portable {
            let limits = self.limits.map(|limit| E::integer(limit) as i16);
            // SAFETY: a `Simd` of another level is the proof that the machine has AVX2. The elements are `N` times two
            // bytes, and the codes `N` bytes.
            unsafe {
                let (words, codes) = (elements.as_ptr().cast(), codes.as_mut_ptr().cast());
                words::encode(words, codes, N / 16, limits, self.raised as i16);
            }
            return;
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (simd, InstructionSet::Portable);
        for (code, &raw) in codes.iter_mut().zip(elements) {
            let magnitude = E::magnitude(raw);
            let raised = E::integer(magnitude).saturating_add(self.raised);
            let passed = self.limits.iter().map(|&limit| u8::from(raised > E::integer(limit))).sum::<u8>();
            let sign = if magnitude > E::Magnitude::default() { E::sign(raw) >> 4 } else { 0 };
            *code = passed | sign;
        }
    }
}

/// The bits of an `f64` as those of the magnitude that it is cut off to: the magnitude at a threshold, or the last before.
#[inline(always)]
const fn magnitude<E: Signed>(bits: u64) -> i32 {
    const SIGNIFICAND: u32 = 52;
    const BIAS: i32 = 1023;
    ((bits >> (SIGNIFICAND - E::SIGNIFICAND)) as i32).wrapping_sub((BIAS - E::BIAS) << E::SIGNIFICAND)
}

#[cfg(target_arch = "x86_64")]
mod words {
    use std::arch::x86_64::*;

    /// The codes of 16 times `vectors` words that are a sign and a magnitude.
    ///
    /// # Safety
    /// So many words can be read at `words`, and so many bytes written at `codes`; neither needs an alignment.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) unsafe fn encode(
        words: *const __m256i,
        codes: *mut __m128i,
        vectors: usize,
        limits: [i16; 7],
        raised: i16,
    ) {
        for vector in 0..vectors {
            // SAFETY: the caller's promise; this load needs no alignment.
            let word = unsafe { _mm256_loadu_si256(words.add(vector)) };
            let magnitude = _mm256_and_si256(word, _mm256_set1_epi16(i16::MAX));
            let raised = _mm256_adds_epi16(magnitude, _mm256_set1_epi16(raised));
            // What is true is -1.
            let mut passed = _mm256_setzero_si256();
            for limit in limits {
                passed = _mm256_sub_epi16(passed, _mm256_cmpgt_epi16(raised, _mm256_set1_epi16(limit)));
            }
            let zero = _mm256_cmpeq_epi16(magnitude, _mm256_setzero_si256());
            let sign = _mm256_and_si256(_mm256_srli_epi16::<12>(word), _mm256_set1_epi16(8));
            let code = _mm256_or_si256(passed, _mm256_andnot_si256(zero, sign));
            let [low, high] = [_mm256_castsi256_si128(code), _mm256_extracti128_si256::<1>(code)];
            // SAFETY: the caller's promise; this store needs no alignment.
            unsafe { _mm_storeu_si128(codes.add(vector), _mm_packus_epi16(low, high)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::e2m1;
    use super::super::element::{Bf16, F16, F32};
    use super::*;

    /// Steps with few bits and with many, from the least to the largest.
    fn steps<E: Signed>() -> Vec<f32> {
        let octaves = (-20..=0).map(|exponent| 2f32.powi(exponent));
        let (least, largest) = ((4.0 * E::SMALLEST_NORMAL).to_bits(), 1f32.to_bits());
        octaves.chain((0..=400).map(|i| f32::from_bits(least + (largest - least) / 400 * i))).collect()
    }

    /// Sixteen elements at a time.
    fn check<E: Signed>(elements: &[E::Raw], step: f32) {
        let thresholds = Thresholds::<E>::of(step).unwrap();
        for simd in Simd::available() {
            for elements in elements.as_chunks::<16>().0 {
                let mut codes = [0; 16];
                thresholds.encode(elements, &mut codes, simd);
                let expected = elements.map(|raw| e2m1::encode(E::signed(raw) / step));
                assert_eq!(codes, expected, "{:e} and further / {step:e}, {simd}", E::signed(elements[0]));
            }
        }
    }

    #[test]
    fn every_short_element_has_the_code_of_its_quotient() {
        let finite = |infinite| (0..=u16::MAX).filter(move |bits| bits & 0x7FFF < infinite).map(u16::to_le_bytes);
        let elements: Vec<_> = finite(0x7F80).collect();
        steps::<Bf16>().into_iter().for_each(|step| check::<Bf16>(&elements, step));
        let elements: Vec<_> = finite(0x7C00).collect();
        let least = 4.0 * F16::SMALLEST_NORMAL;
        steps::<F16>().into_iter().filter(|&step| step >= least).for_each(|step| check::<F16>(&elements, step));
    }

    #[test]
    fn f32_elements_next_to_a_threshold_have_the_codes_of_their_quotients() {
        for step in steps::<F32>() {
            let near = |middle: f32| {
                let bits = (middle * step).to_bits();
                bits - 4..bits + 4
            };
            let near = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0].into_iter().flat_map(near);
            let bits = near.chain([0, 1, 2, 3, 4, 5, 6, f32::MAX.to_bits()]);
            let elements: Vec<_> = bits.flat_map(|bits| [bits, bits | 1 << 31].map(u32::to_le_bytes)).collect();
            assert_eq!(elements.len() % 16, 0);
            check::<F32>(&elements, step);
        }
    }

    #[test]
    fn scales_that_are_powers_of_two_give_the_same_thresholds_without_products() {
        fn agree<E: Signed>(elements: &[E::Raw], step: f32) {
            let both = [Thresholds::<E>::of(step), Thresholds::<E>::of_power(step)];
            let [Some(product), Some(power)] = both else {
                assert!(both.iter().all(Option::is_none), "{step:e}");
                return assert!(step < 4.0 * E::SMALLEST_NORMAL, "{step:e}");
            };
            for (simd, elements) in Simd::available().into_iter().flat_map(|simd| {
                let all = elements.as_chunks::<16>().0;
                all.iter().map(move |elements| (simd, elements))
            }) {
                let mut codes = [[0xA5; 16]; 2];
                product.encode(elements, &mut codes[0], simd);
                power.encode(elements, &mut codes[1], simd);
                assert_eq!(codes[0], codes[1], "{:e} and further / {step:e}, {simd}", E::signed(elements[0]));
            }
        }

        let finite = |infinite| (0..=u16::MAX).filter(move |bits| bits & 0x7FFF < infinite).map(u16::to_le_bytes);
        let [bf16, f16]: [Vec<_>; 2] = [0x7F80, 0x7C00].map(|infinite| finite(infinite).collect());
        let f32: Vec<_> = (0..0x7F80_0000u32).step_by(65_521).map(u32::to_le_bytes).collect();
        for step in (-124..=0).map(|exponent| 2f32.powi(exponent)) {
            agree::<Bf16>(&bf16, step);
            agree::<F16>(&f16, step);
            agree::<F32>(&f32, step);
        }
    }

    #[test]
    fn scales_that_bits_cannot_compare_have_no_thresholds() {
        for step in [0.0, f32::MIN_POSITIVE, 1f32.next_up(), f32::INFINITY] {
            assert!(Thresholds::<Bf16>::of(step).is_none(), "{step:e}");
        }
        assert!(Thresholds::<F16>::of((4.0 * F16::SMALLEST_NORMAL).next_down()).is_none());
    }
}
