//! The times of a run, for `apply --timings`.

use super::table::{Align, TextTable};
use super::wrap::fitted;
use crate::checkpoint::text::human;
use crate::run::{Bound, RunReport};

/// A few lines and a table of the slowest tensors.
pub(super) fn render(report: &RunReport) -> String {
    let shares = &report.shares;
    let mut text = format!(
        "wall {:.2} s, CPU {:.2} s, {} workers ({}), peak memory {}\n\
         read {}, written {}, {}/s\n\
         workers: read {:.0} %, compute {:.0} %, write {:.0} %, queue {:.0} %, wait {:.0} %; bound by {}\n",
        report.wall_seconds,
        report.cpu_seconds,
        report.workers,
        report.simd,
        report.peak_memory.map_or_else(|| "unknown".to_owned(), human),
        human(report.bytes_read),
        human(report.bytes_written),
        human(report.bytes_per_second as u64),
        shares.read * 100.0,
        shares.compute * 100.0,
        shares.write * 100.0,
        shares.queue * 100.0,
        shares.wait * 100.0,
        bound(report.bound_by),
    );
    let mut table = TextTable::new(&[("slowest tensors", Align::Left), ("ms", Align::Right), ("GB/s", Align::Right)]);
    for tensor in &report.slowest {
        table.row([
            tensor.name.escape_debug().to_string(),
            format!("{:.2}", tensor.seconds * 1e3),
            format!("{:.1}", tensor.bytes_read as f64 / tensor.seconds.max(1e-9) / 1e9),
        ]);
    }
    text.push_str(&table.render());
    fitted(&text).into_owned()
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Reading => "disk read",
        Bound::Computing => "compute",
        Bound::Writing => "disk write",
        Bound::Queueing => "one writer per file: with a smaller `max_shard_size` there are more files",
        Bound::Syncing => "disk sync",
    }
}
