//! The page of the largest models, and of names that nobody made for a server.

use std::fs;
use std::path::Path;

use qwen_fp8::check::{CheckedAs, CheckedTensor, Figures, Verdict, Verification, WorstBlock};
use qwen_fp8::report::{Machine, Report};

use super::markup::Markup;
use super::pages;

/// The most bytes of a page.
const MOST: usize = 3_000_000;

fn measured(name: String, index: usize) -> CheckedTensor {
    let sqnr = 31.5 + (index * 7919 % 1000) as f64 / 400.0;
    let figures = Figures {
        elements: 3_145_728,
        sqnr_db: Some(sqnr),
        relative_error: 0.026,
        max_error: 0.004,
        max_error_at: [3, 5],
        cosine: 0.9996,
        saturated: 0,
        flushed: 12,
    };
    let mut tensor = CheckedTensor::plain(&name, CheckedAs::Quantized, 3_146_000);
    tensor.storage = Some("F8_E4M3 blocks of 128 × 128".to_owned());
    tensor.figures = Some(figures);
    tensor.worst = Some(WorstBlock { at: [0, 128], size: [128, 128], sqnr_db: sqnr - 3.0, scale: 0.001 });
    tensor
}

fn verification(tensors: Vec<CheckedTensor>) -> Verification {
    Verification {
        output: Path::new("Large-FP8").into(),
        source: Some(Path::new("Large").into()),
        source_recorded: false,
        source_layers: None,
        verdict: Verdict::Proven,
        unproven: Vec::new(),
        findings: Vec::new(),
        kinds: Vec::new(),
        tensors,
    }
}

fn html(verification: &Verification) -> String {
    let machine = Machine::default();
    let report = Report {
        name: "Tiny-FP8".to_owned(),
        program: "0.0.0".to_owned(),
        written: "today".to_owned(),
        verification,
        proof_seconds: 1.0,
        distributions: &[],
        checksums: None,
        output: None,
        source: None,
        manifest: None,
        plan: None,
        run: None,
        machine: &machine,
        serve: &[],
        not_served: &[],
    };
    report.html()
}

#[test]
fn seventy_thousand_experts_make_a_page_of_three_megabytes_at_most() {
    let mut tensors = Vec::new();
    for layer in 0..92 {
        for projection in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"] {
            tensors.push(measured(format!("model.layers.{layer}.{projection}.weight"), layer));
        }
        for expert in 0..256 {
            for projection in ["gate_proj", "up_proj", "down_proj"] {
                let name = format!("model.layers.{layer}.mlp.experts.{expert}.{projection}.weight");
                tensors.push(measured(name, layer * 256 + expert));
            }
        }
    }
    assert!(tensors.len() > 70_000);
    let page = html(&verification(tensors));
    fs::write(pages().join("experts.html"), &page).unwrap();
    Markup::read(&page).check();
    assert!(page.len() < MOST, "{}", page.len());
    // Every layer and projection has its cell, all experts together.
    assert_eq!(page.matches("<g class=\"e").count(), 92 * 7);
    assert!(page.contains(", 256 tensors; "));
}

#[test]
fn each_stack_of_layers_has_a_map_and_a_lossless_weight_is_exact() {
    let names = ["model.layers.0.mlp.up_proj", "mtp.layers.0.mlp.up_proj", "model.visual.blocks.0.attn.qkv", "lm_head"];
    let mut tensors: Vec<CheckedTensor> = names.iter().map(|name| measured(format!("{name}.weight"), 3)).collect();
    let mut exact = measured("model.layers.1.mlp.up_proj.weight".to_owned(), 3);
    exact.figures = exact.figures.map(|figures| Figures { sqnr_db: None, ..figures });
    tensors.push(exact);
    tensors.push(CheckedTensor::plain("model.layers.2.mlp.up_proj.weight", CheckedAs::Copied, 5));
    let page = html(&verification(tensors));
    Markup::read(&page).check();
    for stack in ["model.layers", "mtp.layers", "model.visual.blocks"] {
        assert!(page.contains(&format!("<h3><code>{stack}</code></h3>")), "{stack}");
    }
    let cells =
        ["<g class=\"e1 t1\">", "<g class=\"exact\">", "<g class=\"same\">"].map(|cell| page.matches(cell).count());
    assert_eq!(cells, [3, 1, 1]);
}

#[test]
fn names_without_an_order_make_no_larger_page() {
    let long = "n".repeat(300);
    for name in [
        |index: usize, long: &str| format!("stack{index}.{long}.0.proj.weight"),
        |index: usize, long: &str| format!("layers.{index}.{long}.proj.weight"),
        |index: usize, long: &str| format!("layers.0.{long}{index}.weight"),
        |index: usize, long: &str| format!("layers.{}.{long}{}.weight", index / 100, index % 100),
    ] {
        let tensors = (0..20_000).map(|index| measured(name(index, &long), index)).collect();
        let page = html(&verification(tensors));
        assert!(page.len() < MOST, "{}: {}", name(7, ""), page.len());
        Markup::read(&page).check();
    }
}
