//! Putting a delta on: the files of the new checkpoint, from records and the base.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use qwen_fp8_checkpoint::checksum::Crc64;
use qwen_fp8_checkpoint::progress::ProgressSink;
use rayon::prelude::*;

use crate::base::{BaseFiles, BasePlace};
use crate::contents::{ContentFile, ContentPart, PIECE};
use crate::error::DeltaError;
use crate::make::batch;
use crate::open::DeltaReader;
use crate::piece::{PieceForm, decode};
use crate::record::{RecordHead, RecordKind};

/// A record of a piece that was read and is to be decoded.
struct StoredPiece<'a> {
    part: &'a ContentPart,
    form: PieceForm,
    payload: Vec<u8>,
    /// Where its record stands in the delta.
    record: u64,
    /// Checksum and place of the base's bytes.
    base: Crc64,
    place: Option<BasePlace>,
    /// Place in its part, and in the file.
    at: u64,
    offset: u64,
    len: usize,
}

impl DeltaReader<'_> {
    /// Writes the next file of the delta into `out`, an empty file that is called `path`, and returns its checksum.
    ///
    /// # Errors
    /// The base is another one, the delta is damaged, or the file cannot be written; [`DeltaError::Cancelled`].
    pub fn restore(
        &mut self,
        file: &ContentFile,
        base: &BaseFiles<'_>,
        out: &File,
        path: &Path,
        progress: &dyn ProgressSink,
    ) -> Result<Crc64, DeltaError> {
        progress.at(&file.name);
        let (mut sum, mut offset, mut stored) = (Crc64::default(), 0, Vec::with_capacity(batch()));
        for part in &file.parts {
            for (at, len) in part.pieces() {
                let (head, record) = self.head(len)?;
                let RecordKind::Piece(form) = head.kind else {
                    return Err(self.damaged(record, "a file ends there before it is whole"));
                };
                let payload = self.payload(&head, record)?;
                let place = base.place(file, part, at, len).filter(|_| form.needs_base());
                let piece =
                    StoredPiece { part, form, payload, record, base: head.sum, place, at, offset: offset + at, len };
                stored.push(piece);
                if stored.len() == batch() {
                    self.pieces(file, &mut stored, base, (out, path), &mut sum, progress)?;
                }
            }
            offset += part.bytes;
        }
        self.pieces(file, &mut stored, base, (out, path), &mut sum, progress)?;
        let (end, record) = self.end_of_file()?;
        if end == sum { Ok(sum) } else { Err(self.damaged(record, "the file that ends there came out otherwise")) }
    }

    /// Passes over the next file of the delta, and returns the checksum that it has.
    ///
    /// # Errors
    /// The delta is damaged.
    pub fn pass_over(&mut self, file: &ContentFile) -> Result<Crc64, DeltaError> {
        for (_, len) in file.parts.iter().flat_map(ContentPart::pieces) {
            let (head, _) = self.head(len)?;
            self.skip(&head);
        }
        self.end_of_file().map(|(sum, _)| sum)
    }

    fn end_of_file(&mut self) -> Result<(Crc64, u64), DeltaError> {
        let (head, record): (RecordHead, u64) = self.head(0)?;
        self.payload(&head, record)?;
        match head.kind {
            RecordKind::EndOfFile => Ok((head.sum, record)),
            RecordKind::Piece(_) => Err(self.damaged(record, "a file goes on there after its last byte")),
        }
    }

    fn pieces(
        &self,
        file: &ContentFile,
        stored: &mut Vec<StoredPiece<'_>>,
        base: &BaseFiles<'_>,
        (out, path): (&File, &Path),
        sum: &mut Crc64,
        progress: &dyn ProgressSink,
    ) -> Result<(), DeltaError> {
        if progress.is_cancelled() {
            return Err(DeltaError::Cancelled);
        }
        let buffers = || (vec![0; PIECE], vec![0; PIECE]);
        let sums: Vec<Result<Crc64, DeltaError>> = stored
            .par_iter()
            .map_init(buffers, |(old, new), piece| {
                let (old, new) = (&mut old[..piece.len], &mut new[..piece.len]);
                self.piece(file, piece, base, old, new)?;
                out.write_all_at(new, piece.offset)
                    .map_err(|error| DeltaError::Write { path: path.to_owned(), error })?;
                Ok(Crc64::of(new))
            })
            .collect();
        for (piece, of_piece) in stored.drain(..).zip(sums) {
            *sum = sum.then(of_piece?, piece.len as u64);
            progress.advanced(piece.len as u64);
        }
        Ok(())
    }

    fn piece(
        &self,
        file: &ContentFile,
        piece: &StoredPiece<'_>,
        base: &BaseFiles<'_>,
        old: &mut [u8],
        new: &mut [u8],
    ) -> Result<(), DeltaError> {
        if piece.form.needs_base() {
            let what = piece.part.base_tensor().unwrap_or(&file.name);
            let other = |path| DeltaError::OtherBase { what: what.to_owned(), path, at: piece.at, bytes: piece.len };
            // Tensors are all there, or none of this would have begun.
            let Some(place) = &piece.place else {
                let (path, at) = (base.checkpoint.dir.join(&file.name), piece.at + piece.len as u64);
                return Err(DeltaError::MissingFile { path, at });
            };
            base.read(place, old)?;
            if Crc64::of(old) != piece.base {
                return Err(other(base.path(place)));
            }
        }
        decode(piece.form, piece.part.words, &piece.payload, old, new)
            .map_err(|_| self.damaged(piece.record, "the record there cannot be decoded"))
    }
}
