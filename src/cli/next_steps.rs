//! The lines to type after a run: they prove the output and serve it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::plan::{Job, Plan};
use crate::schemes::Registration;

/// Servers by the name that schemes give them, and the command before the output's path.
const COMMANDS: [(&str, &str); 2] =
    [("vLLM", "vllm serve"), ("SGLang", "python3 -m sglang.launch_server --model-path")];

/// Returns the lines to type after this output was written; `None` where a path cannot be typed, or where nothing of the
/// output is quantized or merged.
///
/// A line that proves it is among them where it `can_prove` anything.
pub(super) fn lines(plan: &Plan, output: &Path, can_prove: bool) -> Option<String> {
    let adapters = &plan.checkpoint.adapters;
    if adapters.is_empty() && plan.jobs.iter().all(|job| matches!(job, Job::Copy { .. })) {
        return None;
    }
    let (output, source) = (typed(output)?, typed(&source_name(&plan.checkpoint))?);
    let adapters = adapters.iter().map(|adapter| Some(format!(" --adapter {}", typed(&adapter.dir)?)));
    let adapters = adapters.collect::<Option<String>>()?;
    let verify = can_prove.then(|| format!("to prove it:  qwen-fp8 verify {output} --source {source}{adapters}"));
    let serve = command(plan).map(|serve| format!("to serve it:  {serve} {output}"));
    let lines: Vec<String> = verify.into_iter().chain(serve).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Returns what `--source` names this checkpoint by.
fn source_name(checkpoint: &Checkpoint) -> PathBuf {
    let name = checkpoint.repository.as_ref().map(|repository| repository.name());
    match name.and_then(|name| Some((name.id?, name.revision?))) {
        Some((id, commit)) => format!("{id}@{commit}").into(),
        None => checkpoint.dir.clone(),
    }
}

/// Returns the command of the first server that has kernels for all that the rules wrote.
fn command(plan: &Plan) -> Option<&'static str> {
    let used = plan.decisions.iter().filter_map(|decision| decision.rule);
    let schemes: Vec<_> = used.map(|(rule, _)| plan.recipe.rules[rule].registration).collect();
    commands(&schemes, &plan.unserved).next().map(|(_, command)| command)
}

/// Returns the servers that have kernels for all of these schemes and are not among those `unserved`, each with its command.
fn commands(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.into_iter().filter(move |(server, _)| refusal(server, schemes, unserved).is_none())
}

/// Returns the servers that do not serve what these schemes write, each with the reason.
pub(super) fn not_served(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
) -> Vec<(&'static str, String)> {
    COMMANDS.iter().filter_map(|&(server, _)| Some((server, refusal(server, schemes, unserved)?))).collect()
}

/// Returns the reason for which a server does not serve what these schemes write; `None` where it does.
fn refusal(server: &str, schemes: &[&Registration], unserved: &BTreeMap<String, String>) -> Option<String> {
    let without = schemes.iter().filter(|scheme| !scheme.servers.servers.contains(&server));
    let without: Vec<String> = without.map(|scheme| format!("`{}`", scheme.name)).collect();
    match without[..] {
        [] => unserved.get(server).map(|because| format!("its class for this model cannot load it: {because}")),
        _ => Some(format!("it has no kernels for {}", without.join(", "))),
    }
}

/// Returns the line of every server that has kernels for all of these schemes and is not among those `unserved`, after its
/// name; none where the path of the output cannot be typed.
pub(super) fn serve_lines(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
    output: &Path,
) -> Vec<(&'static str, String)> {
    let Some(output) = typed(output) else { return Vec::new() };
    commands(schemes, unserved).map(|(server, command)| (server, format!("{command} {output}"))).collect()
}

/// Returns a path as a shell takes it; `None` where it is not text that can be typed.
pub(super) fn typed(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./+:=@%,".contains(c);
    // A path that begins with a hyphen would be taken for an option.
    let here = if text.starts_with('-') { "./" } else { "" };
    Some(if !text.is_empty() && text.chars().all(is_plain) {
        format!("{here}{text}")
    } else {
        format!("'{here}{}'", text.replace('\'', r"'\''"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_typed_as_a_shell_reads_them() {
        for (path, expected) in [
            ("models/out-FP8", Some("models/out-FP8")),
            ("my models/out", Some("'my models/out'")),
            ("it's", Some(r"'it'\''s'")),
            ("$HOME", Some("'$HOME'")),
            ("-o", Some("./-o")),
            ("a\nb", None),
        ] {
            assert_eq!(typed(Path::new(path)).as_deref(), expected, "{path:?}");
        }
    }
}
