//! An entropy coder for symbols with contexts: range asymmetric numeral systems (Duda, 2013) with four states in turns.
//!
//! A context that occurs often has statistics of its own; all others share the first ones.

/// The shares of all symbols add up to 2 to the power of this.
const SCALE: u32 = 11;
const WHOLE: u32 = 1 << SCALE;
/// The least value of a state between two symbols; the largest is below 2 to the power of 63.
//
// 32 bits would do with words of two bytes. With 64 the division by a share is a multiplication, and a word is due half as often.
const LEAST: u64 = 1 << 31;
const STATES: usize = 4;
/// Symbols from which on a context has statistics of its own, which take some hundred bytes.
const ENOUGH: u32 = 1024;

/// A payload that no encoder writes.
#[derive(Debug)]
pub(crate) struct MalformedPiece;

/// What is counted of a piece before it is coded: symbols by context.
pub(crate) struct SymbolCounts(Vec<u32>);

impl SymbolCounts {
    pub(crate) fn new() -> Self {
        Self(vec![0; 256 * 256])
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(crate) fn add(&mut self, context: u8, symbol: u8) {
        self.0[usize::from(context) << 8 | usize::from(symbol)] += 1;
    }
}

/// The statistics of each context.
struct SymbolShares {
    /// Their numbers by context.
    of_context: [u8; 256],
    tables: Vec<[SymbolStep; 256]>,
}

/// What a symbol does to a state.
#[derive(Clone, Copy, Default)]
struct SymbolStep {
    share: u32,
    /// What is added, beside the quotient times the shares of all others.
    bias: u32,
    /// The inverse of the share, and the bits by which the product is too long.
    inverse: u64,
    shift: u32,
}

impl SymbolStep {
    /// The step of a symbol with this share from this place on.
    //
    // "Division by invariant integers using multiplication" (Granlund and Montgomery, 1994): exact below 2^63.
    fn new(share: u16, first: u16) -> Self {
        let (share, first) = (u32::from(share), u32::from(first));
        if share == 1 {
            // The inverse of 1 has 65 bits; with the largest of 64 the quotient is one too small, which the bias makes up for.
            return Self { share, bias: first + WHOLE - 1, inverse: u64::MAX, shift: 0 };
        }
        let bits = share.next_power_of_two().trailing_zeros();
        let inverse = (1u128 << (bits + 63)).div_ceil(u128::from(share)) as u64;
        Self { share, bias: first, inverse, shift: bits - 1 }
    }

    fn apply(&self, state: u64) -> u64 {
        let quotient = ((u128::from(state) * u128::from(self.inverse)) >> 64) as u64 >> self.shift;
        state + u64::from(self.bias) + quotient * u64::from(WHOLE - self.share)
    }
}

/// Appends the statistics, the states and `bits` to `out`, and then the symbols, each in its context.
pub(crate) fn encode(symbols: &[u8], contexts: &[u8], counts: &SymbolCounts, bits: &[u8], out: &mut Vec<u8>) {
    let shares = SymbolShares::of(counts, out);
    let mut states = [LEAST; STATES];
    // A symbol makes a few bits as a rule.
    let mut words = Vec::with_capacity(symbols.len() / 8);
    // The last symbol first: the decoder undoes the steps in the opposite order.
    for (at, (&symbol, &context)) in symbols.iter().zip(contexts).enumerate().rev() {
        let table = usize::from(shares.of_context[usize::from(context)]);
        let step = &shares.tables[table][usize::from(symbol)];
        let state = &mut states[at % STATES];
        if *state >= u64::from(step.share) << (63 - SCALE) {
            words.push(*state as u32);
            *state >>= 32;
        }
        *state = step.apply(*state);
    }
    for state in states {
        out.extend_from_slice(&state.to_le_bytes());
    }
    // A piece is a MiB, and so are its bits at most.
    out.extend_from_slice(&(bits.len() as u32).to_le_bytes());
    out.extend_from_slice(bits);
    out.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
}

impl SymbolShares {
    /// Decides which contexts have statistics of their own, and writes them all.
    fn of(counts: &SymbolCounts, out: &mut Vec<u8>) -> Self {
        let mut shares = Self { of_context: [0; 256], tables: Vec::new() };
        let mut pooled = [0; 256];
        let (mut own, mut number) = (Vec::new(), 0u8);
        for (context, of_context) in counts.0.as_chunks::<256>().0.iter().enumerate() {
            let total: u32 = of_context.iter().sum();
            if total >= ENOUGH && number < u8::MAX {
                number += 1;
                shares.of_context[context] = number;
                own.push((context as u8, of_context));
            } else if total > 0 {
                pooled.iter_mut().zip(of_context).for_each(|(sum, count)| *sum += count);
            }
        }
        out.push(number);
        shares.add(&pooled, out);
        for (context, of_context) in own {
            out.push(context);
            shares.add(of_context, out);
        }
        shares
    }

    fn add(&mut self, counts: &[u32; 256], out: &mut Vec<u8>) {
        let of_symbols = normalized(counts);
        let occurring = of_symbols.iter().filter(|&&share| share > 0).count();
        out.extend_from_slice(&(occurring as u16).to_le_bytes());
        let (mut table, mut first) = ([SymbolStep::default(); 256], 0);
        for (symbol, &share) in of_symbols.iter().enumerate().filter(|(_, share)| **share > 0) {
            out.push(symbol as u8);
            out.extend_from_slice(&share.to_le_bytes());
            table[symbol] = SymbolStep::new(share, first);
            first += share;
        }
        self.tables.push(table);
    }
}

/// Makes shares of counts: each that occurs has one at least, and together they are [`WHOLE`].
fn normalized(counts: &[u32; 256]) -> [u16; 256] {
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut shares = [0; 256];
    if total == 0 {
        return shares;
    }
    for (share, &count) in shares.iter_mut().zip(counts) {
        let exact = u64::from(count) * u64::from(WHOLE) / total;
        *share = if count == 0 { 0 } else { exact.max(1) as u16 };
    }
    let mut sum: u32 = shares.iter().map(|&share| u32::from(share)).sum();
    // What rounding left goes to the most frequent symbol, and what the least ones took comes from it, one by one.
    while sum != WHOLE {
        let Some(largest) = shares.iter_mut().max() else { break };
        if sum < WHOLE {
            *largest += (WHOLE - sum) as u16;
            sum = WHOLE;
        } else {
            *largest -= 1;
            sum -= 1;
        }
    }
    shares
}

/// The decoder of a piece.
pub(crate) struct RansDecoder<'a> {
    of_context: [u8; 256],
    /// For each statistics and place: symbol, share and place in it.
    slots: Vec<[u32; WHOLE as usize]>,
    states: [u64; STATES],
    at: usize,
    /// The bits that stand beside the symbols.
    pub(crate) bits: &'a [u8],
    words: &'a [[u8; 4]],
    /// Set once a word was missing.
    ended: bool,
}

impl<'a> RansDecoder<'a> {
    /// Reads statistics and states.
    pub(crate) fn new(mut payload: &'a [u8]) -> Result<Self, MalformedPiece> {
        let [number] = take(&mut payload)?;
        let (mut of_context, mut slots) = ([0; 256], vec![read_shares(&mut payload)?]);
        for table in 1..=number {
            let [context] = take(&mut payload)?;
            of_context[usize::from(context)] = table;
            slots.push(read_shares(&mut payload)?);
        }
        let mut states = [0; STATES];
        for state in &mut states {
            *state = u64::from_le_bytes(take(&mut payload)?);
        }
        let len = u32::from_le_bytes(take(&mut payload)?) as usize;
        let (bits, words) = payload.split_at_checked(len).ok_or(MalformedPiece)?;
        let (words, []) = words.as_chunks() else { return Err(MalformedPiece) };
        Ok(Self { of_context, slots, states, at: 0, bits, words, ended: false })
    }

    /// The next symbol, which stands in `context`.
    pub(crate) fn next(&mut self, context: u8) -> u8 {
        let state = &mut self.states[self.at];
        self.at = (self.at + 1) % STATES;
        let slots = &self.slots[usize::from(self.of_context[usize::from(context)])];
        let slot = slots[(*state % u64::from(WHOLE)) as usize];
        // Of a state that no encoder writes the product may overflow.
        *state = u64::from(slot >> 8 & 0xfff).wrapping_mul(*state >> SCALE).wrapping_add(u64::from(slot >> 20));
        if *state < LEAST {
            let word = match self.words.split_first() {
                Some((word, rest)) => {
                    self.words = rest;
                    u32::from_le_bytes(*word)
                }
                None => {
                    self.ended = true;
                    0
                }
            };
            *state = *state << 32 | u64::from(word);
        }
        slot as u8
    }

    /// Reports whether everything was read, and ended as the encoder began.
    pub(crate) fn is_spent(&self) -> bool {
        !self.ended && self.words.is_empty() && self.states == [LEAST; STATES]
    }
}

/// Reads the statistics of a context; all places of none are the symbol 0 without a share.
fn read_shares(payload: &mut &[u8]) -> Result<[u32; WHOLE as usize], MalformedPiece> {
    let symbols = u16::from_le_bytes(take(payload)?);
    let (mut slots, mut filled) = ([0; WHOLE as usize], 0);
    for _ in 0..symbols {
        let [symbol, low, high] = take(payload)?;
        let share = usize::from(u16::from_le_bytes([low, high]));
        let of_symbol = slots.get_mut(filled..filled + share).ok_or(MalformedPiece)?;
        for (place, slot) in of_symbol.iter_mut().enumerate() {
            *slot = u32::from(symbol) | (share as u32) << 8 | (place as u32) << 20;
        }
        filled += share;
    }
    if symbols == 0 || filled == WHOLE as usize { Ok(slots) } else { Err(MalformedPiece) }
}

fn take<const N: usize>(payload: &mut &[u8]) -> Result<[u8; N], MalformedPiece> {
    let (taken, rest) = payload.split_first_chunk().ok_or(MalformedPiece)?;
    *payload = rest;
    Ok(*taken)
}
