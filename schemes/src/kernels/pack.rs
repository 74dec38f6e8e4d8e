//! Narrow codes, one in a byte, put together to a stream of bits whose first bit is the lowest of the first byte.

/// The bytes of `columns` codes of `bits` bits, padded to whole 32-bit words.
pub(crate) fn packed_bytes(columns: usize, bits: u32) -> usize {
    (columns * bits as usize).div_ceil(32) * 4
}

/// Packs codes below `2^bits`; what `out` has beyond them becomes zero.
#[inline(always)]
pub(super) fn pack(codes: &[u8], bits: u32, out: &mut [u8]) {
    match bits {
        8 => {
            let (codes_out, rest) = out.split_at_mut(codes.len());
            codes_out.copy_from_slice(codes);
            rest.fill(0);
        }
        4 => pack_pairs(codes, out),
        2 => pack_eights::<2>(codes, out),
        3 => pack_eights::<3>(codes, out),
        5 => pack_eights::<5>(codes, out),
        6 => pack_eights::<6>(codes, out),
        7 => pack_eights::<7>(codes, out),
        _ => unreachable!("codes have from 2 to 8 bits"),
    }
}

/// Packs two codes into each byte.
#[inline(always)]
pub(super) fn pack_pairs(codes: &[u8], out: &mut [u8]) {
    let (pairs, rest) = codes.as_chunks::<2>();
    let (bytes, last) = out.split_at_mut(pairs.len());
    for (byte, &pair) in bytes.iter_mut().zip(pairs) {
        let pair = u16::from_le_bytes(pair);
        *byte = (pair | pair >> 4) as u8;
    }
    last.fill(0);
    if let (Some(byte), [code]) = (last.first_mut(), rest) {
        *byte = *code;
    }
}

/// Packs eight codes into as many bytes as a code has bits.
#[inline(always)]
fn pack_eights<const BITS: usize>(codes: &[u8], out: &mut [u8]) {
    let (stretches, rest) = codes.as_chunks::<STRETCH>();
    let mut place = 0;
    for stretch in stretches {
        let mut joined = [0; STRETCH / 8];
        for (joined, eight) in joined.iter_mut().zip(stretch.as_chunks::<8>().0) {
            *joined = join::<BITS>(*eight);
        }
        place = store::<BITS>(&joined, out, place);
    }
    let (eights, rest) = rest.as_chunks::<8>();
    for &eight in eights {
        place = store::<BITS>(&[join::<BITS>(eight)], out, place);
    }
    let last = &mut out[place..];
    last.fill(0);
    if !rest.is_empty() {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        let used = (rest.len() * BITS).div_ceil(8);
        last[..used].copy_from_slice(&join::<BITS>(eight).to_le_bytes()[..used]);
    }
}

/// So many codes are joined with one another, which is vectorized, before they are stored, which is not.
const STRETCH: usize = 128;

/// Eight codes next to one another in the low bits: pairs first, then pairs of pairs.
#[inline(always)]
fn join<const BITS: usize>(eight: [u8; 8]) -> u64 {
    let codes = u64::from_le_bytes(eight);
    let pairs = codes & 0x00FF_00FF_00FF_00FF | (codes & 0xFF00_FF00_FF00_FF00) >> (8 - BITS);
    let fours = pairs & 0x0000_FFFF_0000_FFFF | (pairs & 0xFFFF_0000_FFFF_0000) >> (16 - 2 * BITS);
    fours & 0x0000_0000_FFFF_FFFF | (fours & 0xFFFF_FFFF_0000_0000) >> (32 - 4 * BITS)
}

/// Stores the low `BITS` bytes of each from `place` on, and tells where the next ones go.
#[inline(always)]
fn store<const BITS: usize>(joined: &[u64], out: &mut [u8], place: usize) -> usize {
    let end = place + joined.len() * BITS;
    // All eight bytes make one store; what is too much is overwritten by the next.
    match out.get_mut(place..end - BITS + 8) {
        Some(out) => {
            for (index, joined) in joined.iter().enumerate() {
                out[index * BITS..][..8].copy_from_slice(&joined.to_le_bytes());
            }
        }
        None => {
            for (out, joined) in out[place..end].chunks_exact_mut(BITS).zip(joined) {
                out.copy_from_slice(&joined.to_le_bytes()[..BITS]);
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_one_another_for_every_width_and_length() {
        for bits in 2..=8 {
            for columns in 0..70 {
                let codes: Vec<u8> = (0..columns).map(|i| (i as u32 * 37 + 11) as u8 & (0xFF >> (8 - bits))).collect();
                let mut expected = vec![0u8; packed_bytes(columns, bits)];
                for (index, code) in codes.iter().enumerate() {
                    for bit in (0..bits as usize).filter(|bit| code >> bit & 1 == 1) {
                        let place = index * bits as usize + bit;
                        expected[place / 8] |= 1 << (place % 8);
                    }
                }
                let mut out = vec![0xA5; expected.len()];
                pack(&codes, bits, &mut out);
                assert_eq!(out, expected, "{columns} codes of {bits} bits");
            }
        }
    }

    #[test]
    fn words_are_filled_from_their_low_end() {
        let mut out = [0; 4];
        pack(&[1, 2, 3, 4, 5, 6, 7, 8], 4, &mut out);
        assert_eq!(u32::from_le_bytes(out), 0x8765_4321);
    }
}
