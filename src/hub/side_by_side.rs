//! Work on several things at a time, each of which waits for the network.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does `work` on each item, on so many at a time, and returns what came of them in their order. With the first failure
/// `is_over` becomes true, which the work on other items may look at, and no other item is begun.
///
/// # Errors
/// The first failure.
pub(crate) fn side_by_side<I: Sync, T: Send, E: Send>(
    items: &[I],
    at_once: usize,
    is_over: &AtomicBool,
    work: impl Fn(&I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, done, failure) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..at_once.min(items.len()) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    match work(item) {
                        Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result)),
                        Err(error) => {
                            // Before the others hear of it: what they fail of then is not the reason.
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            is_over.store(true, Ordering::Release);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|&(index, _)| index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = side_by_side(&items, 8, &AtomicBool::new(false), |item| Ok::<_, ()>(item * 2));
        assert_eq!(doubled, Ok(items.iter().map(|item| item * 2).collect()));
    }

    #[test]
    fn the_first_failure_is_the_one_that_is_told() {
        let is_over = AtomicBool::new(false);
        let failed = side_by_side(&[true, false, false], 3, &is_over, |&is_at_fault| {
            while !is_at_fault && !is_over.load(Ordering::Acquire) {
                thread::yield_now();
            }
            Err::<(), _>(if is_at_fault { "the reason" } else { "ended by another" })
        });
        assert_eq!(failed, Err("the reason"));
        let begun = AtomicUsize::new(0);
        let _ = side_by_side(&[(); 10], 1, &AtomicBool::new(false), |()| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(())
        });
        assert_eq!(begun.into_inner(), 1);
    }
}
