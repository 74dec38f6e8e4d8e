//! How a result was made: what was left as it is and why, times, the machine, and the manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::content::Report;
use super::markup::{self, CellSide, HtmlTable, Section, escaped, escaped_lines, percent};
use super::plots;
use crate::checkpoint::Tensor;
use crate::checkpoint::models::{Layer, LayerKind, Part};
use crate::checkpoint::text::{count, human, memory};
use crate::run::RunReport;

/// The most files that are listed, and the longest recipe that is shown, in bytes.
const MOST_FILES: usize = 100;
const MOST_OF_RECIPE: usize = 64 << 10;

/// Returns the tensors that stay as they are and the files that were left out, each with the reason; `None` where there
/// is none.
pub(super) fn unquantized(report: &Report<'_>) -> Option<Section> {
    use CellSide::{Number, Text};
    let mut body = String::new();
    if let Some(output) = report.output {
        let quantized = report.verification.tensors.iter().filter(|tensor| tensor.storage.is_some());
        let modules: BTreeSet<&str> = quantized.map(|tensor| tensor.name.trim_end_matches(".weight")).collect();
        let rest = output.tensors.iter().filter(|tensor| {
            // What belongs to a quantized weight is not left; a bias beside one is.
            let is_of_weight = modules.contains(tensor.module()) && tensor.parameter() != "bias";
            !is_of_weight && !modules.contains(tensor.name.as_str())
        });
        let mut kinds: BTreeMap<(&str, &str), (usize, u64, &Tensor)> = BTreeMap::new();
        for tensor in rest {
            let layer = output.model.layer(&tensor.name, tensor.shape.len());
            let (number, bytes, _) = kinds.entry((layer.kind.name(), why(layer))).or_insert((0, 0, tensor));
            *number += 1;
            *bytes += tensor.len;
        }
        let mut table = HtmlTable::new(
            "Tensors that are as they were",
            &[("kind", Text), ("tensors", Number), ("bytes", Number), ("why", CellSide::Prose), ("for example", Text)],
        );
        for ((kind, why), (number, bytes, first)) in &kinds {
            let example = markup::name(&first.name).to_string();
            table.row([(*kind).to_owned(), number.to_string(), human(*bytes), (*why).to_owned(), example]);
        }
        if !kinds.is_empty() {
            body.push_str(&table.html());
        }
    }
    let left_out = report.source.map_or(&[][..], |source| &source.left_out);
    if !left_out.is_empty() {
        let mut table =
            HtmlTable::new("Files of the source that are left out", &[("file", Text), ("why", CellSide::Prose)]);
        for (name, why) in left_out.iter().take(MOST_FILES) {
            table.row([markup::name(name).to_string(), (*why).to_owned()]);
        }
        table.more(left_out.len().saturating_sub(MOST_FILES));
        body.push_str(&table.html());
    }
    (!body.is_empty()).then_some(Section { id: "left", title: "What was left out", body })
}

/// The reason why a layer is not quantized, as far as its kind and part tell.
fn why(layer: Layer) -> &'static str {
    match layer.kind {
        LayerKind::Linear if layer.part != Part::Decoder => layer.part.why(),
        LayerKind::Linear | LayerKind::Experts => "the recipe leaves it, or it was so in the source",
        LayerKind::Norm | LayerKind::Bias => "one number for each channel: there is nothing to gain",
        LayerKind::Embedding | LayerKind::PositionEmbedding => "rows are looked up and not multiplied",
        LayerKind::LmHead => "its error goes into every token; a rule has to name it",
        LayerKind::Router => "a small error would pick other experts; a rule has to name it",
        LayerKind::Conv => "a convolution; schemes take matrices",
        LayerKind::Other => "no linear layer",
    }
}

/// Returns the times of the run; `None` where the page is of a proof alone.
pub(super) fn timings(report: &Report<'_>) -> Option<Section> {
    let run = report.run?;
    let shares = &run.shares;
    let named = [
        ("read", shares.read),
        ("compute", shares.compute),
        ("write", shares.write),
        ("queue", shares.queue),
        ("wait", shares.wait),
    ];
    let parts: Vec<(usize, String, f64)> = named
        .iter()
        .enumerate()
        .map(|(colour, (name, share))| (colour, format!("{name}: {}", percent(*share)), *share))
        .collect();
    let words: Vec<&str> = parts.iter().map(|(_, words, _)| words.as_str()).collect();
    let words = words.join(", ");
    let legend: Vec<String> =
        parts.iter().map(|(colour, words, _)| format!("{}{words}", plots::swatch(*colour))).collect();
    let body = format!(
        "<dl class=\"list\">\n<dt>run</dt><dd>{:.1} s, {}/s</dd>\n<dt>proof</dt><dd>{:.1} s</dd>\n\
         <dt>processor time</dt><dd>{:.1} s, {} with {}</dd>\n<dt>peak memory</dt><dd>{}</dd>\n\
         <dt>read, written</dt><dd>{}, {}</dd>\n</dl>\n<p class=\"bar\">time of the workers: {}</p>\n{}{}",
        run.wall_seconds,
        human(run.bytes_per_second as u64),
        report.proof_seconds,
        run.cpu_seconds,
        count(run.workers, "worker"),
        run.simd,
        run.peak_memory.map_or_else(|| "not known".to_owned(), human),
        human(run.bytes_read),
        human(run.bytes_written),
        legend.join(", "),
        plots::shares(&format!("time of the workers: {words}"), &parts, 600.0),
        slowest(run),
    );
    Some(Section { id: "timings", title: "Timings", body })
}

fn slowest(run: &RunReport) -> String {
    use CellSide::{Number, Text};
    if run.slowest.is_empty() {
        return String::new();
    }
    let mut table = HtmlTable::new("The slowest tensors", &[("tensor", Text), ("ms", Number), ("read", Number)]);
    for tensor in &run.slowest {
        let name = markup::name(&tensor.name).to_string();
        table.row([name, format!("{:.2}", tensor.seconds * 1e3), human(tensor.bytes_read)]);
    }
    table.html()
}

/// Returns what the page was written with.
pub(super) fn machine(report: &Report<'_>) -> Section {
    let machine = report.machine;
    let known = |text: &str| if text.is_empty() { "not known".to_owned() } else { escaped(text).to_string() };
    let mut body = format!(
        "<dl class=\"list\">\n<dt>program</dt><dd>qwen-fp8 {}</dd>\n<dt>processor</dt><dd>{}, {}</dd>\n\
         <dt>memory</dt><dd>{}</dd>\n<dt>system</dt><dd>{}, {}</dd>\n<dt>written</dt><dd>{}</dd>\n",
        escaped(&report.program),
        known(&machine.processor),
        count(machine.threads, "thread"),
        machine.memory.map_or_else(|| "not known".to_owned(), memory),
        known(&machine.system),
        known(&machine.kernel),
        escaped(&report.written),
    );
    if report.run.is_none() {
        body.push_str(&format!("<dt>time of the proof</dt><dd>{:.1} s</dd>\n", report.proof_seconds));
    }
    body.push_str("</dl>\n");
    Section { id: "machine", title: "Machine", body }
}

/// Returns what the manifest says; `None` where there is none.
pub(super) fn manifest(report: &Report<'_>) -> Option<Section> {
    let manifest = report.manifest?;
    let source = &manifest.source;
    let revision = source.revision.as_deref().map_or_else(String::new, |revision| format!(" at {}", escaped(revision)));
    let schemes: Vec<String> = manifest
        .schemes
        .iter()
        .take(MOST_FILES)
        .map(|(name, version)| format!("{} (version {version})", escaped(name)))
        .collect();
    let checksums = match report.checksums {
        None => "not compared; <code>--manifest</code> compares them".to_owned(),
        Some([]) => "every file and tensor is what the manifest says".to_owned(),
        Some(mismatches) => format!("{}, listed above", count(mismatches.len(), "difference")),
    };
    let text = &manifest.recipe.text;
    let recipe = if text.len() > MOST_OF_RECIPE {
        format!("<p>The recipe has {}; the manifest holds it.</p>\n", human(text.len() as u64))
    } else {
        format!("<h3>Recipe</h3>\n<pre tabindex=\"0\"><code>{}</code></pre>\n", escaped_lines(text))
    };
    let body = format!(
        "<dl class=\"list\">\n<dt>source</dt><dd>{}{revision}, {}</dd>\n<dt>schemes</dt><dd>{}</dd>\n\
         <dt>files</dt><dd>{}</dd>\n<dt>checksums</dt><dd>{checksums}</dd>\n<dt>recipe</dt><dd>SHA-256 <code>{}</code></dd>\n</dl>\n{recipe}",
        escaped(&source.model),
        count(source.files.len(), "file"),
        if schemes.is_empty() { "none".to_owned() } else { schemes.join(", ") },
        count(manifest.files.len(), "file"),
        escaped(&manifest.recipe.sha256),
    );
    Some(Section { id: "manifest", title: "Manifest", body })
}
