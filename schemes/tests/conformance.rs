//! Every registered scheme keeps the contract.

use qwen_fp8_schemes::{conformance, registered};
use serde_json::json;

#[test]
fn every_registered_scheme_conforms() {
    for registration in registered() {
        let mut options = vec![json!({})];
        if registration.name.starts_with("FP8") {
            options.push(json!({ "scale_dtype": "f32" }));
            options.push(json!({ "scale_dtype": "bf16", "quotient_dtype": "source" }));
            options.push(json!({ "activations": "none" }));
        }
        if ["FP8_DYNAMIC", "FP8_BLOCK"].contains(&registration.name) {
            options.push(json!({ "block_size": 128 }));
            options.push(json!({ "block_size": [3, 5] }));
            options.push(json!({ "block_size": [1, 1] }));
            options.push(json!({ "block_size": [1000, 20] }));
        }
        let report = conformance::check(registration, &options).unwrap_or_else(|failure| panic!("{failure}"));
        eprintln!("{}: {report:?}", registration.name);
    }
}
