//! The order in which workers take tasks: by lanes, each worker in its own as long as there are enough.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The lanes of a run: runs of consecutive tasks, one after the other.
//
// Most file systems let one thread at a time write to a file through the page cache. Sixteen workers that take the
// tasks of one shard wait for its lock, and spin while they do: with a lane per shard they write to different files.
// TaskLanes are taken up in order and left only when all of their tasks are taken. So there is always a worker in every
// lane before one that is taken up, and whoever waits for an earlier task, of whatever lane, waits for one that will be
// done.
pub(super) struct TaskLanes {
    lanes: Vec<Lane>,
    /// The most lanes that are under way at a time.
    most: usize,
    /// Number of workers in each lane that was taken up.
    workers: Mutex<Vec<u64>>,
}

struct Lane {
    /// Number of the next task.
    next: AtomicU64,
    /// Number behind the last task.
    end: u64,
}

impl TaskLanes {
    /// Sets up lanes of these tasks, of which `most` are under way at a time.
    pub(super) fn new(lanes: Vec<Range<u64>>, most: usize) -> Self {
        let lanes = lanes.into_iter().map(|Range { start, end }| Lane { next: AtomicU64::new(start), end }).collect();
        Self { lanes, most, workers: Mutex::default() }
    }

    /// Returns the number of the next task of the worker's lane, after a change of lanes where that has none left;
    /// `None` when all tasks of all lanes are taken.
    pub(super) fn take(&self, lane: &mut Option<usize>) -> Option<u64> {
        loop {
            if let Some(number) = lane.and_then(|lane| self.lanes[lane].take()) {
                return Some(number);
            }
            *lane = self.change(lane.take());
            (*lane)?;
        }
    }

    /// Returns the lane for a worker whose own has no task left: the next untouched one or, once there is none, the
    /// one with the most tasks for each of its workers.
    fn change(&self, from: Option<usize>) -> Option<usize> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = from {
            workers[from] -= 1;
        }
        let left = (0..workers.len()).map(|lane| (lane, self.lanes[lane].left()));
        let under_way = left.filter(|&(_, left)| left > 0);
        if workers.len() < self.lanes.len() && under_way.clone().count() < self.most {
            workers.push(1);
            return Some(workers.len() - 1);
        }
        let to = under_way.max_by_key(|&(lane, left)| left / (workers[lane] + 1))?.0;
        workers[to] += 1;
        Some(to)
    }
}

impl Lane {
    fn take(&self) -> Option<u64> {
        // One at a time, so that no worker of the lane idles while another one has tasks left.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.end).then_some(number)
    }

    fn left(&self) -> u64 {
        self.end.saturating_sub(self.next.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_lanes_are_under_way_than_asked_for() {
        let lanes = TaskLanes::new(vec![0..9, 9..18, 18..20], 2);
        let mut seats = [None; 4];
        let first = seats.each_mut().map(|seat| lanes.take(seat));
        assert_eq!((first, seats), ([Some(0), Some(9), Some(10), Some(1)], [Some(0), Some(1), Some(1), Some(0)]));
        // The third lane waits until one of the first two has no task left.
        let rest: Vec<u64> = std::iter::from_fn(|| lanes.take(&mut seats[0])).collect();
        assert_eq!(rest, [2, 3, 4, 5, 6, 7, 8, 18, 19, 11, 12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn every_task_is_taken_once_by_whatever_worker() {
        let lanes = TaskLanes::new(vec![0..5, 5..5, 5..12, 12..13], 16);
        let mut seats = [None; 3];
        let mut taken = Vec::new();
        'all: loop {
            for seat in &mut seats {
                match lanes.take(seat) {
                    Some(number) => taken.push(number),
                    None => break 'all,
                }
            }
        }
        // The first three workers begin in lanes of their own, past the empty one.
        assert_eq!(taken[..3], [0, 5, 12]);
        taken.sort_unstable();
        assert_eq!(taken, (0..13).collect::<Vec<_>>());
        assert_eq!(seats.map(|mut seat| lanes.take(&mut seat)), [None; 3]);
    }

    #[test]
    fn one_worker_takes_all_tasks_in_order() {
        let lanes = TaskLanes::new(vec![0..3, 3..4, 4..9], 16);
        let mut lane = None;
        let taken: Vec<u64> = std::iter::from_fn(|| lanes.take(&mut lane)).collect();
        assert_eq!(taken, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn workers_without_a_lane_help_where_most_is_left() {
        let lanes = TaskLanes::new(vec![0..2, 2..100], 16);
        let (mut first, mut second, mut third) = (None, None, None);
        assert_eq!((lanes.take(&mut first), lanes.take(&mut second)), (Some(0), Some(2)));
        assert_eq!((lanes.take(&mut third), third), (Some(3), Some(1)));
        assert_eq!((lanes.take(&mut first), lanes.take(&mut first), first), (Some(1), Some(4), Some(1)));
    }
}
