//! The servers that a result is made for, and those of them that do not serve it.

use std::collections::BTreeMap;

use qwen_fp8_schemes::Registration;

/// Servers by the name that schemes and families give them, and the command before the output's path.
pub(crate) const SERVERS: [(&str, &str); 2] =
    [("vLLM", "vllm serve"), ("SGLang", "python3 -m sglang.launch_server --model-path")];

/// Returns the servers that have kernels for all of these schemes and are not among those `unserved`, each with its command.
pub(crate) fn serving(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVERS.into_iter().filter(move |(server, _)| refusal(server, schemes, unserved).is_none())
}

/// Returns the servers that do not serve what these schemes write, each with the reason.
pub(crate) fn not_serving(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
) -> Vec<(&'static str, String)> {
    SERVERS.iter().filter_map(|&(server, _)| Some((server, refusal(server, schemes, unserved)?))).collect()
}

/// Returns the reason for which a server does not serve what these schemes write; `None` where it does.
fn refusal(server: &str, schemes: &[&Registration], unserved: &BTreeMap<String, String>) -> Option<String> {
    let without = schemes.iter().filter(|scheme| !scheme.servers.servers.contains(&server));
    let without: Vec<String> = without.map(|scheme| format!("`{}`", scheme.name)).collect();
    match without[..] {
        [] => unserved.get(server).cloned(),
        _ => Some(format!("it has no kernels for {}", without.join(", "))),
    }
}
