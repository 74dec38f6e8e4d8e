//! The same work on several threads, for what is cut into parts that are taken one by one.

use std::thread;

/// Runs `work` on this thread and on so many others that they are `threads` together, or as many as the system starts.
pub(super) fn on_each(threads: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..threads {
            // Whoever is there does the work of those who are not.
            if thread::Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}
