//! Absolute maxima of whole weights and of fused layers, found by a first pass that several workers share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::run::segment::SegmentKind;
use crate::run::work::Work;

/// The absolute maxima of the weights that have a first pass, by number of the weight.
pub(super) struct AmaxTable {
    weights: Vec<PendingAmax>,
    /// The weight that holds the maximum of each: its own, or that of the first part of its fused layer.
    leaders: Vec<usize>,
    /// Held while `complete` is signalled, so that no waiter misses it.
    lock: Mutex<()>,
    complete: Condvar,
}

#[derive(Default)]
struct PendingAmax {
    /// Bits of a non-negative float.
    //
    // Such floats are ordered like their bits, so that `fetch_max` on an integer serves, for which there is an atomic.
    bits: AtomicU32,
    /// Number of tasks of the first pass that have not ended.
    remaining: AtomicU64,
}

impl AmaxTable {
    /// Sets up the table before the first task of a run.
    pub(super) fn new(work: &Work) -> Self {
        let first_passes = work.segments.iter().filter(|segment| matches!(segment.kind, SegmentKind::Amax { .. }));
        Self::of(work.amax_leaders.clone(), first_passes.map(|segment| (segment.inputs[0], segment.tasks)))
    }

    /// Sets up the table of weights, given the leader of each, and weights with the number of tasks of their first pass.
    pub(super) fn of(leaders: Vec<usize>, first_passes: impl Iterator<Item = (usize, u64)>) -> Self {
        let weights: Vec<PendingAmax> = leaders.iter().map(|_| PendingAmax::default()).collect();
        for (weight, tasks) in first_passes {
            weights[leaders[weight]].remaining.fetch_add(tasks, Ordering::Relaxed);
        }
        Self { weights, leaders, lock: Mutex::new(()), complete: Condvar::new() }
    }

    /// Adds the absolute maximum of one band.
    pub(super) fn add(&self, tensor: usize, amax: f32) {
        let weight = &self.weights[self.leaders[tensor]];
        weight.bits.fetch_max(amax.to_bits(), Ordering::AcqRel);
        if weight.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake();
        }
    }

    /// Waits until all bands of the weight are in and returns their maximum; `None` where `is_over` says before that
    /// that they may never be.
    pub(super) fn wait(&self, tensor: usize, is_over: impl Fn() -> bool) -> Option<f32> {
        let weight = &self.weights[self.leaders[tensor]];
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while weight.remaining.load(Ordering::Acquire) > 0 {
            if is_over() {
                return None;
            }
            guard = self.complete.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        Some(f32::from_bits(weight.bits.load(Ordering::Acquire)))
    }

    /// Lets every waiting worker check again.
    pub(super) fn wake(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete.notify_all();
    }
}
