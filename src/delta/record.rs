//! The records of a delta: one for each piece, and one for the end of each file.

use qwen_fp8_checkpoint::checksum::Crc64;

use crate::piece::PieceForm;

/// Bytes of a record before its payload: form, length of the payload, checksum of the base's bytes, checksum of the record.
pub(crate) const RECORD_HEAD: usize = 1 + 4 + 8 + 8;

/// The code of the record that ends a file.
const END: u8 = 0xff;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Piece(PieceForm),
    /// The end of a file; the checksum is that of the whole of it.
    EndOfFile,
}

/// The head of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordKind,
    pub(crate) payload: u32,
    /// The checksum of the base's bytes of a piece, zero where it needs none; or that of a file.
    pub(crate) sum: Crc64,
    check: Crc64,
}

impl RecordHead {
    /// The head of a record with this payload.
    pub(crate) fn new(kind: RecordKind, sum: Crc64, payload: &[u8]) -> Self {
        // A payload is a piece at most.
        let mut head = Self { kind, payload: payload.len() as u32, sum, check: Crc64::default() };
        head.check = head.checksum(payload);
        head
    }

    pub(crate) fn bytes(&self) -> [u8; RECORD_HEAD] {
        let mut bytes = [0; RECORD_HEAD];
        bytes[0] = match self.kind {
            RecordKind::Piece(form) => form.code(),
            RecordKind::EndOfFile => END,
        };
        bytes[1..5].copy_from_slice(&self.payload.to_le_bytes());
        bytes[5..13].copy_from_slice(&self.sum.0.to_le_bytes());
        bytes[13..].copy_from_slice(&self.check.0.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` where its code is none.
    pub(crate) fn read(bytes: &[u8; RECORD_HEAD]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let kind = match bytes[0] {
            END => RecordKind::EndOfFile,
            code => RecordKind::Piece(PieceForm::of(code)?),
        };
        let payload = u32::from_le_bytes(std::array::from_fn(|byte| bytes[1 + byte]));
        Some(Self { kind, payload, sum: Crc64(number(5)), check: Crc64(number(13)) })
    }

    /// Reports whether head and payload are as they were written.
    pub(crate) fn holds(&self, payload: &[u8]) -> bool {
        self.check == self.checksum(payload)
    }

    /// The checksum of all of the record but itself.
    fn checksum(&self, payload: &[u8]) -> Crc64 {
        Crc64::of(&self.bytes()[..13]).then(Crc64::of(payload), payload.len() as u64)
    }
}
