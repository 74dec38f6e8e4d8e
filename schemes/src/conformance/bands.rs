//! A weight cut into bands, which are quantized one after the other or from several threads.

use std::sync::Mutex;
use std::thread;

use super::sample::Random;
use crate::{Band, Matrix, NonFinite, Scheme, Simd, TensorSpec};

/// Threads that share the bands of a weight.
const THREADS: usize = 3;

/// A weight and the way in which it is quantized.
pub(super) struct WholeWeight<'a> {
    pub(super) source: Matrix,
    pub(super) bytes: &'a [u8],
    /// Rows of a band, as a multiple of [`Scheme::band_rows`].
    pub(super) bands: usize,
    pub(super) simd: Simd,
    /// Initial value of every byte of the outputs.
    pub(super) filler: u8,
    pub(super) amax: Option<f32>,
}

/// A band and its parts of the outputs.
struct BandJob<'a> {
    band: Band<'a>,
    parts: Vec<&'a mut [u8]>,
}

/// Passes the bands to `quantize` from the first to the last.
pub(super) fn in_order(
    scheme: &dyn Scheme,
    whole: WholeWeight<'_>,
    quantize: impl Fn(&Band<'_>, &mut [&mut [u8]]) -> Result<(), NonFinite>,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let specs = scheme.outputs(whole.source).expect("the shape has been looked at");
    let mut outputs = outputs(&specs, &whole);
    for mut job in jobs(&whole, scheme.band_rows(), &specs, &mut outputs) {
        quantize(&job.band, &mut job.parts)?;
    }
    Ok(outputs)
}

/// Quantizes the bands from [`THREADS`] threads, in an order that is mixed and the same each time but for their race.
pub(super) fn from_threads(scheme: &dyn Scheme, whole: WholeWeight<'_>) -> Result<Vec<Vec<u8>>, NonFinite> {
    let specs = scheme.outputs(whole.source).expect("the shape has been looked at");
    let mut outputs = outputs(&specs, &whole);
    let mut jobs = jobs(&whole, scheme.band_rows(), &specs, &mut outputs);
    let mut random = Random::new(jobs.len() as u64);
    jobs.sort_by_cached_key(|_| random.next());
    let jobs = Mutex::new(jobs);
    let work = || {
        loop {
            let job = jobs.lock().expect("no thread panics while it takes a band").pop();
            let Some(mut job) = job else { return Ok(()) };
            scheme.quantize(&job.band, &mut job.parts)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let ends =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect::<Vec<_>>().into_iter().collect::<Result<(), NonFinite>>()
    })?;
    drop(jobs);
    Ok(outputs)
}

fn outputs(specs: &[TensorSpec], whole: &WholeWeight<'_>) -> Vec<Vec<u8>> {
    specs.iter().map(|spec| vec![whole.filler; spec.bytes()]).collect()
}

/// Returns the bands of a weight in order, with the outputs divided among them.
fn jobs<'a>(
    whole: &WholeWeight<'a>,
    band_rows: usize,
    specs: &[TensorSpec],
    outputs: &'a mut [Vec<u8>],
) -> Vec<BandJob<'a>> {
    let &WholeWeight { source, bytes, bands, simd, amax, .. } = whole;
    assert_eq!(bytes.len(), source.rows * source.row_bytes(), "the bytes are those of the weight");
    let mut rest: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let step = band_rows.saturating_mul(bands);
    let mut jobs = Vec::new();
    let mut first_row = 0;
    // A weight without rows still is one band, for the tensors that are written once.
    while first_row < source.rows || first_row == 0 {
        let rows = step.min(source.rows - first_row);
        let bytes = &bytes[first_row * source.row_bytes()..][..rows * source.row_bytes()];
        let parts = specs.iter().zip(&mut rest).map(|(spec, rest)| {
            let length = spec.band_range(first_row, rows).len();
            rest.split_off_mut(..length).expect("the bands of an output add up to it")
        });
        let parts = parts.collect();
        jobs.push(BandJob { band: Band { source, first_row, rows, bytes, amax, simd }, parts });
        first_row += rows.max(1);
    }
    jobs
}
