//! The quality of a result: its noisiest tensors, and tables by storage form and by kind of layer.

use std::collections::BTreeMap;

use super::markup::{self, CellSide, HtmlTable, Section, escaped, percent};
use super::plots;
use crate::check::{CheckedAs, CheckedTensor, Distribution, Verification};
use crate::checkpoint::text::{count, decibels, human};

/// The tensors that are listed.
const LISTED: usize = 20;

/// The most kinds of layer in a table: names of a checkpoint that nobody made for a server could be all different.
const MOST_KINDS: usize = 100;

/// Returns the noisiest tensors, and the distributions of the first of them; `None` where no tensor is quantized.
pub(super) fn worst(verification: &Verification, distributions: &[Distribution]) -> Option<Section> {
    use CellSide::{Number, Text};
    let tensors = verification.noisiest();
    let mut body = String::new();
    if !tensors.is_empty() {
        let mut table = HtmlTable::new(
            "The noisiest tensors",
            &[
                ("tensor", Text),
                ("SQNR", Number),
                ("largest error", Number),
                ("cosine", Number),
                ("saturated", Number),
                ("flushed to 0", Number),
                ("worst block", CellSide::Prose),
            ],
        );
        for tensor in tensors.iter().take(LISTED) {
            table.row(figures(tensor));
        }
        table.more(tensors.len().saturating_sub(LISTED));
        body.push_str(&table.html());
    }
    if !distributions.is_empty() {
        body.push_str(if tensors.is_empty() {
            "<p>Without a source nobody knows which tensors are furthest from it: these are the largest.</p>\n"
        } else {
            "<p>Values and scales of the first of them. The height of values is the logarithm of their number, so that a \
             single one at the end of the range is seen; the line is the source.</p>\n"
        });
        body.push_str("<div class=\"figures\">\n");
        for distribution in distributions {
            let tensor = verification.tensors.iter().find(|tensor| tensor.name == distribution.name);
            body.push_str(&figure(distribution, tensor));
        }
        body.push_str("</div>\n");
    }
    (!body.is_empty()).then_some(Section { id: "tensors", title: "Noisiest tensors", body })
}

fn figures(tensor: &CheckedTensor) -> [String; 7] {
    let worst = tensor.worst.map_or_else(String::new, |worst| worst.to_string());
    let figures = tensor.figures.map_or_else(Default::default, |figures| figures.shown());
    let [sqnr, error, cosine, saturated, flushed] = figures;
    [markup::name(&tensor.name).to_string(), sqnr, error, cosine, saturated, flushed, worst]
}

fn figure(distribution: &Distribution, tensor: Option<&CheckedTensor>) -> String {
    let stored = tensor.and_then(|tensor| tensor.storage.as_deref());
    let sqnr = tensor.and_then(|tensor| tensor.figures).map(|figures| decibels(figures.sqnr_db));
    let about: Vec<String> = stored.map(|stored| escaped(stored).to_string()).into_iter().chain(sqnr).collect();
    let lost = [distribution.decoded.without_place, distribution.scales.without_place];
    let lost = match lost {
        [0, 0] => String::new(),
        [values, scales] => format!(
            "<p class=\"only\">Not drawn: {} and {}, which are not finite or, of scales, not above 0.</p>",
            count(values as usize, "value"),
            count(scales as usize, "scale")
        ),
    };
    format!(
        "<figure><figcaption>{}<br>{}</figcaption>\n<div class=\"pair\"><div><p class=\"what\">values</p>{}</div>\
         <div><p class=\"what\">scales</p>{}</div></div>{lost}</figure>\n",
        markup::name(&distribution.name),
        about.join(", "),
        plots::values(distribution),
        plots::scales(distribution),
    )
}

/// The tensors of one storage form.
#[derive(Default)]
struct StoredTensors {
    tensors: usize,
    bytes: u64,
    elements: u64,
    measured_bytes: u64,
    saturated: u64,
    flushed: u64,
    /// Ratios in decibels, in order once sorted.
    ratios: Vec<f64>,
    exact: usize,
}

/// Returns the quality by storage form; `None` where no tensor is quantized.
pub(super) fn by_storage(verification: &Verification) -> Option<Section> {
    use CellSide::{Number, Text};
    let mut forms: BTreeMap<&str, StoredTensors> = BTreeMap::new();
    for tensor in &verification.tensors {
        let Some(storage) = &tensor.storage else { continue };
        let form = forms.entry(storage).or_default();
        form.tensors += 1;
        form.bytes += tensor.bytes;
        if let Some(figures) = &tensor.figures {
            form.measured_bytes += tensor.bytes;
            form.elements += figures.elements;
            form.saturated += figures.saturated;
            form.flushed += figures.flushed;
            match figures.sqnr_db {
                Some(ratio) => form.ratios.push(ratio),
                None => form.exact += 1,
            }
        }
    }
    if forms.is_empty() {
        return None;
    }
    forms.values_mut().for_each(|form| form.ratios.sort_by(f64::total_cmp));
    let mut table = HtmlTable::new(
        "Quality by scheme",
        &[
            ("stored as", Text),
            ("tensors", Number),
            ("bytes", Number),
            ("bits of a weight", Number),
            ("lowest SQNR", Number),
            ("median", Number),
            ("highest", Number),
            ("saturated", Number),
            ("flushed to 0", Number),
        ],
    );
    for (name, form) in &forms {
        let all = form.elements.max(1) as f64;
        let is_measured = form.elements > 0;
        let figure = |text: String| if is_measured { text } else { String::new() };
        table.row([
            escaped(name).to_string(),
            form.tensors.to_string(),
            human(form.bytes),
            figure(format!("{:.2}", form.measured_bytes as f64 * 8.0 / all)),
            figure(decibels(form.ratios.first().copied())),
            figure(decibels(form.median())),
            figure(decibels(if form.exact > 0 { None } else { form.ratios.last().copied() })),
            figure(percent(form.saturated as f64 / all)),
            figure(percent(form.flushed as f64 / all)),
        ]);
    }
    let spread = spread(&forms);
    Some(Section { id: "schemes", title: "Quality by scheme", body: spread + &table.html() })
}

impl StoredTensors {
    /// Returns the ratio that half of the tensors do not reach.
    fn median(&self) -> Option<f64> {
        // Those that are exact come after all others.
        self.ratios.get((self.ratios.len() + self.exact).saturating_sub(1) / 2).copied()
    }

    fn quantile(&self, share: f64) -> f64 {
        self.ratios[((self.ratios.len() - 1) as f64 * share).round() as usize]
    }
}

/// Draws the spread of each form: from the lowest to the highest ratio, the middle half thick, the median marked.
fn spread(forms: &BTreeMap<&str, StoredTensors>) -> String {
    let drawn: Vec<_> = forms.iter().filter(|(_, form)| form.ratios.len() > 1).collect();
    let ends = |end: fn(&StoredTensors) -> Option<f64>| drawn.iter().filter_map(move |(_, form)| end(form));
    let least = ends(|form| form.ratios.first().copied()).reduce(f64::min);
    let greatest = ends(|form| form.ratios.last().copied()).reduce(f64::max);
    let (Some(least), Some(greatest)) = (least, greatest) else { return String::new() };
    let (low, high) = ((least - 0.5).floor(), (greatest + 0.5).ceil());
    let x = |ratio: f64| 10.0 + (ratio - low) / (high - low).max(1.0) * 320.0;
    let mut svg = String::new();
    for (at, (name, form)) in drawn.iter().enumerate() {
        let (top, middle) = (at * 40 + 12, at * 40 + 25);
        let [a, b, c, d] = [0.0, 0.25, 0.75, 1.0].map(|share| x(form.quantile(share)));
        let median = x(form.quantile(0.5));
        svg.push_str(&format!(
            "<text x=\"10\" y=\"{top}\">{}</text><path class=\"whisker\" d=\"M{a:.1} {middle}H{d:.1}\"/>\
             <rect class=\"box\" x=\"{b:.1}\" y=\"{}\" width=\"{:.1}\" height=\"12\" rx=\"2\"/>\
             <path class=\"median\" d=\"M{median:.1} {}v16\"/>",
            escaped(name),
            middle - 6,
            (c - b).max(2.0),
            middle - 8,
        ));
    }
    let base = drawn.len() * 40 + 4;
    svg.push_str(&format!(
        "<path class=\"axis\" d=\"M10 {base}H330\"/><text x=\"10\" y=\"{0}\">{low:.0} dB</text>\
         <text x=\"330\" y=\"{0}\" text-anchor=\"end\">{high:.0} dB</text>",
        base + 14
    ));
    let height = base + 20;
    format!(
        "<p>From the tensor of the lowest SQNR to that of the highest; the box holds the middle half, the mark is the \
         median.</p>\n<svg class=\"spread\" role=\"img\" aria-label=\"Spread of the SQNR by scheme, from {low:.0} to {high:.0} dB; \
         the table has the figures\" viewBox=\"0 0 340 {height}\" width=\"340\" height=\"{height}\">{svg}</svg>\n"
    )
}

/// Returns the quality by kind of layer; `None` where there is no tensor.
pub(super) fn by_kind(verification: &Verification) -> Option<Section> {
    use CellSide::{Number, Text};
    if verification.kinds.is_empty() {
        return None;
    }
    let mut table = HtmlTable::new(
        "Tensors by kind of layer",
        &[
            ("layer", Text),
            ("outcome", Text),
            ("tensors", Number),
            ("bytes", Number),
            ("lowest SQNR", Number),
            ("largest error", Number),
            ("lowest cosine", Number),
        ],
    );
    for kind in verification.kinds.iter().take(MOST_KINDS) {
        let is_measured = kind.action == CheckedAs::Quantized;
        table.row([
            escaped(&kind.kind).to_string(),
            kind.action.name().to_owned(),
            kind.tensors.to_string(),
            human(kind.bytes),
            if is_measured { decibels(kind.min_sqnr_db) } else { String::new() },
            kind.max_error.map_or_else(String::new, |error| format!("{error:.3e}")),
            kind.min_cosine.map_or_else(String::new, |cosine| format!("{cosine:.6}")),
        ]);
    }
    table.more(verification.kinds.len().saturating_sub(MOST_KINDS));
    Some(Section { id: "kinds", title: "By kind of layer", body: table.html() })
}
