//! Integers of weights that are stored transposed, eight or so in a 32-bit word: AWQ's and GPTQ's.

use std::ops::Range;

/// The order of integers in the words of a weight that is stored transposed: a row of words for each of its columns, or
/// for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordOrder {
    /// A word holds neighbouring rows of a column, those with an even number before the others: AWQ's.
    Awq,
    /// A word holds neighbouring columns of a row, from the lowest bit on: GPTQ's.
    Gptq,
}

/// Words of consecutive stored rows.
#[derive(Clone, Copy, Debug)]
pub struct WordStrip<'a> {
    /// The words for the wanted rows of the weight, and what lies between them.
    pub bytes: &'a [u8],
    /// Bytes from one stored row to the next.
    pub pitch: usize,
    /// The stored row that comes first.
    pub first: usize,
    /// The number of stored rows.
    pub count: usize,
}

/// The place of each of eight neighbouring rows in a word of AWQ's.
const AWQ_PLACES: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl WordOrder {
    /// Returns the columns of the weight that a stored row of words holds.
    pub fn columns(self, bits: u32) -> usize {
        match self {
            Self::Awq => 1,
            Self::Gptq => per_word(bits),
        }
    }

    /// Returns the words of a stored row that hold these rows of the weight.
    ///
    /// # Examples
    /// ```
    /// use qwen_fp8_schemes::WordOrder;
    ///
    /// assert_eq!((WordOrder::Awq.words(&(7..9), 4), WordOrder::Gptq.words(&(7..9), 4)), (0..2, 7..9));
    /// ```
    pub fn words(self, rows: &Range<usize>, bits: u32) -> Range<usize> {
        match self {
            Self::Awq => rows.start / per_word(bits)..rows.end.div_ceil(per_word(bits)),
            Self::Gptq => rows.clone(),
        }
    }

    /// Returns the place of a row's integer in its word, where words hold neighbouring rows.
    fn place(self, row: usize, bits: u32) -> u32 {
        let at = row % per_word(bits);
        match self {
            // The order is that in which AWQ's kernels unpack eight integers, and there are eight with 4 bits only.
            Self::Awq if bits == 4 => AWQ_PLACES[at],
            Self::Awq | Self::Gptq => at as u32,
        }
    }
}

/// Integers of 2, 4 or 8 bits in a word.
fn per_word(bits: u32) -> usize {
    (32 / bits.clamp(1, 32)) as usize
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|raw| raw.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw))
}

/// Takes an integer out of its word and lowers it by half of its range, to two's complement.
#[inline(always)]
fn lowered(word: u32, place: u32, bits: u32) -> u8 {
    let integer = word >> (place * bits) & ((1 << bits) - 1);
    (integer as u8).wrapping_sub(1 << (bits - 1))
}

/// Writes the integers of a strip of stored rows, two's complement in a byte each, to their columns in `out`, which has
/// these rows of the weight one after the other. A strip begins with the words that [`WordOrder::words`] names; of the
/// last stored row, what lies behind the last column is left out.
pub fn unpack_codes(
    order: WordOrder,
    bits: u32,
    strip: WordStrip<'_>,
    rows: &Range<usize>,
    columns: usize,
    out: &mut [u8],
) {
    match order {
        WordOrder::Awq => across(bits, strip, rows, columns, out),
        WordOrder::Gptq => down(bits, strip, rows.len(), columns, out),
    }
}

/// Columns that are written together: single bytes in rows that are far apart took four times as long.
const TOGETHER: usize = 8;

fn across(bits: u32, strip: WordStrip<'_>, rows: &Range<usize>, columns: usize, out: &mut [u8]) {
    let words = WordOrder::Awq.words(rows, bits);
    for first in (0..strip.count).step_by(TOGETHER) {
        let beside = TOGETHER.min(strip.count - first).min(columns.saturating_sub(strip.first + first));
        for at in words.clone() {
            let mut stored = [0; TOGETHER];
            for (column, stored) in stored[..beside].iter_mut().enumerate() {
                *stored = word(strip.bytes, (first + column) * strip.pitch + (at - words.start) * 4);
            }
            let held = at * per_word(bits)..(at + 1) * per_word(bits);
            for row in held.start.max(rows.start)..held.end.min(rows.end) {
                let place = WordOrder::Awq.place(row, bits);
                let to = (row - rows.start) * columns + strip.first + first;
                for (out, &word) in out[to..to + beside].iter_mut().zip(&stored) {
                    *out = lowered(word, place, bits);
                }
            }
        }
    }
}

fn down(bits: u32, strip: WordStrip<'_>, rows: usize, columns: usize, out: &mut [u8]) {
    let per_word = per_word(bits);
    for stored in 0..strip.count {
        let first = (strip.first + stored) * per_word;
        let held = per_word.min(columns.saturating_sub(first));
        for row in 0..rows {
            let word = word(strip.bytes, stored * strip.pitch + row * 4);
            let to = row * columns + first;
            for (place, out) in out[to..to + held].iter_mut().enumerate() {
                *out = lowered(word, place as u32, bits);
            }
        }
    }
}

/// Appends the zero points of one group for these rows of the weight, lowered by half of their range as codes are.
/// `words` begins with the word of the first row. Where they are stored less one, one is added to every field of a word
/// at once, so that a carry goes into the next: that undoes what GPTQModel, which subtracts so, wrote.
pub fn unpack_zeros(
    order: WordOrder,
    bits: u32,
    less_one: bool,
    words: &[u8],
    rows: &Range<usize>,
    mut out: impl FnMut(usize, f32),
) {
    let ones = if less_one { (0..per_word(bits)).fold(0u32, |ones, at| ones | 1 << (at as u32 * bits)) } else { 0 };
    let first = rows.start / per_word(bits);
    for row in rows.clone() {
        let word = word(words, (row / per_word(bits) - first) * 4).wrapping_add(ones);
        out(row - rows.start, f32::from(lowered(word, order.place(row, bits), bits).cast_signed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integer of a row and column.
    fn integer(row: usize, column: usize, bits: u32) -> u32 {
        ((row * 5 + column * 3 + row * column) % (1 << bits)) as u32
    }

    /// The stored matrix of words, from the definition: rows of words, each with its columns.
    fn stored(order: WordOrder, bits: u32, [rows, columns]: [usize; 2]) -> Vec<Vec<u32>> {
        let per = per_word(bits);
        match order {
            // Word `w` of column `k` holds row `8 w + ORDER[i]` in its field `i`.
            WordOrder::Awq => {
                const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
                let of = |k: usize, w: usize| (0..8).map(|i| integer(8 * w + ORDER[i], k, bits) << (4 * i)).sum();
                (0..columns).map(|k| (0..rows / 8).map(|w| of(k, w)).collect()).collect()
            }
            WordOrder::Gptq => {
                let of = |s: usize, row| (0..per).map(|i| integer(row, s * per + i, bits) << (bits * i as u32)).sum();
                (0..columns.div_ceil(per)).map(|s| (0..rows).map(|row| of(s, row)).collect()).collect()
            }
        }
    }

    #[test]
    fn any_rows_come_back_from_strips_of_any_height() {
        for (order, bits) in [(WordOrder::Awq, 4), (WordOrder::Gptq, 2), (WordOrder::Gptq, 4), (WordOrder::Gptq, 8)] {
            let [rows, columns] = [24, 37];
            let stored = stored(order, bits, [rows, columns]);
            for wanted in [0..24, 0..1, 3..4, 7..9, 5..24] {
                for (height, gap) in [(1, 0), (3, 0), (11, 4), (64, 0)] {
                    let mut out = vec![0x55; wanted.len() * columns];
                    for (index, strip) in stored.chunks(height).enumerate() {
                        let of_row = |row: &Vec<u32>| {
                            let words = &row[order.words(&wanted, bits)];
                            [words.iter().flat_map(|word| word.to_le_bytes()).collect(), vec![0xEE; gap]].concat()
                        };
                        let bytes: Vec<u8> = strip.iter().flat_map(of_row).collect();
                        let pitch = order.words(&wanted, bits).len() * 4 + gap;
                        let strip = WordStrip { bytes: &bytes, pitch, first: index * height, count: strip.len() };
                        unpack_codes(order, bits, strip, &wanted, columns, &mut out);
                    }
                    for (at, &found) in out.iter().enumerate() {
                        let raised = integer(wanted.start + at / columns, at % columns, bits) as i32;
                        assert_eq!(i32::from(found.cast_signed()), raised - (1 << (bits - 1)), "{order:?} {bits} {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn zero_points_that_are_stored_less_one_come_back_with_the_carry_of_their_word() {
        let zeros = [0u32, 8, 15, 1, 0, 7, 3, 15];
        for (order, bits, less_one) in
            [(WordOrder::Gptq, 4, true), (WordOrder::Gptq, 4, false), (WordOrder::Awq, 4, false)]
        {
            let place = |row: usize| order.place(row, bits);
            let word = (0..8).fold(0u32, |word, row| word | zeros[row] << (place(row) * 4));
            let word = if less_one { word.wrapping_sub(0x1111_1111) } else { word };
            for rows in [0..8, 3..5] {
                let mut found = vec![f32::NAN; rows.len()];
                unpack_zeros(order, bits, less_one, &word.to_le_bytes(), &rows, |at, zero| found[at] = zero);
                let expected: Vec<f32> = rows.map(|row| zeros[row] as f32 - 8.0).collect();
                assert_eq!(found, expected, "{order:?}");
            }
        }
        let mut found = Vec::new();
        unpack_zeros(WordOrder::Gptq, 8, true, &[0x7F, 0xFE, 0x00, 0x80, 9, 0, 0, 0], &(2..5), |_, zero| {
            found.push(zero)
        });
        assert_eq!(found, [-127.0, 1.0, -118.0]);
    }
}
