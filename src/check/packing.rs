//! How codes lie in the bytes of a row.

/// How the codes of a row lie in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// One in a byte.
    Bytes,
    /// Two in a byte, the first in its lower half.
    Nibbles,
    /// Integers of so many bits, eight at most, each raised by half of their range, one behind the other from the lowest
    /// bit of 32-bit words on; one may begin in a word and end in the next.
    Words(u32),
}

impl Packing {
    /// Bytes that so many codes take.
    pub(super) fn bytes(self, codes: usize) -> usize {
        match self {
            Self::Bytes => codes,
            Self::Nibbles => codes.div_ceil(2),
            Self::Words(bits) => words(codes, bits).saturating_mul(4),
        }
    }

    /// Appends one code for each of `columns` weights, from the bytes that hold them; integers become two's complement.
    pub(super) fn unpack(self, bytes: &[u8], columns: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bytes => out.extend(&bytes[..columns]),
            Self::Nibbles => out.extend((0..columns).map(|at| bytes[at / 2] >> (at % 2 * 4) & 0xF)),
            Self::Words(bits) => out.extend((0..columns).map(|at| integer(bytes, at * bits as usize, bits))),
        }
    }
}

/// Words of 32 bits that so many integers fill; of more than there can be, too few to fit anything.
pub(super) fn words(integers: usize, bits: u32) -> usize {
    integers.saturating_mul(bits as usize).div_ceil(32)
}

/// The integer whose bits begin at `bit`.
fn integer(bytes: &[u8], bit: usize, bits: u32) -> u8 {
    lowered(|at| bytes.get(at).copied().unwrap_or(0), bit, bits)
}

/// The integer whose bits begin at `bit` of a column of words, which lie row after row.
pub(super) fn integer_down(bytes: &[u8], column: usize, columns: usize, bit: usize, bits: u32) -> u8 {
    let byte = |at: usize| bytes.get((at / 4 * columns + column) * 4 + at % 4).copied().unwrap_or(0);
    lowered(byte, bit, bits)
}

/// The integer of two's complement, of which half of the range is taken off again.
fn lowered(byte: impl Fn(usize) -> u8, bit: usize, bits: u32) -> u8 {
    let window = u16::from(byte(bit / 8)) | u16::from(byte(bit / 8 + 1)) << 8;
    let raised = (window >> (bit % 8)) & ((1 << bits) - 1);
    raised.wrapping_sub(1 << (bits - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_out_as_they_went_in() {
        let mut out = Vec::new();
        Packing::Nibbles.unpack(&[0x21, 0x43], 3, &mut out);
        assert_eq!(out, [1, 2, 3]);
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
