//! The threads that checks run on.

use rayon::ThreadPoolBuilder;

/// Does this work with a thread per processor; where this process may start none, on the calling thread alone.
pub fn on_all_processors<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(work),
        Err(_) => {
            // Without it, the first parallel step would start threads again, and panic. It fails only where there is
            // such a pool already.
            let _ = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
            work()
        }
    }
}
