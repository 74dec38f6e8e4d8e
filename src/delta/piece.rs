//! A piece: what is stored of it, given the bytes of the base that it is held against.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::bits::{BitReader, BitWriter};
use crate::rans::{self, MalformedPiece, RansDecoder, SymbolCounts};
use crate::words::{
    Bfloat16Word, ByteWord, Float8Word, Float16Word, Float32Word, Word, WordKind, following, joined, split,
};

/// How a piece is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceForm {
    /// The bytes of the base.
    Same,
    /// The distances of its words from those of the base.
    Difference,
    /// Its words, by themselves.
    Whole,
    /// Its bytes as they are.
    Raw,
    /// Its bytes in zlib's format.
    Deflated,
}

/// The level of deflate: that of zlib by default.
const LEVEL: u8 = 6;

/// Words that are dealt with at a time: distances first, in vectors, then symbols, of which there are none. That took three
/// quarters of the time of one loop for both where few words change.
const RUN: usize = 1024;

/// Memory of a worker that codes pieces.
pub(crate) struct PieceEncoder {
    counts: SymbolCounts,
    symbols: Vec<u8>,
    contexts: Vec<u8>,
    bits: BitWriter,
}

impl PieceForm {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of(code: u8) -> Option<Self> {
        [Self::Same, Self::Difference, Self::Whole, Self::Raw, Self::Deflated].get(usize::from(code)).copied()
    }

    /// Reports whether the base is needed.
    pub(crate) fn needs_base(self) -> bool {
        matches!(self, Self::Same | Self::Difference)
    }
}

impl PieceEncoder {
    pub(crate) fn new() -> Self {
        Self { counts: SymbolCounts::new(), symbols: Vec::new(), contexts: Vec::new(), bits: BitWriter::default() }
    }

    /// Codes a piece in the form that takes the fewest bytes.
    pub(crate) fn encode(&mut self, kind: WordKind, base: Option<&[u8]>, new: &[u8]) -> (PieceForm, Vec<u8>) {
        if base == Some(new) {
            return (PieceForm::Same, Vec::new());
        }
        let (form, payload) = match (kind, base) {
            (WordKind::Text, _) => (PieceForm::Deflated, compress_to_vec_zlib(new, LEVEL)),
            (_, Some(base)) => {
                let difference = self.by_kind(kind, Some(base), new);
                // Of a weight that was trained anew, nothing is left of the old one.
                let whole = (difference.len() > new.len() / 2).then(|| self.by_kind(kind, None, new));
                match whole {
                    Some(whole) if whole.len() < difference.len() => (PieceForm::Whole, whole),
                    _ => (PieceForm::Difference, difference),
                }
            }
            (_, None) => (PieceForm::Whole, self.by_kind(kind, None, new)),
        };
        if payload.len() < new.len() { (form, payload) } else { (PieceForm::Raw, new.to_vec()) }
    }

    fn by_kind(&mut self, kind: WordKind, base: Option<&[u8]>, new: &[u8]) -> Vec<u8> {
        match kind {
            WordKind::Text | WordKind::Bytes => self.words::<ByteWord>(base, new),
            WordKind::F8 => self.words::<Float8Word>(base, new),
            WordKind::F16 => self.words::<Float16Word>(base, new),
            WordKind::Bf16 => self.words::<Bfloat16Word>(base, new),
            WordKind::F32 => self.words::<Float32Word>(base, new),
        }
    }

    fn words<W: Word>(&mut self, base: Option<&[u8]>, new: &[u8]) -> Vec<u8> {
        let Self { counts, symbols, contexts, bits } = self;
        counts.clear();
        symbols.resize(new.len() / W::WIDTH, 0);
        contexts.resize(new.len() / W::WIDTH, 0);
        bits.clear();
        match base {
            Some(base) => {
                let mut distances = [0; RUN];
                let runs = base.chunks(RUN * W::WIDTH).zip(new.chunks(RUN * W::WIDTH));
                let coded = symbols.chunks_mut(RUN).zip(contexts.chunks_mut(RUN));
                for ((olds, news), (symbols, contexts)) in runs.zip(coded) {
                    let words = olds.chunks_exact(W::WIDTH).zip(news.chunks_exact(W::WIDTH));
                    for (((old, new), distance), context) in words.zip(&mut distances).zip(contexts.iter_mut()) {
                        let old = W::load(old);
                        (*distance, *context) = (W::distance(old, W::load(new)), W::context(old));
                    }
                    for ((&distance, symbol), &context) in distances.iter().zip(symbols).zip(contexts.iter()) {
                        let (of_distance, follow, value) = split(distance);
                        if follow > 0 {
                            bits.push(value, follow);
                        }
                        *symbol = of_distance;
                        counts.add(context, of_distance);
                    }
                }
            }
            None => {
                let follow = W::BITS - 8;
                for (new, symbol) in new.chunks_exact(W::WIDTH).map(W::load).zip(symbols.iter_mut()) {
                    let turned = W::turned(new);
                    if follow > 0 {
                        bits.push(turned & ((1 << follow) - 1), follow);
                    }
                    *symbol = (turned >> follow) as u8;
                    counts.add(0, *symbol);
                }
                contexts.fill(0);
            }
        }
        let mut payload = Vec::new();
        rans::encode(symbols, contexts, counts, bits.finish(), &mut payload);
        payload
    }
}

/// Puts a piece together from its payload, in `new`, whose length is the piece's; `base` has the same length where the form
/// needs it.
pub(crate) fn decode(
    form: PieceForm,
    kind: WordKind,
    payload: &[u8],
    base: &[u8],
    new: &mut [u8],
) -> Result<(), MalformedPiece> {
    match form {
        PieceForm::Same if payload.is_empty() => new.copy_from_slice(base),
        PieceForm::Raw if payload.len() == new.len() => new.copy_from_slice(payload),
        PieceForm::Same | PieceForm::Raw => return Err(MalformedPiece),
        PieceForm::Deflated => {
            let bytes = decompress_to_vec_zlib_with_limit(payload, new.len()).map_err(|_| MalformedPiece)?;
            if bytes.len() != new.len() {
                return Err(MalformedPiece);
            }
            new.copy_from_slice(&bytes);
        }
        PieceForm::Difference | PieceForm::Whole => {
            let base = (form == PieceForm::Difference).then_some(base);
            match kind {
                WordKind::Text | WordKind::Bytes => words::<ByteWord>(payload, base, new)?,
                WordKind::F8 => words::<Float8Word>(payload, base, new)?,
                WordKind::F16 => words::<Float16Word>(payload, base, new)?,
                WordKind::Bf16 => words::<Bfloat16Word>(payload, base, new)?,
                WordKind::F32 => words::<Float32Word>(payload, base, new)?,
            }
        }
    }
    Ok(())
}

fn words<W: Word>(payload: &[u8], base: Option<&[u8]>, new: &mut [u8]) -> Result<(), MalformedPiece> {
    if !new.len().is_multiple_of(W::WIDTH) {
        return Err(MalformedPiece);
    }
    let mut decoder = RansDecoder::new(payload)?;
    let mut bits = BitReader::new(decoder.bits);
    let news = new.chunks_exact_mut(W::WIDTH);
    match base {
        Some(base) => {
            for (old, new) in base.chunks_exact(W::WIDTH).map(W::load).zip(news) {
                let symbol = decoder.next(W::context(old));
                let follow = following(symbol);
                // No encoder writes a symbol that says more.
                let value = if follow > 0 { bits.take(follow.min(28)) } else { 0 };
                W::store(W::at_distance(old, joined(symbol, value) & W::MASK), new);
            }
        }
        None => {
            let follow = W::BITS - 8;
            for new in news {
                let symbol = u32::from(decoder.next(0));
                let value = if follow > 0 { bits.take(follow) } else { 0 };
                W::store(W::turned_back(symbol << follow | value), new);
            }
        }
    }
    if decoder.is_spent() && bits.is_spent() { Ok(()) } else { Err(MalformedPiece) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [WordKind; 6] =
        [WordKind::Text, WordKind::Bytes, WordKind::F8, WordKind::F16, WordKind::Bf16, WordKind::F32];

    fn comes_back(kind: WordKind, base: Option<&[u8]>, new: &[u8]) -> usize {
        let (form, payload) = PieceEncoder::new().encode(kind, base, new);
        assert!(payload.len() <= new.len());
        let mut made = vec![0xa5; new.len()];
        decode(form, kind, &payload, base.unwrap_or_default(), &mut made).unwrap();
        assert_eq!(made, new, "{kind:?} {form:?}");
        payload.len()
    }

    proptest! {
        #[test]
        fn any_piece_comes_back(words in prop::collection::vec(any::<(u32, u32, bool)>(), 0..3000)) {
            let base: Vec<u8> = words.iter().flat_map(|(old, _, _)| old.to_le_bytes()).collect();
            let new: Vec<u8> =
                words.iter().flat_map(|&(old, new, same)| if same { old } else { new }.to_le_bytes()).collect();
            for kind in KINDS {
                comes_back(kind, Some(&base), &new);
                comes_back(kind, None, &new);
                comes_back(kind, Some(&new), &new);
            }
        }

        #[test]
        fn any_payload_is_an_error_or_a_piece(payload in prop::collection::vec(any::<u8>(), 0..600), len in 0usize..300) {
            for kind in KINDS {
                for form in (0..5).filter_map(PieceForm::of) {
                    let _ = decode(form, kind, &payload, &vec![7; len], &mut vec![0; len]);
                }
            }
        }
    }

    #[test]
    fn small_changes_take_few_bytes() {
        // One BF16 weight in a hundred goes up by an ulp: 0.08 bits of entropy for each, and some for the place.
        let base: Vec<u8> = (0..200_000u32).flat_map(|at| (0x3c00 + (at % 512) as u16).to_le_bytes()).collect();
        let mut new = base.clone();
        new.chunks_exact_mut(2).step_by(100).for_each(|word| word[0] ^= 1);
        assert!(comes_back(WordKind::Bf16, Some(&base), &new) < base.len() / 150);
        assert_eq!(comes_back(WordKind::Bf16, Some(&base), &base), 0);
    }
}
