//! Bytes of weights on each GPU are vLLM's own, within a hundredth: `weights.json`, which `weights.py` takes from vLLM.

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::fit::{CacheDtype, Fit, FitRequest, FitSubject};

use super::parsed;
use crate::support::shapes::published::{self, Published};

/// Models whose towers the shapes cut and config.json does not, so that vLLM builds them whole.
const NOT_CUT_ALIKE: [&str; 1] = ["Gemma-4-E4B"];

const SMALL: u64 = 3 << 20;

#[test]
fn weights_on_each_gpu_are_those_of_vllm() {
    let known = parsed("weights.json");
    let (mut differences, mut compared) = (Vec::new(), 0);
    for name in published::names().into_iter().filter(|name| !NOT_CUT_ALIKE.contains(&name.as_str())) {
        let dir = Published::named(&name).shapes().write_single();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        for gpus in [1, 2, 8] {
            // vLLM does not build every one of them on so many GPUs.
            let Some(expected) = known[&name][gpus.to_string()].as_u64() else { continue };
            let request =
                FitRequest { vram: 80 << 30, gpus, context: None, concurrency: None, cache_dtype: CacheDtype::Auto };
            let found = Fit::of(&FitSubject::of_checkpoint(&checkpoint, gpus), &request, "MODEL").weights.per_gpu;
            compared += 1;
            // A hundredth, or what a few small layers of an encoder take.
            if found.abs_diff(expected) > (expected / 100).max(SMALL) {
                let percent = (found as f64 / expected as f64 - 1.0) * 100.0;
                differences.push(format!("{name} on {gpus}: {found}, vLLM {expected} ({percent:+.2} %)"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared >= 60, "{compared}");
}
