//! The quantization noise of schemes on the weights of a checkpoint, in one pass over them that writes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::{AmaxScope, Band, Matrix, Noise, NoiseMeter, NonFinite, Scheme, Simd, TensorSpec, amax};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::progress::ProgressSink;
use crate::plan::{InputData, PlannedInput};
use crate::run::amax::AmaxTable;
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
    /// The number of the first of the weights that share an absolute maximum with this one, where a scheme asks for that of a
    /// fused layer; its own where it shares none.
    pub leader: usize,
}

/// A weight as the workers share it.
struct Measuring<'a> {
    weight: &'a MeasuredWeight<'a>,
    matrix: Matrix,
    /// What each scheme writes.
    outputs: Vec<Vec<TensorSpec>>,
    /// Rows of a band.
    rows: usize,
}

/// All bands of a weight, for one of two ends.
struct Pass {
    weight: usize,
    kind: PassKind,
    /// The number of the first band among those of all passes.
    first_band: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PassKind {
    /// To find the absolute maximum.
    Amax,
    /// To find the noise of each scheme.
    Noise,
}

/// The noise of the bands of a weight that is under way, in the order of its rows.
type Bands = Vec<Option<Vec<Noise>>>;

/// Measures the noise of schemes on weights of a checkpoint, each of which comes from its disk once; returns that of each
/// weight by scheme. The sums do not depend on the number of workers.
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
    let leaders: Vec<usize> = weights.iter().map(|weight| weight.leader).collect();
    let weights = measuring(weights)?;
    let passes = passes(&weights);
    progress.reading("measuring what each scheme loses", weights.iter().map(|it| it.weight.input.len).sum());
    let first_passes = passes.iter().filter(|pass| pass.kind == PassKind::Amax);
    let first_passes = first_passes.map(|pass| (pass.weight, weights[pass.weight].bands()));
    let stage = Stage {
        weights: &weights,
        bands: passes.last().map_or(0, |last| last.first_band + weights[last.weight].bands()),
        of_fused: AmaxTable::of(leaders, first_passes.clone()),
        of_weights: AmaxTable::of((0..weights.len()).collect(), first_passes),
        passes,
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
        all.push(Measuring { weight, matrix, outputs, rows });
    }
    Ok(all)
}

impl Measuring<'_> {
    fn bands(&self) -> u64 {
        self.matrix.rows.div_ceil(self.rows) as u64
    }

    /// Reports whether a scheme asks for an absolute maximum.
    fn needs_amax(&self) -> bool {
        self.weight.schemes.iter().any(|scheme| scheme.amax_scope() != AmaxScope::Band)
    }
}

/// Returns the passes over all weights: those of the weights that share a maximum before the noise of the first of them.
//
// The noise of a weight comes one weight later than it could, as in a run: the workers would wait there for the last band of
// the first pass.
fn passes(weights: &[Measuring<'_>]) -> Vec<Pass> {
    let mut sharing: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, weight) in weights.iter().enumerate().filter(|(_, weight)| weight.needs_amax()) {
        sharing.entry(weight.weight.leader).or_default().push(number);
    }
    let mut order: Vec<(usize, PassKind)> = Vec::with_capacity(2 * weights.len());
    let mut delayed = None;
    for (number, weight) in weights.iter().enumerate() {
        let first_passes = sharing.remove(&weight.weight.leader).unwrap_or_default();
        order.extend(first_passes.into_iter().map(|number| (number, PassKind::Amax)));
        order.extend(delayed.replace((number, PassKind::Noise)));
    }
    order.extend(delayed);
    let mut first_band = 0;
    let passes = order.into_iter().map(|(weight, kind)| {
        let pass = Pass { weight, kind, first_band };
        first_band += weights[weight].bands();
        pass
    });
    passes.collect()
}

/// What the workers share.
struct Stage<'a> {
    weights: &'a [Measuring<'a>],
    passes: Vec<Pass>,
    /// Bands of all passes.
    bands: u64,
    /// The absolute maxima of weights, and those of fused layers.
    of_weights: AmaxTable,
    of_fused: AmaxTable,
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
        let reserved = self.reserve(simd);
        let (mut bytes, mut rows) = match reserved {
            Ok(buffers) => buffers,
            Err(error) => return self.fail(u64::MAX, error),
        };
        bytes.fill();
        rows.fill();
        let mut meter = NoiseMeter::default();
        while !self.is_over() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.bands {
                return;
            }
            let pass = &self.passes[self.passes.partition_point(|pass| pass.first_band <= number) - 1];
            let band = (number - pass.first_band) as usize;
            let done = match pass.kind {
                PassKind::Amax => self.find_amax(pass.weight, band, simd, &mut bytes, &mut rows),
                PassKind::Noise => self.measure(pass.weight, band, simd, &mut bytes, &mut rows, &mut meter),
            };
            if let Err(error) = done {
                self.fail(number, error);
            }
        }
        // Whoever waits for a maximum that nobody looks for any more.
        self.wake();
    }

    fn wake(&self) {
        self.of_weights.wake();
        self.of_fused.wake();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.progress.is_cancelled()
    }

    /// Returns the memory of a worker for the rows of any band.
    fn reserve(&self, simd: Simd) -> Result<(Buffer, RowReader), RunError> {
        let largest = |of: &dyn Fn(&Measuring<'_>) -> usize| self.weights.iter().map(of).max().unwrap_or(0);
        let bytes = largest(&|it| it.rows.min(it.matrix.rows) * it.matrix.row_bytes());
        let scratch = largest(&|it| row_reader::scratch(it.weight.input, it.rows.min(it.matrix.rows)));
        let buffer = |capacity| {
            Buffer::reserve(capacity).map_err(|_| RunError::NoMemory { workers: 1, each: Buffer::footprint(capacity) })
        };
        Ok((buffer(bytes)?, RowReader::new(buffer(scratch)?, simd)))
    }

    /// Adds a band to the absolute maximum of its weight.
    fn find_amax(
        &self,
        weight: usize,
        band: usize,
        simd: Simd,
        buffer: &mut Buffer,
        reader: &mut RowReader,
    ) -> Result<(), RunError> {
        let measuring = &self.weights[weight];
        // By way of the page cache, where the second reading finds it.
        let (first_row, _, bytes) = self.read(measuring, band, true, buffer, reader)?;
        let source = measuring.matrix;
        let amax = amax(source, first_row, bytes, simd).map_err(|at| self.non_finite(measuring, at))?;
        self.of_weights.add(weight, amax);
        self.of_fused.add(weight, amax);
        Ok(())
    }

    /// Measures the noise of a band by scheme.
    fn measure(
        &self,
        weight: usize,
        band: usize,
        simd: Simd,
        buffer: &mut Buffer,
        reader: &mut RowReader,
        meter: &mut NoiseMeter,
    ) -> Result<(), RunError> {
        let measuring = &self.weights[weight];
        let amax_of = |scope: AmaxScope| match scope {
            AmaxScope::Band => Ok(None),
            // Without a maximum all of it is over, and whoever ended it has said why.
            AmaxScope::Tensor => self.of_weights.wait(weight, || self.is_over()).map(Some).ok_or(RunError::Cancelled),
            AmaxScope::Fused => self.of_fused.wait(weight, || self.is_over()).map(Some).ok_or(RunError::Cancelled),
        };
        if band == 0 {
            self.progress.at(&measuring.weight.input.name);
        }
        let (first_row, rows, bytes) = self.read(measuring, band, false, buffer, reader)?;
        let schemes = measuring.weight.schemes.iter().zip(&measuring.outputs);
        let band_under = |amax| Band { source: measuring.matrix, first_row, rows, bytes, amax, simd };
        let signal = NoiseMeter::signal(&band_under(None));
        let noise = schemes.map(|(scheme, outputs)| {
            let band = band_under(amax_of(scheme.amax_scope())?);
            let noise = meter.measure(*scheme, outputs, &band).map_err(|at| self.non_finite(measuring, at))?;
            Ok::<_, RunError>(Noise { signal, noise })
        });
        let noise = noise.collect::<Result<Vec<_>, _>>()?;
        self.progress.advanced(bytes.len() as u64);
        self.add(weight, band, noise);
        Ok(())
    }

    fn non_finite(&self, measuring: &Measuring<'_>, at: NonFinite) -> RunError {
        let input = measuring.weight.input;
        RunError::NonFinite {
            tensor: input.name.clone(),
            path: self.sources.path(input.shard()).to_path_buf(),
            at,
            merged: None,
        }
    }

    /// Reads a band; returns its first row, its rows, and their bytes. What is read again is put into the page cache.
    fn read<'b>(
        &self,
        Measuring { weight, matrix, rows, .. }: &Measuring<'_>,
        band: usize,
        is_read_again: bool,
        buffer: &'b mut Buffer,
        reader: &mut RowReader,
    ) -> Result<(usize, usize, &'b [u8]), RunError> {
        let (input, row_bytes) = (weight.input, matrix.row_bytes());
        let first_row = band * rows;
        let rows = *rows.min(&(matrix.rows - first_row));
        let len = rows * row_bytes;
        let at = match &input.data {
            InputData::Stored { shard, offset } => {
                let from = offset + (first_row * row_bytes) as u64;
                let file = self.sources.get(*shard)?;
                let read = if is_read_again {
                    file.read_exact_at(buffer.at_offset(from, len), from)
                } else {
                    file.read(buffer, from, len, from)
                };
                read.map_err(|error| self.sources.error(*shard, &input.name, error))?;
                from
            }
            InputData::Strided { .. } | InputData::Quantized(_) => {
                reader.read(&self.sources, input, first_row, buffer.at_offset(0, len))?;
                0
            }
        };
        Ok((first_row, rows, buffer.filled(at, len)))
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
        self.wake();
    }
}
