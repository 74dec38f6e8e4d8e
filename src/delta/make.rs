//! Makes a delta: pieces of the new checkpoint are held against the old one, many at a time, and stored in order.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::checksum::Crc64;
use qwen_fp8_checkpoint::manifest::MANIFEST_FILE;
use qwen_fp8_checkpoint::progress::ProgressSink;
use rayon::prelude::*;

use crate::base::{BaseFiles, BasePlace};
use crate::contents::{ContentFile, ContentPart, DeltaContents, PIECE, PartBase};
use crate::error::DeltaError;
use crate::figures::{DeltaFigures, OmittedFile};
use crate::files::lay_out;
use crate::piece::{PieceEncoder, PieceForm};
use crate::record::{RecordHead, RecordKind};

/// Pieces that are dealt with at a time, for each thread.
const FOR_EACH_THREAD: usize = 4;

/// The most pieces that are dealt with at a time, so that neither more than this number of payloads nor more than this number of
/// threads' buffers, about seven MiB each, are in memory.
const MOST_AT_A_TIME: usize = 32;

/// The number of pieces that are dealt with at a time.
pub(crate) fn batch() -> usize {
    (rayon::current_num_threads() * FOR_EACH_THREAD).min(MOST_AT_A_TIME)
}

/// Writes what changed from `old` to `new`, both on this machine, to `out`; `path` is the name of that for messages.
///
/// # Errors
/// A file cannot be read, changed while it was read, or the delta cannot be written; [`DeltaError::Cancelled`].
pub fn make(
    old: &Checkpoint,
    new: &Checkpoint,
    out: &mut dyn Write,
    path: &Path,
    progress: &dyn ProgressSink,
) -> Result<DeltaFigures, DeltaError> {
    let files = lay_out(old, new)?;
    let contents = DeltaContents { tool: env!("CARGO_PKG_VERSION").to_owned(), base: old.model_name().name, files };
    let left_out = new.left_out.iter().filter(|(name, _)| name != MANIFEST_FILE);
    let base = BaseFiles::new(old)?;
    let names: HashSet<&str> = contents.files.iter().map(|file| file.name.as_str()).collect();
    let mut making = DeltaInMaking {
        new: BaseFiles::new(new)?,
        out,
        path,
        figures: DeltaFigures {
            new_bytes: contents.size(),
            files: contents.files.len() as u64,
            removed_files: base.files().filter(|name| !names.contains(name)).count() as u64,
            removed_tensors: removed(old, &contents),
            left_out: left_out.map(|(name, why)| OmittedFile { name: name.clone(), why: (*why).to_owned() }).collect(),
            ..DeltaFigures::default()
        },
        base,
    };
    progress.reading("comparing", contents.size());
    making.write(&contents.to_bytes().map_err(|size| DeltaError::TooManyTensors { size })?)?;
    for file in &contents.files {
        progress.at(&file.name);
        making.file(file, progress)?;
    }
    making.base.check_unchanged()?;
    making.new.check_unchanged()?;
    Ok(making.figures)
}

/// The number of tensors of the old checkpoint that no part is held against and that have no namesake.
fn removed(old: &Checkpoint, contents: &DeltaContents) -> u64 {
    let parts = || contents.files.iter().flat_map(|file| &file.parts);
    let there: HashSet<&str> =
        parts().flat_map(|part| [part.tensor.as_deref(), part.base_tensor()]).flatten().collect();
    old.tensors.iter().filter(|tensor| !there.contains(tensor.name.as_str())).count() as u64
}

/// A delta in the making.
struct DeltaInMaking<'a> {
    base: BaseFiles<'a>,
    new: BaseFiles<'a>,
    out: &'a mut dyn Write,
    path: &'a Path,
    figures: DeltaFigures,
}

/// A piece that is to be coded.
struct PieceTask<'a> {
    part: &'a ContentPart,
    /// The piece ends the part.
    is_last: bool,
    len: usize,
    base: Option<BasePlace>,
    new: BasePlace,
}

/// A piece that was coded.
struct CodedPiece {
    form: PieceForm,
    payload: Vec<u8>,
    base: Crc64,
    new: Crc64,
}

impl DeltaInMaking<'_> {
    fn file(&mut self, file: &ContentFile, progress: &dyn ProgressSink) -> Result<(), DeltaError> {
        let mut sum = Crc64::default();
        let mut of_part = PartForms::default();
        let mut tasks: Vec<PieceTask<'_>> = Vec::with_capacity(batch());
        let mut offset = 0;
        for part in &file.parts {
            if part.bytes == 0 {
                self.count(part, PartForms::default());
            }
            for (at, len) in part.pieces() {
                let base = self.base.place(file, part, at, len);
                let new = self.new.place_in(&file.name, offset + at);
                let is_last = at + len as u64 == part.bytes;
                tasks.push(PieceTask { part, is_last, len, base, new });
                if tasks.len() == batch() {
                    self.pieces(&mut tasks, &mut sum, &mut of_part, progress)?;
                }
            }
            offset += part.bytes;
        }
        self.pieces(&mut tasks, &mut sum, &mut of_part, progress)?;
        self.record(RecordKind::EndOfFile, sum, &[])
    }

    fn pieces(
        &mut self,
        tasks: &mut Vec<PieceTask<'_>>,
        sum: &mut Crc64,
        of_part: &mut PartForms,
        progress: &dyn ProgressSink,
    ) -> Result<(), DeltaError> {
        let (base, new) = (&self.base, &self.new);
        let coded: Vec<Result<CodedPiece, DeltaError>> =
            tasks.par_iter().map_init(PieceCoder::new, |coder, task| coder.code(task, base, new)).collect();
        for (task, coded) in tasks.drain(..).zip(coded) {
            if progress.is_cancelled() {
                return Err(DeltaError::Cancelled);
            }
            let coded = coded?;
            self.record(RecordKind::Piece(coded.form), coded.base, &coded.payload)?;
            *sum = sum.then(coded.new, task.len as u64);
            of_part.add(coded.form);
            self.figures.pieces += 1;
            self.figures.changed_pieces += u64::from(coded.form != PieceForm::Same);
            progress.advanced(task.len as u64);
            if task.is_last {
                self.count(task.part, std::mem::take(of_part));
            }
        }
        Ok(())
    }

    /// Counts a tensor by what its pieces were stored as, and by what the old checkpoint has of it.
    fn count(&mut self, part: &ContentPart, forms: PartForms) {
        let Some(name) = &part.tensor else { return };
        let is_there = forms.with_base || self.base.tensor(name).is_some();
        let figures = &mut self.figures;
        figures.renamed_tensors += u64::from(matches!(part.base, PartBase::Tensor(_)) && forms.with_base);
        match (is_there, forms.changed) {
            (_, false) => figures.unchanged_tensors += 1,
            (true, true) => figures.changed_tensors += 1,
            (false, true) => figures.new_tensors += 1,
        }
    }

    fn record(&mut self, kind: RecordKind, sum: Crc64, payload: &[u8]) -> Result<(), DeltaError> {
        self.write(&RecordHead::new(kind, sum, payload).bytes())?;
        self.write(payload)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.figures.delta_bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| DeltaError::Write { path: self.path.to_owned(), error })
    }
}

/// What the pieces of a part are stored as.
#[derive(Clone, Copy, Default)]
struct PartForms {
    with_base: bool,
    changed: bool,
}

impl PartForms {
    fn add(&mut self, form: PieceForm) {
        self.with_base |= form.needs_base();
        self.changed |= form != PieceForm::Same;
    }
}

/// Memory of a thread.
struct PieceCoder {
    encoder: PieceEncoder,
    base: Vec<u8>,
    new: Vec<u8>,
}

impl PieceCoder {
    fn new() -> Self {
        Self { encoder: PieceEncoder::new(), base: vec![0; PIECE], new: vec![0; PIECE] }
    }

    fn code(
        &mut self,
        task: &PieceTask<'_>,
        base: &BaseFiles<'_>,
        new: &BaseFiles<'_>,
    ) -> Result<CodedPiece, DeltaError> {
        let of_new = &mut self.new[..task.len];
        new.read(&task.new, of_new)?;
        let of_base = match &task.base {
            Some(place) => {
                let bytes = &mut self.base[..task.len];
                base.read(place, bytes)?;
                Some(&*bytes)
            }
            None => None,
        };
        let (form, payload) = self.encoder.encode(task.part.words, of_base, of_new);
        let sum_of_base = match of_base {
            Some(bytes) if form.needs_base() => Crc64::of(bytes),
            _ => Crc64::default(),
        };
        let sum = if form == PieceForm::Same { sum_of_base } else { Crc64::of(of_new) };
        Ok(CodedPiece { form, payload, base: sum_of_base, new: sum })
    }
}
