//! What a recipe expects of its plan.

use qwen_fp8::plan::expected;
use qwen_fp8::recipe::diagnostic::Diagnostic;

use super::{BLOCKS, plan};
use crate::support::shapes::{self, Shapes};

/// What `expect:` with these lines says about the main recipe on this model.
fn otherwise(lines: &str, shapes: &Shapes) -> Vec<Diagnostic> {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    expected::check(&plan(&format!("expect:\n{lines}{BLOCKS}"), shapes))
}

fn one(lines: &str, shapes: &Shapes) -> Diagnostic {
    let found = otherwise(lines, shapes);
    let [diagnostic] = &found[..] else { panic!("{lines}: {found:?}") };
    diagnostic.clone()
}

#[test]
fn what_comes_true_says_nothing() {
    let shapes = shapes::qwen3_vl_8b();
    let plan = plan(BLOCKS, &shapes);
    // The model card holds the recipe, these lines included.
    let bytes = plan.output_bytes() + 1000;
    let lines = format!(
        "quantized: 252\ncopied: 498\npassed_through: 0\ndequantized: 0\noutput_at_most: {bytes}\n\
         unquantized_layers: ['re:.*visual.*', lm_head, '*norm*']\n\
         quantized_layers: ['re:.*language_model.*', Linear]"
    );
    assert_eq!(otherwise(&lines, &shapes), []);
    // Nothing is expected of a recipe that says nothing.
    assert_eq!(expected::check(&plan), []);
}

#[test]
fn other_numbers_are_errors_with_both() {
    let shapes = shapes::qwen3_vl_8b();
    for (line, says) in [
        ("quantized: 251", "252 tensors would be quantized, and the recipe expects 251 tensors"),
        ("copied: 1", "498 tensors would be copied, and the recipe expects 1 tensor"),
        ("passed_through: 3", "0 tensors would be passed through, and the recipe expects 3 tensors"),
        ("dequantized: 3", "0 tensors would be decoded, and the recipe expects 3 tensors"),
        ("output_at_most: 5GB", "the output would have 10.59 GB, and the recipe expects 5.00 GB at most"),
    ] {
        let diagnostic = one(line, &shapes);
        assert_eq!(diagnostic.message, says);
        assert!(diagnostic.span.is_some(), "{diagnostic:?}");
    }
    // A byte less than it takes.
    let bytes = plan(BLOCKS, &shapes).output_bytes();
    let message = one(&format!("output_at_most: {}", bytes - 1), &shapes).message;
    assert!(message.contains("bytes)"), "{message}");
    // Each that is otherwise is said.
    assert_eq!(otherwise("quantized: 1\ncopied: 1\nunquantized_layers: Linear", &shapes).len(), 3);
}

#[test]
fn layers_that_fare_otherwise_are_named() {
    let shapes = shapes::qwen3_vl_8b();
    let diagnostic = one("unquantized_layers: ['re:.*layers\\.0\\.mlp.*']", &shapes);
    assert!(
        diagnostic.message.contains("3 layers") && diagnostic.message.contains("would be quantized"),
        "{diagnostic:?}"
    );
    assert!(diagnostic.message.contains("layers.0.mlp.down_proj"), "{diagnostic:?}");
    let diagnostic = one("quantized_layers: lm_head", &shapes);
    assert!(diagnostic.message.contains("1 layer of `lm_head` would stay unquantized"), "{diagnostic:?}");
    // A pattern that misses is no expectation that came true.
    for key in ["quantized_layers", "unquantized_layers"] {
        let diagnostic = one(&format!("{key}: ['re:.*q_prj.*']"), &shapes);
        assert!(diagnostic.message.contains("matches nothing"), "{diagnostic:?}");
        assert!(diagnostic.help.iter().any(|help| help.contains("q_proj")), "{diagnostic:?}");
    }
}
