//! Runs one function on several threads, for work whose parts are taken one by one.

use std::thread;

/// Runs `work` on this thread and on `threads - 1` others, or on as many as the system starts.
pub(super) fn on_each(threads: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..threads {
            // Not an error: the threads that did start, this one at least, take all parts.
            if thread::Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}
