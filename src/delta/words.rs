//! The words that tensors are made of, and how a word becomes a symbol and the bits that follow it.

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// How the bytes of a part are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WordKind {
    /// A file for people or parsers, which is deflated.
    Text,
    /// Bytes of any meaning: integers, packed codes.
    Bytes,
    F8,
    F16,
    Bf16,
    F32,
}

impl WordKind {
    /// The words of tensors of this dtype.
    pub(crate) fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::BF16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
            Dtype::F8_E4M3 | Dtype::F8_E5M2 => Self::F8,
            _ => Self::Bytes,
        }
    }

    /// What messages call the words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::F8 => "8-bit floats",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F32 => "F32",
        }
    }

    /// Bytes of a word.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Text | Self::Bytes | Self::F8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }
}

/// A word of `WIDTH` bytes, in the low bits of a `u32`.
pub(crate) trait Word {
    const WIDTH: usize;
    /// Set where the highest bit is a sign, and the others count up from zero in both directions.
    const SIGNED_MAGNITUDE: bool;
    /// Bits below those that tell how large the magnitude is; differences of words depend on these.
    const CONTEXT_SHIFT: u32;

    const BITS: u32 = 8 * Self::WIDTH as u32;
    const SIGN: u32 = 1 << (Self::BITS - 1);
    const MASK: u32 = u32::MAX >> (32 - Self::BITS);

    fn load(bytes: &[u8]) -> u32 {
        let mut word = [0; 4];
        word[..Self::WIDTH].copy_from_slice(&bytes[..Self::WIDTH]);
        u32::from_le_bytes(word)
    }

    fn store(word: u32, bytes: &mut [u8]) {
        bytes[..Self::WIDTH].copy_from_slice(&word.to_le_bytes()[..Self::WIDTH]);
    }

    /// What the statistics of the difference to an old word depend on: its exponent, as a rule.
    //
    // An update changes a small weight by more of its ulps than a large one: with the exponent known, the differences of
    // an RL update took three quarters of the bits, those of an abliterated weight nine tenths.
    fn context(old: u32) -> u8 {
        if Self::SIGNED_MAGNITUDE { ((old & !Self::SIGN) >> Self::CONTEXT_SHIFT) as u8 } else { 0 }
    }

    /// The place of a word in the order of the values, from the most negative on.
    fn order(word: u32) -> u32 {
        if !Self::SIGNED_MAGNITUDE {
            word
        } else if word & Self::SIGN != 0 {
            !word & Self::MASK
        } else {
            word | Self::SIGN
        }
    }

    /// The inverse of [`Word::order`].
    fn of_order(place: u32) -> u32 {
        if !Self::SIGNED_MAGNITUDE {
            place
        } else if place & Self::SIGN != 0 {
            place & !Self::SIGN
        } else {
            !place & Self::MASK
        }
    }

    /// How far `new` is from `old` in that order: 0, -1, 1, -2, 2 … become 0, 1, 2, 3, 4 …
    fn distance(old: u32, new: u32) -> u32 {
        let apart = Self::order(new).wrapping_sub(Self::order(old));
        let apart = (apart << (32 - Self::BITS)).cast_signed() >> (32 - Self::BITS);
        ((apart << 1) ^ (apart >> 31)).cast_unsigned() & Self::MASK
    }

    /// The inverse of [`Word::distance`].
    fn at_distance(old: u32, distance: u32) -> u32 {
        let apart = (distance >> 1) ^ (distance & 1).wrapping_neg();
        Self::of_order(Self::order(old).wrapping_add(apart) & Self::MASK)
    }

    /// The word turned so that its highest byte is what repeats: the exponent of a float.
    fn turned(word: u32) -> u32 {
        if Self::WIDTH > 1 { (word << 1 | word >> (Self::BITS - 1)) & Self::MASK } else { word }
    }

    /// The inverse of [`Word::turned`].
    fn turned_back(word: u32) -> u32 {
        if Self::WIDTH > 1 { (word >> 1 | word << (Self::BITS - 1)) & Self::MASK } else { word }
    }
}

macro_rules! word {
    ($name:ident, $width:literal, $signed:literal, $shift:literal) => {
        pub(crate) struct $name;

        impl Word for $name {
            const WIDTH: usize = $width;
            const SIGNED_MAGNITUDE: bool = $signed;
            const CONTEXT_SHIFT: u32 = $shift;
        }
    };
}

word!(ByteWord, 1, false, 0);
word!(Float8Word, 1, true, 3);
word!(Float16Word, 2, true, 10);
word!(Bfloat16Word, 2, true, 7);
word!(Float32Word, 4, true, 23);

/// Splits a distance into a symbol below 240, and the number and value of the bits that follow it.
///
/// A distance below 16 is its own symbol; one from there on has its length and the three bits below its highest one in the symbol.
pub(crate) fn split(distance: u32) -> (u8, u32, u32) {
    let follow = 28 - (distance | 8).leading_zeros();
    (((distance >> follow) + 8 * follow) as u8, follow, distance & ((1 << follow) - 1))
}

/// The number of bits that follow a symbol of [`split`], of which there are none from 240 on.
pub(crate) fn following(symbol: u8) -> u32 {
    (u32::from(symbol) / 8).saturating_sub(1)
}

/// The inverse of [`split`].
pub(crate) fn joined(symbol: u8, bits: u32) -> u32 {
    let follow = following(symbol);
    (u32::from(symbol) - 8 * follow) << follow | bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inverses<W: Word>(olds: &[u32], news: impl Iterator<Item = u32>) {
        for new in news {
            assert_eq!(W::turned_back(W::turned(new)), new);
            assert_eq!(W::of_order(W::order(new)), new);
            for &old in olds {
                let distance = W::distance(old, new);
                assert_eq!(W::at_distance(old, distance), new, "{old:#x} {new:#x}");
                let (symbol, follow, bits) = split(distance);
                assert!(symbol < 240 && follow == following(symbol) && bits >> follow == 0);
                assert_eq!(joined(symbol, bits), distance);
            }
        }
    }

    #[test]
    fn every_word_comes_back() {
        inverses::<ByteWord>(&(0..256).collect::<Vec<_>>(), 0..256);
        inverses::<Float8Word>(&(0..256).collect::<Vec<_>>(), 0..256);
        let olds = [0, 0x8000, 1, 0x8001, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc1, 0xffff];
        inverses::<Bfloat16Word>(&olds, 0..0x1_0000);
        inverses::<Float16Word>(&olds, 0..0x1_0000);
        let wide = [0, 0x8000_0000, 1, 0x3f80_0000, 0xff80_0000, u32::MAX];
        inverses::<Float32Word>(&wide, (0..=u32::MAX).step_by(65_521).chain(wide));
    }

    #[test]
    fn neighbouring_values_are_near() {
        // 1.0 and the next above; +0 and -0; the least subnormals of both signs.
        assert_eq!(Bfloat16Word::distance(0x3f80, 0x3f81), 2);
        assert_eq!(Bfloat16Word::distance(0x3f81, 0x3f80), 1);
        assert_eq!(Bfloat16Word::distance(0x0000, 0x8000), 1);
        assert_eq!(Bfloat16Word::distance(0x8001, 0x0001), 6);
    }
}
