//! Waiting for what the library does asynchronously.

use std::cell::OnceCell;
use std::future::Future;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Returns what a future comes to. Each thread has a runtime of its own, for nothing but the pauses between attempts:
/// requests themselves block (`connector.rs`).
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            let built = Builder::new_current_thread().enable_time().build();
            built.expect("a runtime of this thread alone, with a clock and no sockets, asks nothing of the system")
        });
        runtime.block_on(future)
    })
}
