//! Names of experts: stacked in three dimensions, or one by one.

use super::split_name;

/// The stack of gate and up projections.
pub const GATE_UP: &str = "gate_up_proj";

/// The stack of down projections.
pub const DOWN: &str = "down_proj";

/// The projections of one expert, in the order in which servers ask for them.
pub const EXPERT_PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Splits the name of a stack, with or without `.weight`: `model.layers.0.mlp.experts.gate_up_proj` →
/// (`model.layers.0.mlp.experts`, `gate_up_proj`).
pub fn of_stack(name: &str) -> (&str, &str) {
    split_name(name.strip_suffix(".weight").unwrap_or(name))
}

/// Returns the projections that a stack of this name holds for each expert, in the order in which they lie there.
pub fn stack_projections(projection: &str) -> &'static [&'static str] {
    if projection == DOWN { &[DOWN] } else { &["gate_proj", "up_proj"] }
}

/// Returns whether a name is that of a stack of expert weights without `.weight`.
pub fn is_expert_stack(name: &str) -> bool {
    let (module, parameter) = split_name(name);
    matches!(parameter, GATE_UP | DOWN) && module.ends_with("experts")
}

/// Cuts the name of one expert's layer behind `experts`: `a.mlp.experts.17.up_proj` → `a.mlp.experts`.
pub fn expert_stack(module: &str) -> Option<&str> {
    module.find(".experts.").map(|at| &module[..at + ".experts".len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_an_expert_leads_to_its_stack() {
        assert_eq!(expert_stack("a.mlp.experts.17.up_proj"), Some("a.mlp.experts"));
        assert_eq!(expert_stack("a.mlp.up_proj"), None);
        assert!(is_expert_stack("a.mlp.experts.gate_up_proj") && !is_expert_stack("a.mlp.gate_up_proj"));
        assert_eq!(of_stack("a.experts.down_proj.weight"), ("a.experts", "down_proj"));
    }
}
