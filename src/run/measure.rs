//! The quantization noise of schemes on the weights of a checkpoint, in one pass over them that writes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::{Band, Matrix, Noise, NoiseMeter, Scheme, Simd, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::progress::ProgressSink;
use crate::plan::{InputData, PlannedInput};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::planned::matrix;
use crate::run::row_reader::{self, RowReader};
use crate::run::sources::Sources;
use crate::run::threads;

/// Bytes of source that are measured at a time.
//
// Its decoded weights, in F32, then lie in the cache of a processor.
const BAND_BYTES: usize = 256 << 10;

/// A weight, and the schemes that are measured on it.
#[derive(Debug)]
pub struct MeasuredWeight<'a> {
    pub input: &'a PlannedInput,
    pub schemes: Vec<&'a dyn Scheme>,
}

/// A weight as the workers share it.
struct Measuring<'a> {
    weight: &'a MeasuredWeight<'a>,
    matrix: Matrix,
    /// What each scheme writes.
    outputs: Vec<Vec<TensorSpec>>,
    /// Rows of a band.
    rows: usize,
    /// The number of the first band among those of all weights.
    first_band: u64,
}

/// The noise of the bands of a weight that is under way, in the order of its rows.
type Bands = Vec<Option<Vec<Noise>>>;

/// Measures the noise of schemes on weights of a checkpoint, each of which is read once; returns that of each weight by
/// scheme. The sums do not depend on the number of workers.
///
/// # Errors
/// The first thing that went wrong: a file that cannot be read or has changed, a weight with NaN or infinity, a shape that
/// a scheme refuses, or an end that was asked for.
pub fn measure(
    checkpoint: &Checkpoint,
    weights: &[MeasuredWeight<'_>],
    workers: usize,
    simd: Simd,
    progress: &dyn ProgressSink,
) -> Result<Vec<Vec<Noise>>, RunError> {
    let weights = measuring(weights)?;
    progress.reading("measuring what each scheme loses", weights.iter().map(|it| it.weight.input.len).sum());
    let bands = weights.last().map_or(0, |last| last.first_band + last.bands());
    let stage = Stage {
        weights: &weights,
        bands,
        next: AtomicU64::new(0),
        sources: Sources::new(&checkpoint.shards, true),
        under_way: Mutex::default(),
        done: Mutex::new(weights.iter().map(|it| vec![Noise::default(); it.outputs.len()]).collect()),
        failure: Mutex::default(),
        is_over: AtomicBool::new(false),
        progress,
    };
    threads::on_each(workers.max(1), || stage.work(simd));
    if let Some((_, error)) = stage.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if progress.is_cancelled() {
        return Err(RunError::Cancelled);
    }
    let mut shards: Vec<usize> = weights.iter().map(|it| it.weight.input.shard()).collect();
    shards.sort_unstable();
    shards.dedup();
    shards.into_iter().try_for_each(|shard| stage.sources.finish(shard))?;
    Ok(stage.done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn measuring<'a>(weights: &'a [MeasuredWeight<'a>]) -> Result<Vec<Measuring<'a>>, RunError> {
    let mut all: Vec<Measuring<'_>> = Vec::with_capacity(weights.len());
    for weight in weights {
        let matrix = matrix(weight.input)?;
        let outputs = weight.schemes.iter().map(|scheme| scheme.outputs(matrix)).collect::<Result<_, _>>();
        let outputs =
            outputs.map_err(|_| RunError::inconsistent(&weight.input.name, "a scheme does not take its shape"))?;
        // A multiple of what each scheme asks for.
        let unit = weight.schemes.iter().fold(1, |unit, scheme| {
            let band = scheme.band_rows();
            (unit..=unit * band).step_by(unit).find(|rows| rows.is_multiple_of(band)).unwrap_or(unit)
        });
        let rows = (BAND_BYTES / matrix.row_bytes().max(1) / unit * unit).max(unit);
        let first_band = all.last().map_or(0, |last| last.first_band + last.bands());
        all.push(Measuring { weight, matrix, outputs, rows, first_band });
    }
    Ok(all)
}

impl Measuring<'_> {
    fn bands(&self) -> u64 {
        self.matrix.rows.div_ceil(self.rows) as u64
    }
}

/// What the workers share.
struct Stage<'a> {
    weights: &'a [Measuring<'a>],
    bands: u64,
    /// The number of the next band.
    next: AtomicU64,
    sources: Sources<'a>,
    /// The noise of weights some of whose bands are measured.
    //
    // Bands are taken in order, so that few weights are among them at a time, whatever the number of all.
    under_way: Mutex<BTreeMap<usize, Bands>>,
    /// The noise of weights that are measured, by scheme.
    done: Mutex<Vec<Vec<Noise>>>,
    /// The failure of the earliest band, and its number.
    failure: Mutex<Option<(u64, RunError)>>,
    is_over: AtomicBool,
    progress: &'a dyn ProgressSink,
}

impl Stage<'_> {
    /// Measures bands until none is left.
    fn work(&self, simd: Simd) {
        let reserved = self.reserve();
        let (mut bytes, mut rows) = match reserved {
            Ok(buffers) => buffers,
            Err(error) => return self.fail(u64::MAX, error),
        };
        bytes.fill();
        rows.fill();
        let mut meter = NoiseMeter::default();
        while !self.is_over.load(Ordering::Relaxed) && !self.progress.is_cancelled() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.bands {
                return;
            }
            let weight = self.weights.partition_point(|weight| weight.first_band <= number) - 1;
            let band = (number - self.weights[weight].first_band) as usize;
            match self.measure(weight, band, simd, &mut bytes, &mut rows, &mut meter) {
                Ok(noise) => self.add(weight, band, noise),
                Err(error) => self.fail(number, error),
            }
        }
    }

    /// Returns the memory of a worker for the rows of any band.
    fn reserve(&self) -> Result<(Buffer, RowReader), RunError> {
        let largest = |of: &dyn Fn(&Measuring<'_>) -> usize| self.weights.iter().map(of).max().unwrap_or(0);
        let bytes = largest(&|it| it.rows.min(it.matrix.rows) * it.matrix.row_bytes());
        let scratch = largest(&|it| row_reader::scratch(it.weight.input, it.rows.min(it.matrix.rows)));
        let buffer = |capacity| {
            Buffer::reserve(capacity).map_err(|_| RunError::NoMemory { workers: 1, each: Buffer::footprint(capacity) })
        };
        Ok((buffer(bytes)?, RowReader::new(buffer(scratch)?)))
    }

    /// Reads a band, and returns its noise by scheme.
    fn measure(
        &self,
        weight: usize,
        band: usize,
        simd: Simd,
        buffer: &mut Buffer,
        reader: &mut RowReader,
        meter: &mut NoiseMeter,
    ) -> Result<Vec<Noise>, RunError> {
        let Measuring { weight, matrix, outputs, rows, .. } = &self.weights[weight];
        let (input, row_bytes) = (weight.input, matrix.row_bytes());
        let first_row = band * rows;
        let rows = *rows.min(&(matrix.rows - first_row));
        let len = rows * row_bytes;
        if first_row == 0 {
            self.progress.at(&input.name);
        }
        let at = match &input.data {
            InputData::Stored { shard, offset } => {
                let from = offset + (first_row * row_bytes) as u64;
                let read = self.sources.get(*shard)?.read(buffer, from, len, from);
                read.map_err(|error| self.sources.error(*shard, &input.name, error))?;
                from
            }
            InputData::Strided { .. } | InputData::Quantized(_) => {
                reader.read(&self.sources, input, first_row, buffer.at_offset(0, len))?;
                0
            }
        };
        let bytes = buffer.filled(at, len);
        let band = Band { source: *matrix, first_row, rows, bytes, amax: None, simd };
        let noise = weight.schemes.iter().zip(outputs).map(|(scheme, outputs)| meter.measure(*scheme, outputs, &band));
        let noise = noise.collect::<Result<Vec<_>, _>>().map_err(|at| RunError::NonFinite {
            tensor: input.name.clone(),
            path: self.sources.path(input.shard()).to_path_buf(),
            at,
        })?;
        self.progress.advanced(len as u64);
        Ok(noise)
    }

    /// Adds the noise of a band; the last one of a weight adds all of them up, in their order.
    fn add(&self, weight: usize, band: usize, noise: Vec<Noise>) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let bands = under_way.entry(weight).or_insert_with(|| vec![None; self.weights[weight].bands() as usize]);
        bands[band] = Some(noise);
        if bands.iter().any(Option::is_none) {
            return;
        }
        let mut sums = vec![Noise::default(); self.weights[weight].weight.schemes.len()];
        for band in under_way.remove(&weight).into_iter().flatten().flatten() {
            sums.iter_mut().zip(band).for_each(|(sum, noise)| sum.add(noise));
        }
        drop(under_way);
        self.done.lock().unwrap_or_else(PoisonError::into_inner)[weight] = sums;
    }

    fn fail(&self, number: u64, error: RunError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(earliest, _)| number < *earliest) {
            *failure = Some((number, error));
        }
        drop(failure);
        self.is_over.store(true, Ordering::Relaxed);
    }
}
