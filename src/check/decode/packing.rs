//! The packing of codes into the bytes of a row.

/// The packing of a row's codes into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// One code in a byte.
    Bytes,
    /// Two codes in a byte, the first in its lower half.
    Nibbles,
    /// Four codes of six bits in three bytes, from the lowest bit on.
    Sixes,
    /// Integers of this many bits, eight at most, in 32-bit words from the lowest bit on. Each is stored raised by
    /// half of its range, and may begin in one word and end in the next.
    Words(u32),
}

impl Packing {
    /// Returns the bytes that this many codes take.
    pub(crate) fn bytes(self, codes: usize) -> usize {
        match self {
            Self::Bytes => codes,
            Self::Nibbles => codes.div_ceil(2),
            // A shape from a file may overflow: no tensor has this many bytes.
            Self::Sixes => codes.div_ceil(4).saturating_mul(3),
            Self::Words(bits) => words(codes, bits).saturating_mul(4),
        }
    }

    /// Returns the columns of a weight whose codes fill a row of this many elements; `None` where the packing does
    /// not tell, since the last word of a row may be filled in part.
    pub(crate) fn columns(self, stored: usize) -> Option<usize> {
        match self {
            Self::Bytes => Some(stored),
            // Saturating: a matrix without rows may declare any number of columns.
            Self::Nibbles => Some(stored.saturating_mul(2)),
            // Bytes that are too few for four more codes hold none.
            Self::Sixes => Some((stored / 3).saturating_mul(4)),
            Self::Words(_) => None,
        }
    }

    /// Appends the codes of a row of `columns` weights; packed integers become two's complement.
    pub(crate) fn unpack(self, bytes: &[u8], columns: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bytes => out.extend(&bytes[..columns]),
            Self::Nibbles => {
                out.extend(bytes[..columns / 2].iter().flat_map(|byte| [byte & 0xF, byte >> 4]));
                out.extend(bytes[..columns.div_ceil(2)].iter().skip(columns / 2).map(|byte| byte & 0xF));
            }
            Self::Sixes => {
                let four = |bytes: &[u8; 3]| {
                    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                    [0, 6, 12, 18].map(|shift| (word >> shift & 0x3F) as u8)
                };
                let end = out.len() + columns;
                out.extend(bytes.as_chunks().0.iter().take(columns.div_ceil(4)).flat_map(four));
                out.truncate(end);
            }
            Self::Words(2) => words_of::<2>(bytes, columns, out),
            Self::Words(3) => words_of::<3>(bytes, columns, out),
            Self::Words(4) => words_of::<4>(bytes, columns, out),
            Self::Words(5) => words_of::<5>(bytes, columns, out),
            Self::Words(6) => words_of::<6>(bytes, columns, out),
            Self::Words(7) => words_of::<7>(bytes, columns, out),
            Self::Words(8) => words_of::<8>(bytes, columns, out),
            Self::Words(bits) => out.extend((0..columns).map(|at| integer(bytes, at * bits as usize, bits))),
        }
    }
}

/// Returns the 32-bit words that this many integers fill.
pub(crate) fn words(integers: usize, bits: u32) -> usize {
    // A shape from a file may overflow: the saturated product then fits no tensor, and a finding says so.
    integers.saturating_mul(bits as usize).div_ceil(32)
}

/// Appends the first `columns` integers of `BITS` bits each.
//
// Eight integers fill as many bytes as each has bits, and a `u64` holds them all: with the number of bits known to the
// compiler, each is a shift and a mask.
fn words_of<const BITS: usize>(bytes: &[u8], columns: usize, out: &mut Vec<u8>) {
    let (eights, _) = bytes.as_chunks::<BITS>();
    let whole = eights.len().min(columns / 8);
    out.extend(eights[..whole].iter().flat_map(|eight| {
        let mut wide = [0; 8];
        wide[..BITS].copy_from_slice(eight);
        let wide = u64::from_le_bytes(wide);
        let lowered = |at: usize| (wide >> (at * BITS) & ((1 << BITS) - 1)) as u8;
        std::array::from_fn::<u8, 8, _>(|at| lowered(at).wrapping_sub(1 << (BITS - 1)))
    }));
    out.extend((whole * 8..columns).map(|at| integer(bytes, at * BITS, BITS as u32)));
}

/// Reads the integer whose bits begin at `bit`.
fn integer(bytes: &[u8], bit: usize, bits: u32) -> u8 {
    lowered(|at| bytes.get(at).copied().unwrap_or(0), bit, bits)
}

/// Reads the integer whose bits begin at `bit` of one column of a matrix of words.
pub(crate) fn integer_down(bytes: &[u8], column: usize, columns: usize, bit: usize, bits: u32) -> u8 {
    let byte = |at: usize| bytes.get((at / 4 * columns + column) * 4 + at % 4).copied().unwrap_or(0);
    lowered(byte, bit, bits)
}

/// Reads the integer that begins at `bit` and lowers it by half of its range, to two's complement.
fn lowered(byte: impl Fn(usize) -> u8, bit: usize, bits: u32) -> u8 {
    // Eight bits at most, so that two neighbouring bytes always hold the integer; past the end there is only padding.
    let window = u16::from(byte(bit / 8)) | u16::from(byte(bit / 8 + 1)) << 8;
    let raised = (window >> (bit % 8)) & ((1 << bits) - 1);
    raised.wrapping_sub(1 << (bits - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_unpacks_to_the_codes_that_were_packed() {
        let mut out = Vec::new();
        Packing::Nibbles.unpack(&[0x21, 0x43], 3, &mut out);
        assert_eq!(out, [1, 2, 3]);
        let mut out = vec![9];
        // 0x20 | 0x3F << 6 | 1 << 12 | 2 << 18, and a fifth code alone.
        Packing::Sixes.unpack(&[0xE0, 0x1F, 0x08, 0x15, 0, 0], 5, &mut out);
        assert_eq!(out, [9, 0x20, 0x3F, 1, 2, 0x15]);
        assert_eq!(
            (Packing::Sixes.bytes(32), Packing::Sixes.columns(24), Packing::Sixes.columns(25)),
            (24, Some(32), Some(32))
        );
        for bits in 2..=8u32 {
            let codes: Vec<i8> = (0..77).map(|at| (at * 37 % (1 << bits) - (1 << (bits - 1))) as i8).collect();
            // As a number of many bits, from its definition.
            let mut stream = vec![false; Packing::Words(bits).bytes(77) * 8];
            for (at, code) in codes.iter().enumerate() {
                let raised = i32::from(*code) + (1 << (bits - 1));
                for bit in 0..bits as usize {
                    stream[at * bits as usize + bit] = raised >> bit & 1 == 1;
                }
            }
            let bytes: Vec<u8> =
                stream.chunks(8).map(|byte| (0..8).map(|bit| u8::from(byte[bit]) << bit).sum()).collect();
            let mut out = Vec::new();
            Packing::Words(bits).unpack(&bytes, 77, &mut out);
            assert_eq!(out.iter().map(|code| code.cast_signed()).collect::<Vec<_>>(), codes, "{bits}");
        }
        assert_eq!(
            (Packing::Words(3).bytes(256), Packing::Words(3).bytes(257), Packing::Nibbles.bytes(3)),
            (96, 100, 2)
        );
    }
}
