//! The threads that checks run on.

use qwen_fp8_checkpoint::CheckpointPlace;
use rayon::ThreadPoolBuilder;

/// Threads that read a checkpoint elsewhere: they wait for answers more than they compute.
const READERS: usize = 16;

/// Runs `work`, which reads these checkpoints, on a pool with a thread per processor, with more of them where a checkpoint lies
/// elsewhere, or on the calling thread alone where no thread can be started.
pub fn on_threads_for<R: Send>(checkpoints: &[&CheckpointPlace], work: impl FnOnce() -> R + Send) -> R {
    let is_elsewhere = checkpoints.iter().any(|place| place.directory().is_none());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if is_elsewhere { processors.max(READERS) } else { 0 };
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
