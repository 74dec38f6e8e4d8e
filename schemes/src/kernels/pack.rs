//! Narrow codes, one in a byte, put together to a stream of bits whose first bit is the lowest of the first byte.

use crate::Simd;
use crate::simd::Vectorized;

/// The bytes of `columns` codes of `bits` bits, padded to whole 32-bit words.
pub(crate) fn packed_bytes(columns: usize, bits: u32) -> usize {
    (columns * bits as usize).div_ceil(32) * 4
}

/// Packs a row of codes below `2^bits`: see [`pack`]. Those that stand in a byte each are joined to pairs first.
///
/// It is not inlined: the codes of all source dtypes are packed alike, and the six widths are a fifth of a cast's code.
#[inline(never)]
pub(super) fn pack_row(codes: &mut [u8], joined: bool, bits: u32, out: &mut [u8], simd: Simd) {
    simd.run(PackRow { codes, joined, bits, out });
}

struct PackRow<'a> {
    codes: &'a mut [u8],
    joined: bool,
    bits: u32,
    out: &'a mut [u8],
}

impl Vectorized for PackRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        if !self.joined {
            join_pairs(self.codes, self.bits);
        }
        pack(self.codes, self.bits, self.out);
    }
}

/// Packs codes below `2^bits`, two of which are a number of `2 * bits` bits in two bytes (of an odd number of codes the last
/// is a byte), and leaves nothing of use in their place; what `out` has beyond them becomes zero.
#[inline(always)]
pub(super) fn pack(pairs: &mut [u8], bits: u32, out: &mut [u8]) {
    match bits {
        4 => narrow_pairs(pairs, out),
        2 => pack_eights::<2>(pairs, out),
        3 => pack_eights::<3>(pairs, out),
        5 => pack_eights::<5>(pairs, out),
        6 => pack_eights::<6>(pairs, out),
        7 => pack_eights::<7>(pairs, out),
        _ => unreachable!("codes that are packed have from 2 to 7 bits"),
    }
}

/// Makes the pairs that [`pack`] takes of codes that stand in a byte each.
#[inline(always)]
pub(super) fn join_pairs(codes: &mut [u8], bits: u32) {
    for pair in codes.as_chunks_mut::<2>().0 {
        let codes = u16::from_le_bytes(*pair);
        *pair = (codes & 0xFF | codes >> 8 << bits).to_le_bytes();
    }
}

/// Packs two codes into each byte.
#[inline(always)]
pub(super) fn pack_pairs(codes: &[u8], out: &mut [u8]) {
    each_pair(codes, out, |pair| (pair | pair >> 4) as u8);
}

/// Packs pairs that are a byte already.
#[inline(always)]
fn narrow_pairs(pairs: &[u8], out: &mut [u8]) {
    each_pair(pairs, out, |pair| pair as u8);
}

/// Makes a byte of every two; the last of an odd number stays as it is.
#[inline(always)]
fn each_pair(codes: &[u8], out: &mut [u8], packed: impl Fn(u16) -> u8) {
    let (pairs, rest) = codes.as_chunks::<2>();
    let (bytes, last) = out.split_at_mut(pairs.len());
    for (byte, &pair) in bytes.iter_mut().zip(pairs) {
        *byte = packed(u16::from_le_bytes(pair));
    }
    last.fill(0);
    if let (Some(byte), [code]) = (last.first_mut(), rest) {
        *byte = *code;
    }
}

/// Packs eight codes into as many bytes as a code has bits.
#[inline(always)]
fn pack_eights<const BITS: usize>(pairs: &mut [u8], out: &mut [u8]) {
    let (eights, rest) = pairs.as_chunks_mut::<8>();
    // All are joined before the first is stored: this loop is vectorized, and the one over the gaps is not.
    for eight in &mut *eights {
        *eight = joined::<BITS>(*eight);
    }
    let (packed, last) = out.split_at_mut(eights.len() * BITS);
    close_gaps::<BITS>(eights, packed);
    last.fill(0);
    if !rest.is_empty() {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        let used = (rest.len() * BITS).div_ceil(8);
        last[..used].copy_from_slice(&joined::<BITS>(eight)[..used]);
    }
}

/// Four pairs next to one another in the first bytes: two and two first, then both.
#[inline(always)]
fn joined<const BITS: usize>(eight: [u8; 8]) -> [u8; 8] {
    let pairs = u64::from_le_bytes(eight);
    let fours = pairs & 0x0000_FFFF_0000_FFFF | (pairs & 0xFFFF_0000_FFFF_0000) >> (16 - 2 * BITS);
    (fours & 0x0000_0000_FFFF_FFFF | (fours & 0xFFFF_FFFF_0000_0000) >> (32 - 4 * BITS)).to_le_bytes()
}

/// Stores the first `BITS` bytes of each eight next to one another.
#[inline(always)]
fn close_gaps<const BITS: usize>(eights: &[[u8; 8]], packed: &mut [u8]) {
    let (stretches, few) = eights.as_chunks::<STRETCH>();
    let (whole, ends) = packed.split_at_mut(stretches.len() * STRETCH * BITS);
    let mut closed = [0; STRETCH * 8];
    for (stretch, packed) in stretches.iter().zip(whole.chunks_exact_mut(STRETCH * BITS)) {
        // All eight bytes make one store; what is too much is overwritten by the next.
        for (index, eight) in stretch.iter().enumerate() {
            closed[index * BITS..][..8].copy_from_slice(eight);
        }
        packed.copy_from_slice(&closed[..STRETCH * BITS]);
    }
    for (packed, eight) in ends.as_chunks_mut::<BITS>().0.iter_mut().zip(few) {
        packed.copy_from_slice(&eight[..BITS]);
    }
}

/// Eights that go to memory together. Stores of 3 or 5 bytes each waited longer for it than one of 32 eights.
const STRETCH: usize = 32;

/// Packs codes bit by bit, as the definition says.
#[cfg(test)]
pub(super) fn bit_by_bit(codes: &[u8], bits: u32) -> Vec<u8> {
    let mut packed = vec![0; packed_bytes(codes.len(), bits)];
    for (index, code) in codes.iter().enumerate() {
        for bit in (0..bits as usize).filter(|bit| code >> bit & 1 == 1) {
            let place = index * bits as usize + bit;
            packed[place / 8] |= 1 << (place % 8);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_one_another_for_every_width_and_length() {
        for bits in 2..8 {
            for columns in (0..300).chain([512, 555]) {
                let codes: Vec<u8> = (0..columns).map(|i| (i as u32 * 37 + 11) as u8 & (0xFF >> (8 - bits))).collect();
                let expected = bit_by_bit(&codes, bits);
                for simd in Simd::available() {
                    let mut out = vec![0xA5; expected.len()];
                    pack_row(&mut codes.clone(), false, bits, &mut out, simd);
                    assert_eq!(out, expected, "{columns} codes of {bits} bits, {simd}");
                }
            }
        }
    }

    #[test]
    fn words_are_filled_from_their_low_end() {
        let mut out = [0; 4];
        pack(&mut [0x21, 0, 0x43, 0, 0x65, 0, 0x87, 0], 4, &mut out);
        assert_eq!(u32::from_le_bytes(out), 0x8765_4321);
    }
}
