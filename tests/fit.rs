//! Whether a model fits, held against vLLM's own figures.

mod agreement;
mod figures;
mod guide;
mod weights;

use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::models::Model;
use serde_json::Value;

fn parsed(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fit").join(path);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A config.json, and what is known of its model.
fn model_of(config: &Value) -> (Config, Model) {
    let config = Config::parse(config.to_string().as_bytes()).unwrap();
    let model = Model::of(&config, std::iter::empty());
    (config, model)
}
