//! Names of experts, one by one.

/// The projections of one expert, in the order in which vLLM asks lists for them.
const EXPERT_PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Returns the names of the layers of the first expert, by which vLLM asks compressed-tensors lists for all of them.
pub fn layers_of_first_expert(experts: &str) -> [String; 3] {
    EXPERT_PROJECTIONS.map(|projection| format!("{experts}.0.{projection}"))
}

/// Cuts the name of one expert's layer behind `experts`: `a.mlp.experts.17.up_proj` → `a.mlp.experts`.
pub fn expert_stack(module: &str) -> Option<&str> {
    module.find(".experts.").map(|at| &module[..at + ".experts".len()])
}

/// Returns whether a projection of an expert leads back to the hidden size.
pub fn is_down_projection(projection: &str) -> bool {
    matches!(projection, "down_proj" | "w2" | "output_linear")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_an_expert_leads_to_its_stack() {
        assert_eq!(expert_stack("a.mlp.experts.17.up_proj"), Some("a.mlp.experts"));
        assert_eq!(expert_stack("a.mlp.up_proj"), None);
    }
}
