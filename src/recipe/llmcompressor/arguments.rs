//! Finds the scheme that explicit quantization arguments describe.

use qwen_fp8_schemes::{Dynamic, NumberKind, QuantizationArgs, Registration, Strategy, find_by_arguments};
use serde_json::Value;

use super::fields::{GroupArguments, ModifierGroup};
use super::spellings::{DynamicName, NumberType, StrategyName};
use crate::checkpoint::text::unquoted;
use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::child;

/// The observers that mean the least and greatest value of a weight, whatever they do with activations.
const MINMAX: [&str; 3] = ["memoryless_minmax", "minmax", "static_minmax"];

/// Finds the scheme of a group and its options, or reports why there is none.
pub(super) fn scheme(
    builder: &mut Builder<'_>,
    group: &ModifierGroup,
    pointer: &str,
) -> Option<(&'static Registration, Value)> {
    let before = builder.diagnostics.len();
    let weights_at = child(pointer, "weights");
    let inputs_at = child(pointer, "input_activations");
    let weights = group.weights.as_ref().and_then(|weights| resolve(builder, weights, &weights_at, Role::Weights));
    let inputs = group.input_activations.as_ref().and_then(|inputs| resolve(builder, inputs, &inputs_at, Role::Inputs));
    if let Some(outputs) = &group.output_activations {
        let at = builder.document.spans.key(&child(pointer, "output_activations"));
        let message = match outputs.dynamic.as_ref().map(DynamicName::resolve) {
            Some(Some(Dynamic::Dynamic)) => "no scheme of this build quantizes `output_activations`",
            _ => "static `output_activations` need calibration data",
        };
        builder.report(Diagnostic::error(message).at(at));
    }
    if group.weights.is_none() {
        let at = builder.document.spans.key(pointer);
        builder.report(Diagnostic::error("the group has no `weights`, so that it quantizes nothing").at(at));
    }
    if builder.diagnostics.len() > before {
        return None;
    }
    let weights = weights?;
    let found = find_by_arguments(&weights, inputs.as_ref()).next();
    if found.is_none() {
        let inputs = match &inputs {
            Some(inputs) => format!("inputs of {}", describe(inputs)),
            None => "unquantized inputs".to_owned(),
        };
        let diagnostic = Diagnostic::error(format!(
            "no scheme of this build computes these arguments: weights of {}, {inputs}",
            describe(&weights)
        ));
        let diagnostic = diagnostic.at(builder.document.spans.key(&weights_at)).label("not supported");
        builder.report(if weights.symmetric {
            diagnostic
        } else {
            diagnostic.help("`symmetric: false` may be the reason")
        });
    }
    found
}

/// Reports an observer that does more than take the minimum and maximum.
pub(super) fn check_observer(builder: &mut Builder<'_>, observer: Option<&str>, pointer: &str) {
    let Some(observer) = observer.filter(|observer| !MINMAX.contains(observer)) else { return };
    let message = if observer.contains("imatrix") {
        format!("the observer `{}` needs calibration data", unquoted(observer))
    } else {
        format!("no scheme of this build has the observer `{}`", unquoted(observer))
    };
    let diagnostic = Diagnostic::error(message).at(builder.document.spans.value(pointer));
    builder.report(diagnostic.help("leave it out, which means `memoryless_minmax`"));
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Weights,
    Inputs,
}

fn resolve(
    builder: &mut Builder<'_>,
    arguments: &GroupArguments,
    pointer: &str,
    role: Role,
) -> Option<QuantizationArgs> {
    let before = builder.diagnostics.len();
    let dynamic = dynamic(builder, arguments, pointer, role);
    if let Some(order) = &arguments.actorder
        && !matches!(order, Value::Null | Value::Bool(false))
    {
        let at = builder.document.spans.key(&child(pointer, "actorder"));
        builder.report(
            Diagnostic::error("`actorder` needs calibration data").at(at).help("leave it out, or set it to null"),
        );
    }
    check_observer(builder, arguments.observer.as_deref(), &child(pointer, "observer"));
    let strategy = strategy(builder, arguments, pointer);
    let scale_dtype = match arguments.scale_dtype.as_deref().map(|name| name.trim_start_matches("torch.")) {
        None => None,
        Some("uint8") => Some("torch.uint8"),
        Some("float8_e4m3fn") => Some("torch.float8_e4m3fn"),
        Some(other) => {
            let message = format!("no scheme of this build stores scales as `{}`", unquoted(other));
            let at = builder.document.spans.value(&child(pointer, "scale_dtype"));
            builder.report(Diagnostic::error(message).at(at).help("leave it out for the dtype of the weight"));
            None
        }
    };
    let num_bits = u8::try_from(arguments.num_bits.0).ok().filter(|bits| *bits > 0);
    if num_bits.is_none() {
        let at = builder.document.spans.value(&child(pointer, "num_bits"));
        builder.report(Diagnostic::error("`num_bits` must be from 1 to 255").at(at));
    }
    let resolved = QuantizationArgs {
        num_bits: num_bits?,
        kind: match arguments.kind {
            NumberType::Int => NumberKind::Int,
            NumberType::Float => NumberKind::Float,
        },
        symmetric: arguments.symmetric.0,
        strategy: strategy?,
        dynamic: dynamic?,
        scale_dtype,
    };
    (builder.diagnostics.len() == before).then_some(resolved)
}

fn dynamic(builder: &mut Builder<'_>, arguments: &GroupArguments, pointer: &str, role: Role) -> Option<Dynamic> {
    let at = child(pointer, "dynamic");
    let written = match &arguments.dynamic {
        None => Dynamic::Static,
        Some(name) => name.resolve()?,
    };
    let message = match (role, written) {
        (Role::Weights, Dynamic::Static) | (Role::Inputs, Dynamic::Dynamic) => return Some(written),
        (Role::Weights, _) => "`weights` cannot be dynamic",
        (Role::Inputs, Dynamic::Static) => "static `input_activations` need calibration data",
        (Role::Inputs, Dynamic::Local) => "`dynamic: local` needs calibration data",
    };
    let diagnostic = Diagnostic::error(message).at(builder.document.spans.key(match arguments.dynamic {
        Some(_) => &at,
        None => pointer,
    }));
    builder.report(match role {
        Role::Weights => diagnostic,
        Role::Inputs if written == Dynamic::Local => diagnostic
            .help("a recipe of this tool has `scheme: NVFP4` with `input_scale: 1.0` in place of measured scales"),
        Role::Inputs => diagnostic.help("`dynamic: true` computes their scales while the model runs"),
    });
    None
}

impl DynamicName {
    fn resolve(&self) -> Option<Dynamic> {
        match self {
            Self::Flag(flag) if flag.0 => Some(Dynamic::Dynamic),
            Self::Flag(_) => Some(Dynamic::Static),
            Self::Word(word) => (word == "local").then_some(Dynamic::Local),
        }
    }
}

/// Returns the strategy; without one, it follows from the group size as in llm-compressor.
fn strategy(builder: &mut Builder<'_>, arguments: &GroupArguments, pointer: &str) -> Option<Strategy> {
    let size = arguments.group_size.map(|size| size.0);
    let written = match (arguments.strategy, size) {
        (Some(strategy), _) => strategy,
        (None, None) => StrategyName::Tensor,
        (None, Some(-1)) => StrategyName::Channel,
        (None, Some(_)) => StrategyName::Group,
    };
    let group = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let resolved = match (written, group, arguments.block_structure) {
        (StrategyName::Tensor, None, None) => Ok(Strategy::Tensor),
        (StrategyName::Channel, None, None) => Ok(Strategy::Channel),
        (StrategyName::Token, None, None) => Ok(Strategy::Token),
        (StrategyName::Group, Some(size), None) => Ok(Strategy::Group(size)),
        (StrategyName::TensorGroup, Some(size), None) => Ok(Strategy::TensorGroup(size)),
        (StrategyName::Block, None, Some(block)) => Ok(Strategy::Block(block.0)),
        (StrategyName::Group | StrategyName::TensorGroup, None, _) => {
            Err(("strategy", "needs a positive `group_size`"))
        }
        (StrategyName::Block, _, None) => Err(("strategy", "needs a `block_structure`, such as [128, 128]")),
        (StrategyName::AttnHead, _, _) => {
            Err(("strategy", "is for attention, which no scheme of this build quantizes"))
        }
        (_, Some(_), _) => Err(("group_size", "is for the strategies `group` and `tensor_group`")),
        (_, _, Some(_)) => Err(("block_structure", "is for the strategy `block`")),
    };
    match resolved {
        Ok(strategy) => Some(strategy),
        Err((key, reason)) => {
            let at = builder.document.spans.key(&child(pointer, key));
            let what = match key {
                "strategy" => format!("strategy `{}`", written.name()),
                other => format!("`{other}`"),
            };
            builder.report(Diagnostic::error(format!("{what} {reason}")).at(at));
            None
        }
    }
}

impl StrategyName {
    fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Channel => "channel",
            Self::Group => "group",
            Self::Block => "block",
            Self::Token => "token",
            Self::TensorGroup => "tensor_group",
            Self::AttnHead => "attn_head",
        }
    }
}

fn describe(arguments: &QuantizationArgs) -> String {
    let kind = match arguments.kind {
        NumberKind::Int => "int",
        NumberKind::Float => "float",
    };
    let strategy = match arguments.strategy {
        Strategy::Tensor => "per tensor".to_owned(),
        Strategy::Channel => "per channel".to_owned(),
        Strategy::Token => "per token".to_owned(),
        Strategy::Group(size) => format!("per group of {size}"),
        Strategy::TensorGroup(size) => format!("per group of {size} under a tensor scale"),
        Strategy::Block([height, width]) => format!("per block of {height}x{width}"),
    };
    let symmetry = if arguments.symmetric { "" } else { ", asymmetric" };
    format!("{} {} bits {strategy}{symmetry}", arguments.num_bits, kind)
}
