//! Columns for a terminal.

use super::wrap::{broken, longest, width_of_stdout};

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// The spaces between two columns.
const GAP: usize = 2;

/// The most lines that a row may take side by side; taller ones read better one below the other.
const TALLEST: usize = 3;

/// A table of text cells; each column is as wide as its widest cell, unless the terminal is narrower than all of them.
#[derive(Clone, Debug)]
pub(super) struct TextTable {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    /// The column that stands first where the others stand below it.
    title: usize,
}

impl TextTable {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), title: 0 }
    }

    /// Puts this column first where the columns stand one below the other.
    pub(super) fn titled_by(mut self, column: usize) -> Self {
        self.title = column;
        self
    }

    /// Adds a row, one cell per column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of the table, the header first, without trailing spaces, in the width of stdout.
    pub(super) fn render(&self) -> String {
        self.blocks(0).concat()
    }

    /// The lines of each row, the header first, for a place `indent` columns further in.
    pub(super) fn blocks(&self, indent: usize) -> Vec<String> {
        self.fitted(width_of_stdout().map(|width| width.saturating_sub(indent)))
    }

    fn fitted(&self, room: Option<usize>) -> Vec<String> {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = std::iter::once(&header).chain(&self.rows);
        match self.widths(&header, room) {
            Some(widths) => lines.map(|cells| self.side_by_side(cells, &widths)).collect(),
            None => {
                // The other names stand in the rows.
                let rows = self.rows.iter().map(|cells| self.one_below_the_other(cells, room.unwrap_or(usize::MAX)));
                let title = self.columns.get(self.title).map_or("", |(name, _)| name);
                let title = if title.is_empty() { String::new() } else { format!("{title}:\n") };
                std::iter::once(title).chain(rows).collect()
            }
        }
    }

    /// The widths of the columns, side by side in `room`; `None` where they do not fit.
    fn widths(&self, header: &[String], room: Option<usize>) -> Option<Vec<usize>> {
        let widest = |of: &dyn Fn(&str) -> usize| -> Vec<usize> {
            let cells = |column: usize| {
                std::iter::once(header)
                    .chain(self.rows.iter().map(Vec::as_slice))
                    .filter_map(move |row| row.get(column))
            };
            (0..self.columns.len()).map(|column| cells(column).map(|cell| of(cell)).max().unwrap_or(0)).collect()
        };
        let mut widths = widest(&|cell| cell.chars().count());
        let Some(room) = room else { return Some(widths) };
        let room = room.saturating_sub(GAP * self.columns.len().saturating_sub(1));
        // Words stay whole as long as that is enough; then names break too.
        for names_break in [false, true] {
            let least = widest(&|cell| longest(cell, names_break));
            while widths.iter().sum::<usize>() > room {
                let shrinkable = (0..widths.len()).filter(|&column| widths[column] > least[column]);
                let Some(column) = shrinkable.max_by_key(|&column| widths[column]) else { break };
                widths[column] -= 1;
            }
        }
        let is_low =
            |cells: &Vec<String>| cells.iter().zip(&widths).all(|(cell, &width)| height(cell, width) <= TALLEST);
        (widths.iter().sum::<usize>() <= room && self.rows.iter().all(is_low)).then_some(widths)
    }

    fn side_by_side(&self, cells: &[String], widths: &[usize]) -> String {
        let broken: Vec<Vec<String>> =
            cells.iter().zip(widths).map(|(cell, &width)| broken_cell(cell, width)).collect();
        let height = broken.iter().map(Vec::len).max().unwrap_or(1);
        let mut out = String::new();
        for at in 0..height {
            let mut line = String::new();
            for (index, ((lines, (_, align)), &width)) in broken.iter().zip(&self.columns).zip(widths).enumerate() {
                let cell = lines.get(at).map_or("", String::as_str);
                if index > 0 {
                    line.push_str(&" ".repeat(GAP));
                }
                let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
                match align {
                    Align::Left => line.extend([cell, &fill]),
                    Align::Right => line.extend([&fill, cell]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// A row as its title, and below it the other cells, each after its column's name.
    fn one_below_the_other(&self, cells: &[String], room: usize) -> String {
        let mut out = String::new();
        if let Some(title) = cells.get(self.title) {
            broken(title, room).iter().for_each(|line| out.extend([line, "\n"]));
        }
        let named = cells.iter().zip(&self.columns).enumerate();
        let others: Vec<String> = named
            .filter(|(index, (cell, _))| *index != self.title && !cell.is_empty())
            .map(|(_, (cell, (name, _)))| format!("{name} {cell}").trim_start().to_owned())
            .collect();
        let mut lines: Vec<String> = Vec::new();
        // A pair stays on one line where it can.
        for (index, pair) in others.iter().enumerate() {
            let pair = if index + 1 < others.len() { format!("{pair},") } else { pair.clone() };
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + pair.chars().count() <= room.saturating_sub(GAP) => {
                    line.push(' ');
                    line.push_str(&pair);
                }
                _ => lines.extend(broken(&pair, room.saturating_sub(GAP))),
            }
        }
        lines.iter().for_each(|line| out.push_str(&format!("{}{line}\n", " ".repeat(GAP))));
        out
    }
}

fn height(cell: &str, width: usize) -> usize {
    broken_cell(cell, width).len()
}

/// The lines of a cell; one that fits stays as it is.
fn broken_cell(cell: &str, width: usize) -> Vec<String> {
    if cell.chars().count() <= width { vec![cell.to_owned()] } else { broken(cell, width) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table =
            TextTable::new(&[("name", Align::Left), ("least cosine", Align::Right), ("bytes", Align::Right)]);
        table.row(["mlp.up_proj.weight".to_owned(), "0.99".to_owned(), "12,345,678".to_owned()]);
        table.row(["longer".to_owned(), String::new(), "1".to_owned()]);
        table
    }

    #[test]
    fn columns_line_up() {
        let expected = "\
name                least cosine       bytes
mlp.up_proj.weight          0.99  12,345,678
longer                                     1
";
        assert_eq!(table().fitted(None).concat(), expected);
        assert_eq!(table().fitted(Some(44)).concat(), expected);
    }

    #[test]
    fn a_narrow_table_breaks_headers_then_names() {
        let headers = "\
name                 least       bytes
                    cosine
mlp.up_proj.weight    0.99  12,345,678
longer                               1
";
        assert_eq!(table().fitted(Some(38)).concat(), headers);
        let names = "\
name           least       bytes
              cosine
mlp.up_proj.    0.99  12,345,678
weight
longer                         1
";
        assert_eq!(table().fitted(Some(32)).concat(), names);
    }

    #[test]
    fn rows_that_fit_in_no_way_stand_one_below_the_other() {
        let stacked = "\
name:
mlp.up_proj.weight
  least cosine 0.99,
  bytes 12,345,678
longer
  bytes 1
";
        assert_eq!(table().fitted(Some(20)).concat(), stacked);
    }
}
