//! Turns runs that are columns of the wanted rows into rows.

/// Bytes of stored rows that are read at a time, if one row is not longer already.
pub(super) const STRIP_BYTES: usize = 512 << 10;

/// Largest distance of runs, in multiples of the bytes needed of each, at which what lies between them is read too.
//
// Beyond it, reading the needed bytes of each run by themselves is faster.
pub(super) const SPARSE: usize = 4;

/// Side of a tile that is transposed at once: a cache line of two-byte elements.
const TILE: usize = 32;

/// Runs that are columns of the wanted rows.
pub(super) struct Strip<'b> {
    pub(super) bytes: &'b [u8],
    /// Bytes from one run to the next.
    pub(super) pitch: usize,
    /// Bytes from one element of a run to the next.
    pub(super) step: usize,
    /// Number of runs.
    pub(super) runs: usize,
}

/// Writes a strip of runs of `rows` elements each as columns of rows that are `row_bytes` apart.
//
// Tile by tile through a buffer in the first cache: rows of the strip are far apart, and would push each other out of
// it.
pub(super) fn transpose<const WIDTH: usize>(strip: &Strip<'_>, rows: usize, out: &mut [u8], row_bytes: usize) {
    let mut tile = [[[0; WIDTH]; TILE]; TILE];
    for first_row in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - first_row);
        for first_column in (0..strip.runs).step_by(TILE) {
            let width = TILE.min(strip.runs - first_column);
            for (column, line) in tile[..width].iter_mut().enumerate() {
                let at = (first_column + column) * strip.pitch + first_row * strip.step;
                if strip.step == WIDTH {
                    line[..height].copy_from_slice(strip.bytes[at..at + height * WIDTH].as_chunks().0);
                } else {
                    let elements = strip.bytes[at..].chunks(strip.step);
                    line.iter_mut()
                        .zip(elements)
                        .take(height)
                        .for_each(|(to, from)| to.copy_from_slice(&from[..WIDTH]));
                }
            }
            for row in 0..height {
                let at = (first_row + row) * row_bytes + first_column * WIDTH;
                let out = out[at..at + width * WIDTH].as_chunks_mut::<WIDTH>().0;
                for (out, line) in out.iter_mut().zip(&tile) {
                    *out = line[row];
                }
            }
        }
    }
}
