//! Warnings where a server runs slowly what a rule writes, or has no kernel for it.

use super::plan;
use super::serving::CHANNELS;
use crate::support::shapes;

#[test]
fn a_small_block_is_a_warning_where_servers_have_slow_kernels() {
    let recipe = CHANNELS.replace("scheme: FP8_DYNAMIC", "scheme: FP8_BLOCK\n    block_size: 64");
    let warnings = plan(&recipe, &shapes::small_text()).warnings;
    assert!(warnings[0].message.contains("not 64 × 64"), "{warnings:#?}");
    assert_eq!(plan(&recipe.replace("64", "128"), &shapes::small_text()).warnings, []);
}

#[test]
fn what_a_server_has_no_kernel_for_is_a_warning() {
    let warned = |rule: &str| {
        let recipe = format!("format: compressed-tensors\nrules:\n  - {rule}\n    targets: [Linear]\n");
        let warnings = plan(&recipe, &shapes::small_text()).warnings;
        assert!(warnings.iter().all(|warning| warning.span.is_some()), "{warnings:#?}");
        warnings.into_iter().map(|warning| warning.message).collect::<Vec<_>>()
    };
    for fine in [
        "scheme: FP8_DYNAMIC",
        "scheme: FP8",
        "scheme: W4A16",
        "scheme: NVFP4A16",
        "scheme: W8A16\n    group_size: channel",
        "scheme: W4A16_ASYM\n    group_size: 32",
        "scheme: W8A8\n    group_size: tensor",
    ] {
        assert_eq!(warned(fine), [""; 0], "{fine}");
    }
    for (rule, message) in [
        ("scheme: MXFP8", "vLLM serves `MXFP8`; SGLang does not"),
        ("scheme: W3A16", "neither vLLM nor SGLang serves `W3A16` on NVIDIA GPUs: it is for transformers"),
        ("scheme: W4A16\n    group_size: 16", "vLLM has no kernel for packed integers with a scale per 16 columns"),
        (
            "scheme: W8A16\n    group_size: tensor",
            "vLLM has no kernel for packed integers with one scale for the tensor",
        ),
        ("scheme: W8A8\n    group_size: 64", "vLLM has no kernel for INT8 with a scale per 64 columns"),
        (
            "scheme: W8A8\n    symmetric: false",
            "vLLM has no kernel for INT8 with zero points beside quantized activations",
        ),
    ] {
        assert_eq!(warned(rule), [message], "{rule}");
    }
    let hopper = "vLLM has no kernel for FP4 with FP8 activations on GPUs other than Hopper (SM 9.0)";
    assert_eq!(warned("scheme: MXFP4XFP8"), ["vLLM serves `MXFP4XFP8`; SGLang does not", hopper]);
}

#[test]
fn what_no_server_runs_has_a_way_out() {
    for (scheme, way_out) in [
        ("MXFP6A16", "vLLM serves `MXFP4A16`, which is smaller, and `MXFP8A16`, which is larger"),
        ("MXFP6A8", "vLLM serves `MXFP4`, which is smaller, and `MXFP8`, which is larger"),
        ("W6A16", "vLLM serves `W4A16`, which is smaller, and `W8A16`, which is larger"),
        ("W6A8", "vLLM serves `W8A8`, which is larger"),
    ] {
        let recipe = format!("format: compressed-tensors\nrules:\n  - scheme: {scheme}\n    targets: Linear\n");
        let warnings = plan(&recipe, &shapes::small_text()).warnings;
        let [warning] = &warnings[..] else { panic!("{warnings:#?}") };
        let message = format!("neither vLLM nor SGLang serves `{scheme}` on NVIDIA GPUs: it is for transformers");
        assert_eq!((&warning.message, &warning.help), (&message, &vec![way_out.to_owned()]));
    }
}
