//! Sides of blocks, as configs give them.

use serde_json::Value;

use super::fault::ConfigFault;

/// Weights of the smallest block. Fewer under one scale are no block format that anything reads, and the scales of
/// [1, 1] blocks would take more memory than the weights.
const SMALLEST_BLOCK: usize = 128;

/// Reads two positive sides of a block of [`SMALLEST_BLOCK`] weights or more.
pub(super) fn block(value: &Value) -> Option<[usize; 2]> {
    let [height, width] = value.as_array()?.as_slice() else { return None };
    let side = |value: &Value| {
        let side = usize::try_from(value.as_u64()?).ok()?;
        (side > 0).then_some(side)
    };
    let sides = [side(height)?, side(width)?];
    (sides[0].saturating_mul(sides[1]) >= SMALLEST_BLOCK).then_some(sides)
}

/// Reports a block that servers have no kernels for.
pub(super) fn check_block(block: [usize; 2], pointer: &str, faults: &mut Vec<ConfigFault>) {
    // DeepGEMM, CUTLASS and the Marlin block path are all tied to 128.
    if block != [128, 128] {
        let message = format!("blocks of {} × {}: servers have kernels for 128 × 128 only", block[0], block[1]);
        faults.push(ConfigFault::unusual(message, pointer));
    }
}
