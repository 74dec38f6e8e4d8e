//! The weights of a model by layer and projection, put together so far that any model makes a small grid.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{CheckedAs, CheckedTensor, Severity, Verification};
use crate::report::place::{WeightPlace, place, rank};

/// The most cells of all grids together, two to four hundred bytes of the page each.
const MOST_CELLS: usize = 4000;
/// The most projections of a grid, and the most grids.
pub(super) const MOST_COLUMNS: usize = 24;
pub(super) const MOST_STACKS: usize = 6;

/// The weights of a stack of layers.
#[derive(Debug)]
pub(super) struct StackGrid<'a> {
    pub(super) stack: &'a str,
    /// The projections that are quantized somewhere in the stack.
    pub(super) columns: Vec<String>,
    /// Projections that have no column any more.
    pub(super) left_out: usize,
    pub(super) rows: Vec<GridRow<'a>>,
}

/// A layer, or several where there are too many.
#[derive(Debug)]
pub(super) struct GridRow<'a> {
    pub(super) layers: [u64; 2],
    /// In the order of the columns.
    pub(super) cells: Vec<GridCell<'a>>,
}

/// The weights of one projection in one row.
#[derive(Clone, Debug, Default)]
pub(super) struct GridCell<'a> {
    pub(super) tensors: usize,
    /// Weights that are as they were in the source.
    pub(super) same: usize,
    /// Weights that were compared with the source, and of them those that are equal to it.
    pub(super) measured: usize,
    pub(super) exact: usize,
    /// The lowest ratio, and whose it is.
    pub(super) least: Option<(f64, &'a str)>,
    /// A weight with an error among the findings.
    pub(super) faulty: Option<&'a str>,
}

type Cells<'a> = BTreeMap<(String, u64), GridCell<'a>>;

/// Returns the grid of every stack that has quantized weights, and the number of stacks that have none any more.
pub(super) fn grids(verification: &Verification) -> (Vec<StackGrid<'_>>, usize) {
    let mut stacks: BTreeMap<&str, Cells<'_>> = BTreeMap::new();
    let mut quantized: BTreeSet<(&str, String)> = BTreeSet::new();
    for tensor in &verification.tensors {
        let Some(WeightPlace { stack, layer, projection }) = place(&tensor.name) else { continue };
        if tensor.storage.is_some() {
            quantized.insert((stack, projection.clone()));
        }
        stacks.entry(stack).or_default().entry((projection, layer)).or_default().add(tensor);
    }
    for finding in verification.findings.iter().filter(|finding| finding.severity == Severity::Error) {
        let Some(name) = finding.place.tensor.as_deref() else { continue };
        let module =
            name.rsplit_once('.').filter(|(_, parameter)| parameter.contains("weight") || *parameter == "bias");
        let Some(WeightPlace { stack, layer, projection }) = place(module.map_or(name, |(module, _)| module)) else {
            continue;
        };
        // A weight with a fault may have no outcome, and is quantized all the same.
        quantized.insert((stack, projection.clone()));
        stacks.entry(stack).or_default().entry((projection, layer)).or_default().faulty = Some(name);
    }
    let with_codes: BTreeSet<&str> = quantized.iter().map(|(stack, _)| *stack).collect();
    stacks.retain(|stack, _| with_codes.contains(stack));
    let more = stacks.len().saturating_sub(MOST_STACKS);
    let most = MOST_CELLS / stacks.len().clamp(1, MOST_STACKS);
    let mut grids = Vec::new();
    for (stack, cells) in stacks.into_iter().take(MOST_STACKS) {
        let columns = quantized.iter().filter(|(other, _)| *other == stack).map(|(_, column)| column.clone());
        grids.push(StackGrid::new(stack, columns.collect(), &cells, most));
    }
    (grids, more)
}

impl<'a> StackGrid<'a> {
    fn new(stack: &'a str, mut columns: Vec<String>, cells: &Cells<'a>, most_cells: usize) -> Self {
        columns.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
        let left_out = columns.len().saturating_sub(MOST_COLUMNS);
        columns.truncate(MOST_COLUMNS);
        let layers: BTreeSet<u64> =
            cells.keys().filter(|(column, _)| columns.contains(column)).map(|(_, layer)| *layer).collect();
        let layers: Vec<u64> = layers.into_iter().collect();
        let together = (layers.len() * columns.len()).div_ceil(most_cells).max(1);
        let rows = layers.chunks(together).map(|layers| GridRow {
            layers: [layers[0], layers[layers.len() - 1]],
            cells: columns.iter().map(|column| GridCell::of(column, layers, cells)).collect(),
        });
        Self { stack, rows: rows.collect(), columns, left_out }
    }

    /// Returns the cells of a column with their rows.
    pub(super) fn column(&self, at: usize) -> impl Iterator<Item = (&GridRow<'a>, &GridCell<'a>)> {
        self.rows.iter().map(move |row| (row, &row.cells[at]))
    }
}

impl GridRow<'_> {
    /// Returns the number of the layer, or the first and last of several.
    pub(super) fn name(&self) -> String {
        let [first, last] = self.layers;
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    }
}

impl<'a> GridCell<'a> {
    /// Puts the cells of these layers together.
    fn of(column: &str, layers: &[u64], cells: &Cells<'a>) -> Self {
        let mut all = Self::default();
        for layer in layers {
            let Some(cell) = cells.get(&(column.to_owned(), *layer)) else { continue };
            all.tensors += cell.tensors;
            all.same += cell.same;
            all.measured += cell.measured;
            all.exact += cell.exact;
            all.faulty = all.faulty.or(cell.faulty);
            all.least = lower(all.least, cell.least);
        }
        all
    }

    fn add(&mut self, tensor: &'a CheckedTensor) {
        self.tensors += 1;
        self.same += usize::from(tensor.storage.is_none() || tensor.action == CheckedAs::PassedThrough);
        if let Some(figures) = &tensor.figures {
            self.measured += 1;
            self.exact += usize::from(figures.sqnr_db.is_none());
            self.least = lower(self.least, figures.sqnr_db.map(|ratio| (ratio, tensor.name.as_str())));
        }
    }
}

fn lower<'a>(a: Option<(f64, &'a str)>, b: Option<(f64, &'a str)>) -> Option<(f64, &'a str)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
