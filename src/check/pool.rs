//! The threads that checks run on.

use rayon::ThreadPoolBuilder;

/// Runs `work` on a pool with a thread per processor, or on the calling thread alone where no thread can be started.
pub fn on_all_processors<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(work),
        Err(_) => {
            // Without a pool, rayon's first parallel step would try to start threads and panic where it cannot. This
            // fails only where there is such a pool already.
            let _ = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
            work()
        }
    }
}
