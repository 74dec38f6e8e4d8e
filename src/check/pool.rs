//! The threads that checks run on.

use qwen_fp8_checkpoint::CheckpointPlace;
use rayon::ThreadPoolBuilder;

/// Threads that read a checkpoint elsewhere: they wait for answers more than they compute.
const READERS: usize = 16;

/// Runs `work` on a pool with a thread per processor, or on the calling thread alone where no thread can be started.
pub fn on_all_processors<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    on_threads(0, work)
}

/// Runs `work`, which reads these checkpoints, as [`on_all_processors`] does, but with more threads where a checkpoint lies
/// elsewhere.
pub fn on_threads_for<R: Send>(checkpoints: &[&CheckpointPlace], work: impl FnOnce() -> R + Send) -> R {
    let is_elsewhere = checkpoints.iter().any(|place| place.directory().is_none());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    on_threads(if is_elsewhere { processors.max(READERS) } else { 0 }, work)
}

/// Runs `work` on a pool of so many threads, 0 for one per processor.
fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    match ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => {
            // Without a pool, rayon's first parallel step would try to start threads and panic where it cannot. This
            // fails only where there is such a pool already.
            let _ = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
            work()
        }
    }
}
