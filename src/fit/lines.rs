//! The lines that start servers, with every option that the fit rests on.

use schemars::JsonSchema;
use serde::Serialize;

use super::budget::{UTILIZATION, batched_tokens, most_requests};
use super::cache::CacheDtype;
use super::request::FitRequest;
use super::vision::Sight;

/// A command that serves the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServeLine {
    pub server: &'static str,
    /// The words of the command, as a shell takes them; the path stands as `MODEL` where it is not known.
    pub words: Vec<String>,
}

/// What is served, and how much of it.
pub(super) struct ServedContext<'a> {
    pub(super) path: &'a str,
    pub(super) request: &'a FitRequest,
    pub(super) context: u64,
    pub(super) requests: u64,
    pub(super) sight: Option<&'a Sight>,
}

/// Returns the lines of vLLM 0.33 and SGLang 0.5.23.
pub(super) fn lines(served: &ServedContext<'_>) -> Vec<ServeLine> {
    vec![ServeLine { server: "vLLM", words: vllm(served) }, ServeLine { server: "SGLang", words: sglang(served) }]
}

fn vllm(served: &ServedContext<'_>) -> Vec<String> {
    let request = served.request;
    let mut words = words(&["vllm", "serve", served.path]);
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if request.gpus > 1 {
        option("--tensor-parallel-size", request.gpus.to_string());
    }
    option("--max-model-len", served.context.to_string());
    if served.requests < most_requests(request.vram) {
        option("--max-num-seqs", served.requests.to_string());
    }
    option("--max-num-batched-tokens", batched_tokens(request.vram).max(served.requests).to_string());
    option("--gpu-memory-utilization", format!("0.{UTILIZATION}"));
    if request.cache_dtype == CacheDtype::Fp8 {
        option("--kv-cache-dtype", "fp8".to_owned());
    }
    if let Some(limits) = limits(served) {
        option("--limit-mm-per-prompt", limits);
    }
    words
}

fn sglang(served: &ServedContext<'_>) -> Vec<String> {
    let request = served.request;
    let mut words = words(&["python3", "-m", "sglang.launch_server", "--model-path", served.path]);
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if request.gpus > 1 {
        option("--tp-size", request.gpus.to_string());
    }
    option("--context-length", served.context.to_string());
    option("--max-running-requests", served.requests.to_string());
    if request.cache_dtype == CacheDtype::Fp8 {
        option("--kv-cache-dtype", "fp8_e4m3".to_owned());
    }
    if let Some(limits) = limits(served) {
        option("--limit-mm-data-per-request", limits);
    }
    words
}

/// The images of a prompt: as many as take half of the context, and no video or sound, which take more.
fn limits(served: &ServedContext<'_>) -> Option<String> {
    let sight = served.sight?;
    let images = (served.context / 2 / sight.tokens).clamp(1, 4);
    let mut limits = format!("\"image\": {images}");
    for (there, modality) in [(sight.has_video, "video"), (sight.has_audio, "audio")] {
        if there {
            limits.push_str(&format!(", \"{modality}\": 0"));
        }
    }
    Some(format!("'{{{limits}}}'"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
