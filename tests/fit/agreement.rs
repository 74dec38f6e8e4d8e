//! The cache is vLLM's own, family by family: `facts/` and `catalogue.json`, which are taken from vLLM's code.

use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::models::Model;
use qwen_fp8::fit::{CacheDtype, pool};
use qwen_fp8::plan::ServedWeights;
use serde_json::Value;

use super::{model_of, parsed};

/// The tokens of a step with which the facts were taken.
const BATCHED_TOKENS: u64 = 2048;

/// Published models that vLLM builds and whose cache is not counted here, which is said.
const NOT_COUNTED: [&str; 1] = ["DeepSeek-V4-Flash"];

/// Returns what differs from one line of facts, `None` where all is the same.
fn difference(config: &Config, model: &Model, size: &Value) -> Option<String> {
    let gpus = size["gpus"].as_u64().unwrap();
    let dtype = if size["dtype"] == "fp8" { CacheDtype::Fp8 } else { CacheDtype::Auto };
    if let Some(error) = size["error"].as_str() {
        let served = ServedWeights::unknown(config, model, usize::try_from(gpus).unwrap());
        return served.misfit.is_none().then(|| format!("vLLM fails, and the heads can be shared: {error}"));
    }
    let has_cache = !size["groups"].as_array().unwrap().is_empty();
    let pool = match pool(config, model, gpus, dtype, BATCHED_TOKENS) {
        Ok(Some(pool)) => pool,
        Ok(None) => return has_cache.then(|| "no cache is counted".to_owned()),
        Err(unknown) => return Some(unknown.to_string()),
    };
    if Some(pool.bytes_per_block) != size["bytes_per_block"].as_u64() {
        let bytes = pool.bytes_per_block;
        return Some(format!("{bytes} bytes per block: {:?}, and vLLM has {}", pool.groups, size["groups"]));
    }
    size["asked"].as_array().unwrap().iter().find_map(|asked| {
        let number = |key: &str| asked[key].as_u64().unwrap();
        let blocks = pool.blocks(number("bytes"));
        let (tokens, longest) = (pool.tokens(blocks, number("context")), pool.longest(blocks, 1, 1 << 20));
        // vLLM's own quotient is a float, which loses up to a token.
        let same = blocks == number("blocks") && tokens.abs_diff(number("tokens")) <= 1 && longest == number("longest");
        (!same).then(|| format!("{blocks} blocks, {tokens} tokens, longest {longest}, and vLLM says {asked}"))
    })
}

#[test]
fn the_cache_of_published_models_is_that_of_vllm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fit/facts");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let (mut differences, mut compared) = (Vec::new(), 0);
    for name in &names {
        let facts = parsed(&format!("facts/{name}"));
        let (config, model) = model_of(&facts["config"]);
        assert!(model.family().is_some(), "{name}");
        for size in facts["sizes"].as_array().unwrap() {
            let difference = difference(&config, &model, size);
            if NOT_COUNTED.contains(&facts["model"].as_str().unwrap()) {
                assert_eq!(difference.as_deref(), model.cache_not_known());
            } else if let Some(difference) = difference {
                differences.push(format!("{name} on {} in {}: {difference}", size["gpus"], size["dtype"]));
            } else {
                compared += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared >= 150, "{compared}");
}

/// Types of known families for which another figure than vLLM's comes out.
const EXCEPTIONS: [&str; 1] = [
    // It declares DeepSeek-V3's class, of which vLLM keeps latents; but vLLM goes by `model_type`, and does not know this one.
    "sarvam_mla",
];

#[test]
fn the_cache_of_every_family_is_that_of_vllm_or_said_not_to_be_known() {
    let catalogue = parsed("catalogue.json");
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (kind, size) in catalogue.as_object().unwrap() {
        if size["config"].is_null() {
            continue;
        }
        let (config, model) = model_of(&size["config"]);
        // What is said of a model of no known family is that nothing is known.
        if model.family().is_none() || EXCEPTIONS.contains(&kind.as_str()) {
            continue;
        }
        if size["error"].is_string() {
            let is_said =
                !model.is_cache_compared()
                    || pool(&config, &model, 1, CacheDtype::Auto, BATCHED_TOKENS).is_err()
                    || catalogue.as_object().unwrap().iter().any(|(other, size)| {
                        other.split('@').next() == kind.split('@').next() && size["error"].is_null()
                    });
            if !is_said {
                wrong.push(format!("{kind}: vLLM does not build it, and nothing says so: {}", size["error"]));
            }
            continue;
        }
        let unknown = pool(&config, &model, 1, CacheDtype::Auto, BATCHED_TOKENS).is_err();
        match difference(&config, &model, size) {
            None => compared += 1,
            Some(_) if unknown => {}
            Some(difference) => wrong.push(format!("{kind}: {difference}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 170, "{compared}");
}
