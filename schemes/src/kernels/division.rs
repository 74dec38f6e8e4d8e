//! The cast that divides: for every source, every scale and both roundings of the quotient.

use std::marker::PhantomData;

use super::e4m3;
use super::element::Element;
use super::walk::Caster;
use crate::Simd;

/// Divides each element by the scale in `f32`, rounds the quotient to the source dtype if `ROUNDED`, then to E4M3.
pub(super) struct Division<E, const ROUNDED: bool>(PhantomData<E>);

impl<E: Element, const ROUNDED: bool> Caster for Division<E, ROUNDED> {
    type Source = E;
    type Divisor = f32;

    #[inline(always)]
    fn divisor(scale: f32) -> f32 {
        scale
    }

    #[inline(always)]
    fn cast(source: &[E::Raw], scales: &[f32], width: usize, out: &mut [u8], _: Simd) {
        for ((source, out), &scale) in source.chunks(width).zip(out.chunks_mut(width)).zip(scales) {
            divide::<E, ROUNDED>(source, scale, out);
        }
    }
}

/// Casts finite elements to as many codes.
#[inline(always)]
pub(super) fn divide<E: Element, const ROUNDED: bool>(source: &[E::Raw], scale: f32, out: &mut [u8]) {
    for (code, &raw) in out.iter_mut().zip(source) {
        let quotient = E::widen(E::magnitude(raw)) / scale;
        // Clamping first changes nothing: 448 is a value of every source dtype.
        let quotient = if quotient < e4m3::MAX { quotient } else { e4m3::MAX };
        let quotient = if ROUNDED { E::round_quotient(quotient) } else { quotient };
        *code = e4m3::encode(quotient) | E::sign(raw);
    }
}
