//! CRC-64/NVME: a checksum of a file or tensor that can be put together from those of its parts, in any order.
//!
//! Workers write a file in pieces of whatever size suits the machine, and the checksum of the whole must not show it.
//! A CRC is linear: the whole's is the exclusive or of the parts', each moved past the bytes that follow it.

mod elsewhere;

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use elsewhere::parts_of_elsewhere;

/// The polynomial, lowest power in the highest bit, without its leading term.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// The polynomial 1.
const ONE: u64 = 1 << 63;

/// `POWERS[k]` is x to the power of 8·2^k: multiplying by it moves a checksum past 2^k bytes.
const POWERS: [u64; 64] = powers();

/// Bytes that are read and summed at a time.
const CHUNK: usize = 1 << 20;

/// The CRC-64/NVME of some bytes; shown and stored as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc64(pub u64);

impl Crc64 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// Returns what these bytes contribute to the checksum of a whole in which `following` bytes follow them.
    #[must_use]
    pub fn before(self, following: u64) -> Self {
        let mut moved = self.0;
        let mut bits = following;
        while bits != 0 {
            moved = multiply(POWERS[bits.trailing_zeros() as usize], moved);
            bits &= bits - 1;
        }
        Self(moved)
    }

    /// The checksum of these bytes and then `len` bytes of checksum `next`.
    #[must_use]
    pub fn then(self, next: Self, len: u64) -> Self {
        Self(self.before(len).0 ^ next.0)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_plain { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

impl std::fmt::Display for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Crc64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Crc64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a checksum has 16 hexadecimal digits"))
    }
}

/// The checksums of the consecutive parts of a file, the first of which begins at offset 0. `advanced` is told of the
/// bytes of each read, a MiB or less, and ends the reading where it returns an error.
///
/// # Errors
/// The file cannot be read, or is shorter than its parts; or that of `advanced`.
pub fn parts_of(
    file: &File,
    lengths: &[u64],
    mut advanced: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Vec<Crc64>> {
    let mut buffer = vec![0; CHUNK];
    let mut sums = Vec::with_capacity(lengths.len());
    let mut offset = 0;
    let mut ready: &[u8] = &[];
    let total: u64 = lengths.iter().sum();
    for &length in lengths {
        let mut sum = Crc64::default();
        let mut left = length;
        while left > 0 {
            if ready.is_empty() {
                let len = (total - offset).min(CHUNK as u64) as usize;
                file.read_exact_at(&mut buffer[..len], offset)?;
                ready = &buffer[..len];
                offset += len as u64;
                advanced(len as u64)?;
            }
            let (part, rest) = ready.split_at(left.min(ready.len() as u64) as usize);
            sum = sum.then(Crc64::of(part), part.len() as u64);
            left -= part.len() as u64;
            ready = rest;
        }
        sums.push(sum);
    }
    Ok(sums)
}

/// Formats a digest as hexadecimal digits.
pub fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The checksum of a whole from those of its consecutive parts.
pub fn whole(parts: impl IntoIterator<Item = (Crc64, u64)>) -> Crc64 {
    parts.into_iter().fold(Crc64::default(), |sum, (part, len)| sum.then(part, len))
}

/// The product of two polynomials, modulo [`POLYNOMIAL`].
const fn multiply(a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    let mut bit = ONE;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

const fn powers() -> [u64; 64] {
    // x to the power of 8.
    let mut power = ONE >> 8;
    let mut powers = [0; 64];
    let mut k = 0;
    while k < powers.len() {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_crc_64_nvme() {
        // "Catalogue of parametrised CRC algorithms": the check value of CRC-64/NVME.
        assert_eq!(Crc64::of(b"123456789").to_string(), "ae8b14860a799888");
        assert_eq!(Crc64::of(b""), Crc64::default());
        assert_eq!(Crc64::parse("ae8b14860a799888"), Some(Crc64(0xae8b_1486_0a79_9888)));
        for text in ["", "ae8b14860a79988", "AE8B14860A799888", "+e8b14860a799888"] {
            assert_eq!(Crc64::parse(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_past_4_gib_combine() {
        // 2^33 + 5 bytes in one step, and in three.
        let sum = Crc64::of(b"seven");
        assert_eq!(sum.before((1 << 33) + 5), sum.before(1 << 32).before(5).before(1 << 32));
    }

    proptest! {
        #[test]
        fn checksums_of_parts_combine_to_that_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..3000), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut begin = 0;
            let mut any_order = 0;
            let mut lengths = Vec::new();
            for &end in &ends {
                any_order ^= Crc64::of(&bytes[begin..end]).before((bytes.len() - end) as u64).0;
                lengths.push((end - begin) as u64);
                begin = end;
            }
            prop_assert_eq!(Crc64(any_order), Crc64::of(&bytes));

            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut read = 0;
            let parts = parts_of(&file, &lengths, |bytes| { read += bytes; Ok(()) }).unwrap();
            prop_assert_eq!(read, bytes.len() as u64);
            prop_assert_eq!(whole(parts.into_iter().zip(lengths.iter().copied())), Crc64::of(&bytes));
            lengths.push(1);
            prop_assert!(parts_of(&file, &lengths, |_| Ok(())).is_err());
        }
    }
}
