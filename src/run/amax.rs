//! Absolute maxima of whole weights, and of those that share one, gathered by a first pass that several workers share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::run::segment::SegmentKind;
use crate::run::work::Work;

/// The maxima of the weights that have a first pass, by number of the source tensor.
pub(super) struct AmaxTable {
    weights: Vec<PendingAmax>,
    /// The tensor under which the maximum of each is kept.
    leaders: Vec<usize>,
    /// Held while `complete` is signalled, so that no waiter misses it.
    lock: Mutex<()>,
    complete: Condvar,
}

#[derive(Default)]
struct PendingAmax {
    /// Bits of a non-negative number, whose order is that of the numbers.
    bits: AtomicU32,
    /// Tasks of the first pass that have not ended.
    remaining: AtomicU64,
}

impl AmaxTable {
    pub(super) fn new(work: &Work) -> Self {
        let leaders = work.amax_leaders.clone();
        let weights: Vec<PendingAmax> = leaders.iter().map(|_| PendingAmax::default()).collect();
        for segment in &work.segments {
            if let SegmentKind::Amax { .. } = segment.kind {
                weights[leaders[segment.inputs[0]]].remaining.fetch_add(segment.tasks, Ordering::Relaxed);
            }
        }
        Self { weights, leaders, lock: Mutex::new(()), complete: Condvar::new() }
    }

    /// Takes in the maximum of one band.
    pub(super) fn add(&self, tensor: usize, amax: f32) {
        let weight = &self.weights[self.leaders[tensor]];
        weight.bits.fetch_max(amax.to_bits(), Ordering::AcqRel);
        if weight.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake();
        }
    }

    /// The maximum once all bands are in; `None` when the run stops before that.
    pub(super) fn wait(&self, tensor: usize, stopped: &AtomicBool) -> Option<f32> {
        let weight = &self.weights[self.leaders[tensor]];
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while weight.remaining.load(Ordering::Acquire) > 0 {
            if stopped.load(Ordering::Acquire) {
                return None;
            }
            guard = self.complete.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        Some(f32::from_bits(weight.bits.load(Ordering::Acquire)))
    }

    /// Lets every waiter look again.
    pub(super) fn wake(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete.notify_all();
    }
}
