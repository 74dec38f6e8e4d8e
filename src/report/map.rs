//! The map of a model: its layers by its projections, each cell coloured by the error of its weights.

mod grid;

use super::markup::{self, CellSide, HtmlTable, Section, escaped};
use super::place::short_names;
use super::steps::ErrorSteps;
use crate::check::Verification;
use crate::checkpoint::text::{count, decibels};
use grid::{GridCell, GridRow, StackGrid, grids};

/// Rows of one picture: what is more stands beside it, or below it on a narrow screen.
const ROWS: usize = 32;
/// Width and height of a cell, and the width of the numbers of layers, in pixels.
const CELL: [usize; 2] = [38, 18];
const NUMBERS: usize = 38;
/// The longest label of a column and the longest name of a tensor in a cell, in characters.
const LABEL: usize = 22;
const NAME: usize = 60;

/// Returns the maps, a table of each and what their colours mean; `None` where no layer is quantized.
pub(super) fn section(verification: &Verification) -> Option<Section> {
    let (grids, more) = grids(verification);
    if grids.is_empty() {
        return None;
    }
    let cells = grids.iter().flat_map(|grid| &grid.rows).flat_map(|row| &row.cells);
    let steps = ErrorSteps::of(cells.filter_map(|cell| cell.least.map(|(ratio, _)| ratio)));
    let mut body = match &steps {
        Some(steps) => legend(steps),
        None if verification.source.is_none() => {
            "<p>Without a source no error is known; the map shows what is quantized.</p>\n".to_owned()
        }
        None => "<p>No weight that was compared has an error.</p>\n".to_owned(),
    };
    for grid in &grids {
        body.push_str(&stack(grid, steps.as_ref()));
    }
    if more > 0 {
        body.push_str(&format!("<p class=\"more\">and {} of layers more</p>\n", count(more, "stack")));
    }
    Some(Section { id: "map", title: "Map of the model", body })
}

fn legend(steps: &ErrorSteps) -> String {
    let width = 62;
    let swatches: String = (0..steps.number)
        .map(|step| {
            let (x, middle) = (step * (width + 2), step * (width + 2) + width / 2);
            format!(
                "<rect class=\"e{0}\" x=\"{x}\" width=\"{width}\" height=\"20\" rx=\"3\"/>\
                 <text class=\"t{0}\" x=\"{middle}\" y=\"14\" text-anchor=\"middle\">{1}</text>",
                colour(steps, step),
                steps.describe(step)
            )
        })
        .collect();
    let all = steps.number * (width + 2);
    format!(
        "<p>Each cell is the lowest signal-to-noise ratio (SQNR, in dB) of the weights of one projection in one layer, all \
         experts together; more is better, and 6 dB are half the error. “=” is exact, “·” as in the source, “!” at \
         fault.</p>\n<svg class=\"legend\" role=\"img\" aria-label=\"Colours of the map, from the least error to the most, \
         in dB\" viewBox=\"0 0 {all} 20\" width=\"{all}\" height=\"20\">{swatches}</svg>\n"
    )
}

/// The colour of a step: the more steps there are, the stronger is that of the worst.
fn colour(steps: &ErrorSteps, step: usize) -> usize {
    match steps.number {
        1 | 2 => 1 + 2 * step,
        3 => 2 * step,
        number => step * (super::steps::COLOURS - 1) / (number - 1),
    }
}

fn stack(grid: &StackGrid<'_>, steps: Option<&ErrorSteps>) -> String {
    let labels = short_names(&grid.columns);
    let panels: String = grid.rows.chunks(ROWS).map(|rows| panel(grid, rows, &labels, steps)).collect();
    let left_out = match grid.left_out {
        0 => String::new(),
        number => format!("<p class=\"more\">and {} more</p>\n", count(number, "projection")),
    };
    let name = escaped(grid.stack);
    format!("<h3><code>{name}</code></h3>\n<div class=\"panels\">{panels}</div>\n{left_out}{}", table(grid, &labels))
}

fn panel(grid: &StackGrid<'_>, rows: &[GridRow<'_>], labels: &[String], steps: Option<&ErrorSteps>) -> String {
    let cut: Vec<String> = labels.iter().map(|label| cut(label, LABEL)).collect();
    // Slanted by 40 degrees, a label of n letters of 6.2 pixels is so wide and high.
    let longest = cut.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let head = 14 + longest * 4;
    let beyond = cut.iter().enumerate().map(|(at, label)| (at * CELL[0] + 16 + label.chars().count() * 5).to_owned());
    let width = NUMBERS + beyond.max().unwrap_or(0).max(labels.len() * CELL[0]) + 4;
    let height = head + rows.len() * CELL[1] + 4;
    let mut svg = String::new();
    for (at, label) in cut.iter().enumerate() {
        let (x, y) = (NUMBERS + at * CELL[0] + 14, head - 6);
        svg.push_str(&format!(
            "<text class=\"label\" transform=\"translate({x} {y}) rotate(-40)\">{}</text>",
            escaped(label)
        ));
    }
    for (down, row) in rows.iter().enumerate() {
        let y = head + down * CELL[1];
        svg.push_str(&format!(
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            NUMBERS - 6,
            y + 13,
            row.name()
        ));
        for (at, cell) in row.cells.iter().enumerate().filter(|(_, cell)| cell.is_there()) {
            svg.push_str(&drawn(cell, row, &labels[at], NUMBERS + at * CELL[0], y, steps));
        }
    }
    let layers = match rows {
        [only] => format!("layer {}", only.name()),
        [first, .., last] => format!("layers {} to {}", first.layers[0], last.layers[1]),
        [] => String::new(),
    };
    let name = escaped(grid.stack);
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Map of {name}, {layers}\"><svg class=\"map\" \
         role=\"img\" aria-label=\"Map of {name}, {layers}: the table below has the figures of each projection\" \
         viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">{svg}</svg></div>\n"
    )
}

/// A name of so many characters at most, without its beginning, which tells less than its end.
fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let from = name.char_indices().rev().nth(most - 2).map_or(0, |(at, _)| at);
    format!("…{}", &name[from..])
}

fn drawn(
    cell: &GridCell<'_>,
    row: &GridRow<'_>,
    label: &str,
    x: usize,
    y: usize,
    steps: Option<&ErrorSteps>,
) -> String {
    let (class, text) = match (cell.faulty, cell.least, steps) {
        (Some(_), ..) => ("bad".to_owned(), "!".to_owned()),
        (None, Some((ratio, _)), Some(steps)) => {
            (format!("e{0} t{0}", colour(steps, steps.step(ratio))), format!("{ratio:.1}"))
        }
        _ if cell.exact > 0 => ("exact".to_owned(), "=".to_owned()),
        _ if cell.same == cell.tensors => ("same".to_owned(), "·".to_owned()),
        _ => ("known".to_owned(), String::new()),
    };
    let [width, height] = CELL.map(|side| side - 2);
    format!(
        "<g class=\"{class}\"><title>layer {} {}: {}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" \
         height=\"{height}\" rx=\"2\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{text}</text></g>",
        row.name(),
        escaped(&cut(label, NAME)),
        cell.describe(),
        x + width / 2,
        y + 12
    )
}

impl GridCell<'_> {
    fn is_there(&self) -> bool {
        self.tensors > 0 || self.faulty.is_some()
    }

    fn describe(&self) -> String {
        let short = |name: &str| escaped(&cut(name, NAME)).to_string();
        let of = if self.tensors > 1 { format!(", {}", count(self.tensors, "tensor")) } else { String::new() };
        match (self.faulty, self.least) {
            (Some(name), _) => format!("at fault: {}", short(name)),
            (None, Some((ratio, name))) if self.tensors > 1 => format!("{ratio:.2} dB at least{of}; {}", short(name)),
            (None, Some((ratio, _))) => format!("{ratio:.2} dB"),
            _ if self.exact > 0 => format!("exact{of}"),
            _ if self.same == self.tensors => format!("as in the source{of}"),
            _ => format!("quantized, not compared{of}"),
        }
    }
}

/// The figures of each projection, for whoever does not see the map.
fn table(grid: &StackGrid<'_>, labels: &[String]) -> String {
    use CellSide::{Number, Text};
    let name = escaped(grid.stack);
    let mut table = HtmlTable::new(
        &format!("Projections of {name}"),
        &[
            ("projection", Text),
            ("layers", Number),
            ("tensors", Number),
            ("as in the source", Number),
            ("lowest SQNR", Number),
            ("highest of a layer", Number),
            ("lowest in layer", Number),
        ],
    );
    for (at, label) in labels.iter().enumerate() {
        let there = || grid.column(at).filter(|(_, cell)| cell.is_there());
        let sum = |of: fn(&GridCell<'_>) -> usize| there().map(|(_, cell)| of(cell)).sum::<usize>();
        let ratios = || there().filter_map(|(row, cell)| Some((cell.least?.0, row)));
        let (least, greatest) =
            (ratios().min_by(|a, b| a.0.total_cmp(&b.0)), ratios().max_by(|a, b| a.0.total_cmp(&b.0)));
        let ratio = |found: Option<(f64, &GridRow<'_>)>| match found {
            Some((ratio, _)) => decibels(Some(ratio)),
            None if sum(|cell| cell.measured) > 0 => decibels(None),
            None => String::new(),
        };
        table.row([
            markup::name(label).to_string(),
            there().count().to_string(),
            sum(|cell| cell.tensors).to_string(),
            sum(|cell| cell.same).to_string(),
            ratio(least),
            ratio(greatest),
            least.map_or_else(String::new, |(_, row)| row.name()),
        ]);
    }
    table.html()
}
