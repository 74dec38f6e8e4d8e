//! From elements to integers: divided, raised by the zero point, rounded, and stored two at a time.

use super::qparams::IntegerCast;
use crate::Simd;
use crate::kernels::quotient::{Corrected, Divided, Multiplied, Quotient, has_fused, product_plus};
use crate::kernels::signed::Signed;

/// The form that integers take as codes.
#[derive(Clone, Copy)]
pub(super) struct CodeForm {
    least: f32,
    largest: f32,
    /// The number added to integers, so that none is below zero.
    raise: f32,
    /// Weight of the second code of a pair: `2^bits` when packed, 256 when each has a byte.
    second: f32,
    /// Bits of a pair that are flipped in the end, which takes `raise` off again.
    flip: u16,
    fused: bool,
}

impl CodeForm {
    #[inline(always)]
    pub(super) fn of(cast: IntegerCast, simd: Simd) -> Self {
        let (raise, flip) = if cast.packed { (f32::from(cast.half()), 0) } else { (128.0, 0x8080) };
        let bits = if cast.packed && cast.pairs() { cast.bits } else { 8 };
        let second = f32::from(1u16 << bits);
        Self { least: cast.least(), largest: cast.largest(), raise, second, flip, fused: has_fused(simd) }
    }
}

/// Casts the finite elements of a group to codes.
#[inline(always)]
pub(super) fn cast_group<E: Signed, const ROUNDED: bool>(
    elements: &[E::Raw],
    scale: f32,
    zero: f32,
    form: CodeForm,
    codes: &mut [u8],
    simd: Simd,
) {
    with_quotient::<E, ROUNDED, _>(scale, zero, simd, PairsOfCodes::<E> { elements, form, codes });
}

/// Work on the elements of a group, as soon as it is known how they are divided.
pub(super) trait WithQuotient<E: Signed> {
    type Output;

    fn run<const ROUNDED: bool>(self, quotient: impl Quotient, zero: Option<f32>) -> Self::Output;
}

/// Does `work` with the fastest quotient there is: one multiplication, where it rounds as the quotient does; a corrected product
/// for F32, which has too many bits for that; a division for scales that neither can invert.
#[inline(always)]
pub(super) fn with_quotient<E: Signed, const ROUNDED: bool, W: WithQuotient<E>>(
    scale: f32,
    zero: f32,
    simd: Simd,
    work: W,
) -> W::Output {
    let zero = (zero != 0.0).then_some(zero);
    if let Some(multiplied) = Multiplied::by::<E>(scale, simd) {
        match zero {
            None if ROUNDED => work.run::<ROUNDED>(multiplied, None),
            _ => work.run::<ROUNDED>(multiplied, Some(zero.unwrap_or_default())),
        }
    } else if let (false, Some(corrected)) = (E::SHORT, Corrected::by(scale, simd)) {
        work.run::<ROUNDED>(corrected, zero)
    } else {
        work.run::<ROUNDED>(Divided(scale), zero)
    }
}

/// Divides elements, adds the zero point, rounds, and raises the integers.
#[derive(Clone, Copy)]
pub(super) struct CodeRounding<Q> {
    quotient: Q,
    zero: Option<f32>,
    /// The bounds are where the product is, which saves a subtraction per element.
    least: f32,
    largest: f32,
    /// [`MAGIC`], raised.
    magic: f32,
}

impl<Q: Quotient> CodeRounding<Q> {
    #[inline(always)]
    pub(super) fn of<const ROUNDED: bool>(
        quotient: Q,
        zero: Option<f32>,
        (least, largest): (f32, f32),
        raise: f32,
    ) -> Self {
        let origin = quotient.origin::<ROUNDED>(zero);
        Self { quotient, zero, least: least + origin, largest: largest + origin, magic: MAGIC + (raise - origin) }
    }

    /// Returns `MAGIC` and the raised integer of an element: next to that number `f32` steps by 1, so that the adder rounds.
    #[inline(always)]
    pub(super) fn raised<E: Signed, const ROUNDED: bool>(&self, element: f32) -> f32 {
        let shifted = self.quotient.plus::<E, ROUNDED>(element, self.zero);
        let raised = if shifted > self.least { shifted } else { self.least };
        let clamped = if raised < self.largest { raised } else { self.largest };
        clamped + self.magic
    }
}

/// The codes of elements, two stored in two bytes.
struct PairsOfCodes<'a, E: Signed> {
    elements: &'a [E::Raw],
    form: CodeForm,
    codes: &'a mut [u8],
}

impl<E: Signed> WithQuotient<E> for PairsOfCodes<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<const ROUNDED: bool>(self, quotient: impl Quotient, zero: Option<f32>) {
        let CodeForm { least, largest, raise, second: weight, flip, fused } = self.form;
        let codes = CodeRounding::of::<ROUNDED>(quotient, zero, (least, largest), raise);
        let code = |element: f32| codes.raised::<E, ROUNDED>(element);
        let (pairs, last) = self.elements.as_chunks::<2>();
        let (codes, last_code) = self.codes.as_chunks_mut::<2>();
        for (codes, &pair) in codes.iter_mut().zip(pairs) {
            // In `f32`, where this is exact: of two integers LLVM would make narrow vectors before it joins them.
            let [first, second] = E::signed_pair(pair).map(code);
            let both = product_plus(second - MAGIC, weight, first, fused);
            *codes = (both.to_bits() as u16 ^ flip).to_le_bytes();
        }
        for (last_code, &last) in last_code.iter_mut().zip(last) {
            *last_code = (code(E::signed(last)).to_bits() as u16 ^ flip) as u8;
        }
    }
}

/// `1.5 * 2^23`: next to this number `f32` steps by 1.
pub(super) const MAGIC: f32 = 12_582_912.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::element::F32;

    #[test]
    fn ties_go_to_the_even_integer_and_the_ends_hold() {
        let values = [0.5f32, 1.5, -0.5, -1.5, 7.5, -8.5, 100.0, -100.0, -7.5, 6.5];
        let raw: Vec<[u8; 4]> = values.iter().map(|value| value.to_le_bytes()).collect();
        let mut codes = [0; 10];
        let cast = IntegerCast { bits: 4, round_quotient: false, packed: false, groups: 2, width: 5, search: false };
        let form = |packed, width| CodeForm::of(IntegerCast { packed, width, ..cast }, Simd::detect());
        let store = |form, codes: &mut [u8]| {
            PairsOfCodes::<F32> { elements: &raw, form, codes }.run::<false>(Divided(1.0), None);
        };
        store(form(false, 5), &mut codes);
        assert_eq!(codes.map(|code| code as i8), [0, 2, 0, -2, 7, -8, 7, -8, -8, 6]);
        store(form(true, 5), &mut codes);
        assert_eq!(codes, [8, 10, 8, 6, 15, 0, 15, 0, 0, 14]);
        store(form(true, 10), &mut codes);
        assert_eq!(codes, [0xA8, 0, 0x68, 0, 0x0F, 0, 0x0F, 0, 0xE0, 0]);
    }
}
