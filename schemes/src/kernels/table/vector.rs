//! The cast of half a tile over a small vector trait: one text for every instruction set.
//!
//! The files beside this one say how an instruction set loads, compares and looks up; what is computed stands here once.

use super::codes::{CodeTable, LIFT, LIFTED_LEAST, OCTAVES, SMALL};
use super::tile::{Half, HalfCodes, QUARTER};

/// A vector of unsigned bytes, one for each element.
///
/// # Safety
/// Every method may be called only where the instruction set of the implementation is enabled. All of them are
/// `#[inline(always)]`, since a vector that crosses a call goes through memory.
pub(super) trait Vector: Copy {
    /// Elements of one vector; it divides those of half a tile.
    const LANES: usize;

    /// A flag for each element.
    type Mask: Copy;

    /// Loads [`Vector::LANES`] elements from `source` and separates their low bytes from their high ones.
    unsafe fn load_apart(source: *const [u8; 2]) -> (Self, Self);

    /// Stores the bytes in the order of the elements.
    unsafe fn store(self, codes: *mut u8);

    unsafe fn splat(byte: u8) -> Self;

    /// Returns the base of each element of vector number `index` of half a tile, whose quarters have one each.
    unsafe fn bases(bases: [u8; 2], index: usize) -> Self;

    /// Joins the lower seven bits of `high` and the highest bit of `low`: the stored exponents of BF16.
    unsafe fn exponents(low: Self, high: Self) -> Self;

    /// Looks up the lifted codes of the mantissas, which are the lower seven bits of `low`.
    unsafe fn look_up(table: &CodeTable, low: Self) -> Self;

    unsafe fn times_8(self) -> Self;

    unsafe fn min(self, other: Self) -> Self;

    unsafe fn wrapping_sub(self, other: Self) -> Self;

    unsafe fn saturating_add(self, other: Self) -> Self;

    unsafe fn saturating_sub(self, other: Self) -> Self;

    /// Compares each byte with `limit`, which is at least 1.
    unsafe fn below(self, limit: u8) -> Self::Mask;

    /// Takes the highest bit of each byte from `high`, where that of `self` is clear.
    unsafe fn with_sign_of(self, high: Self) -> Self;

    unsafe fn no_flags() -> Self::Mask;

    unsafe fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask;

    unsafe fn any(mask: Self::Mask) -> bool;

    /// Returns the flags as bits, that of the first element lowest.
    unsafe fn bits(mask: Self::Mask) -> u64;
}

/// Casts the finite elements of half a tile, whose quarters have a base each, and tells which need a division: with
/// `EACH` by a bit each, that of the first element lowest; without it by a number that is not 0 if there is one.
///
/// # Safety
/// The instruction set of `V` is enabled where this is inlined, which is always.
//
// Arguments and not fields of a struct: only of references that are arguments does LLVM know that the table is not among
// the codes, and keeps it in registers. With a struct, channels took 1.30 instead of 1.25 times the narrowing copy with
// AVX-512, and 1.64 instead of 1.54 with AVX2.
#[inline(always)]
pub(super) unsafe fn cast_half<V: Vector, const EACH: bool>(
    half: &Half,
    table: &CodeTable,
    bases: [u8; 2],
    codes: &mut HalfCodes,
) -> u64 {
    // SAFETY: the caller has enabled the instruction set; vectors of LANES elements tile the half and its codes.
    unsafe {
        let (mut bits, mut any) = (0, V::no_flags());
        for index in 0..const { vectors::<V>() } {
            let (signed, small) = cast::<V>(half, table, bases, index);
            signed.store(codes.as_mut_ptr().add(index * V::LANES));
            if EACH {
                bits |= V::bits(small) << (index * V::LANES);
            } else {
                any = V::either(any, small);
            }
        }
        if EACH { bits } else { u64::from(V::any(any)) }
    }
}

/// Returns how many vectors make up half a tile.
const fn vectors<V: Vector>() -> usize {
    assert!(V::LANES * (2 * QUARTER / V::LANES) == 2 * QUARTER, "vectors tile half a tile");
    2 * QUARTER / V::LANES
}

/// Casts vector number `index` of half a tile: the signed codes, and the elements that need a division.
///
/// # Safety
/// The instruction set of `V` is enabled, and `index` is below [`vectors`].
#[inline(always)]
unsafe fn cast<V: Vector>(half: &Half, table: &CodeTable, bases: [u8; 2], index: usize) -> (V, V::Mask) {
    // SAFETY: as promised by the caller; the loads stay inside of the half.
    unsafe {
        let (low, high) = V::load_apart(half.as_ptr().add(index * V::LANES));
        let octaves = V::exponents(low, high).saturating_sub(V::bases(bases, index)).min(V::splat(OCTAVES));
        let lifted = octaves.times_8().saturating_add(V::look_up(table, low));
        // One subtraction and one comparison find both bounds: what lies below `LIFTED_LEAST` wraps around to the top.
        let small = lifted.wrapping_sub(V::splat(LIFTED_LEAST)).below(SMALL);
        (lifted.saturating_sub(V::splat(LIFT)).with_sign_of(high), small)
    }
}
