//! Bits of any number one after the other, lowest first.

/// Puts bits together.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl BitWriter {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.pending, self.count) = (0, 0);
    }

    /// Adds the lowest `count` bits of `value`, whose others are zero; 28 at most.
    pub(crate) fn push(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    /// The bytes of all bits so far, the last one filled up with zeros.
    pub(crate) fn finish(&mut self) -> &[u8] {
        let left = self.count.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..left]);
        (self.pending, self.count) = (0, 0);
        &self.bytes
    }
}

/// Takes bits apart.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    pending: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pending: 0, count: 0 }
    }

    /// The next `count` bits, 28 at most; zeros behind the end.
    //
    // What was read wrong shows in the checksum of the file, and bits that are left over in `is_spent`.
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        if self.count < count {
            let (word, rest) = match self.bytes.split_first_chunk::<4>() {
                Some((word, rest)) => (u32::from_le_bytes(*word), rest),
                None => {
                    let mut word = [0; 4];
                    word[..self.bytes.len()].copy_from_slice(self.bytes);
                    (u32::from_le_bytes(word), &[][..])
                }
            };
            self.bytes = rest;
            self.pending |= u64::from(word) << self.count;
            self.count += 32;
        }
        let value = self.pending as u32 & ((1 << count) - 1);
        self.pending >>= count;
        self.count -= count;
        value
    }

    /// Reports whether no byte is left.
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes.is_empty()
    }
}
