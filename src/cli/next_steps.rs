//! The lines to type after a run: they prove the output and serve it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::plan::{Job, Plan, not_serving, serving};
use crate::schemes::Registration;

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
    let lines: Vec<String> = verify.into_iter().chain([serve(plan, &output)]).collect();
    Some(lines.join("\n"))
}

/// Returns what `--source` names this checkpoint by.
fn source_name(checkpoint: &Checkpoint) -> PathBuf {
    let name = checkpoint.repository.as_ref().map(|repository| repository.name());
    match name.and_then(|name| Some((name.id?, name.revision?))) {
        Some((id, commit)) => format!("{id}@{commit}").into(),
        None => checkpoint.dir.clone(),
    }
}

/// Returns the line that serves the output by the first server that does; where none is known to, the reasons.
fn serve(plan: &Plan, output: &str) -> String {
    let schemes = plan.schemes_used();
    if let Some((_, command)) = serving(&schemes, &plan.unserved).next() {
        return format!("to serve it:  {command} {output}");
    }
    let mut reasons: Vec<(Vec<&str>, String)> = Vec::new();
    for (server, why) in not_serving(&schemes, &plan.unserved) {
        match reasons.iter_mut().find(|(_, known)| *known == why) {
            Some((servers, _)) => servers.push(server),
            None => reasons.push((vec![server], why)),
        }
    }
    let why = reasons.iter().map(|(servers, why)| format!("{}: {why}", servers.join(" and ")));
    format!("no server is known here that serves it: {}", why.collect::<Vec<_>>().join("; "))
}

/// Returns the line of every server that has kernels for all of these schemes and is not among those `unserved`, after its
/// name; none where the path of the output cannot be typed.
pub(super) fn serve_lines(
    schemes: &[&Registration],
    unserved: &BTreeMap<String, String>,
    output: &Path,
) -> Vec<(&'static str, String)> {
    let Some(output) = typed(output) else { return Vec::new() };
    serving(schemes, unserved).map(|(server, command)| (server, format!("{command} {output}"))).collect()
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
