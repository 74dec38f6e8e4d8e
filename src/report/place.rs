//! The place of a weight in a model, from its name: the stack of layers, the layer, and the projection.

/// The place of a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightPlace<'n> {
    /// The names before the number of the layer, such as `model.layers`.
    pub(super) stack: &'n str,
    pub(super) layer: u64,
    /// The names after it, with `*` for each further number: `mlp.experts.*.up_proj`.
    pub(super) projection: String,
}

/// Returns the place of a weight by its name; `None` where it is in no numbered layer.
pub(super) fn place(name: &str) -> Option<WeightPlace<'_>> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let mut from = 0;
    for part in module.split('.') {
        let end = from + part.len();
        if from > 0 && end < module.len() && is_number(part) {
            let rest = module[end + 1..].split('.').map(|part| if is_number(part) { "*" } else { part });
            let projection = rest.collect::<Vec<_>>().join(".");
            return Some(WeightPlace { stack: &module[..from - 1], layer: part.parse().ok()?, projection });
        }
        from = end + 1;
    }
    None
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The order of projections for people: attention in the order of its arithmetic, then the MLP in that of its own.
pub(super) fn rank(projection: &str) -> usize {
    const ORDER: [&str; 16] = [
        "qkv",
        "q_proj",
        "q_a_proj",
        "q_b_proj",
        "k_proj",
        "v_proj",
        "kv_a_proj",
        "kv_b_proj",
        "in_proj",
        "o_proj",
        "out_proj",
        "gate_up_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "fc",
    ];
    let last = projection.rsplit('.').next().unwrap_or(projection);
    ORDER.iter().position(|known| last.starts_with(known)).unwrap_or(ORDER.len())
}

/// Returns the shortest ends of these names that no two of them share.
pub(super) fn short_names(names: &[String]) -> Vec<String> {
    let end = |name: &str, parts: usize| {
        let mut last: Vec<&str> = name.rsplit('.').take(parts).collect();
        last.reverse();
        last.join(".")
    };
    names
        .iter()
        .map(|name| {
            let most = name.split('.').count();
            let is_alone = |parts: &usize| {
                let short = end(name, *parts);
                names.iter().filter(|other| end(other, *parts) == short).count() == 1
            };
            let parts = (1..=most).find(is_alone).unwrap_or(most);
            // One that begins with a number of any expert says nothing of what is numbered.
            let parts = (parts..=most).find(|parts| !end(name, *parts).starts_with('*')).unwrap_or(parts);
            end(name, parts)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_weights_have_their_place() {
        for (name, expected) in [
            ("model.layers.3.self_attn.q_proj.weight", Some(("model.layers", 3, "self_attn.q_proj"))),
            ("model.layers.61.mlp.experts.255.up_proj.weight", Some(("model.layers", 61, "mlp.experts.*.up_proj"))),
            ("model.visual.blocks.0.attn.qkv.weight", Some(("model.visual.blocks", 0, "attn.qkv"))),
            ("mtp.layers.0.mlp.down_proj.weight", Some(("mtp.layers", 0, "mlp.down_proj"))),
            ("lm_head.weight", None),
            ("0.q.weight", None),
            ("a.12345678901.q.weight", None),
            ("a.1", None),
        ] {
            let found = place(name);
            let found = found.as_ref().map(|place| (place.stack, place.layer, place.projection.as_str()));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn short_names_differ() {
        let names = ["mlp.experts.*.up_proj", "mlp.shared_expert.up_proj", "self_attn.q_proj"].map(str::to_owned);
        assert_eq!(short_names(&names), ["experts.*.up_proj", "shared_expert.up_proj", "q_proj"]);
    }
}
