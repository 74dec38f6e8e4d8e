//! The pace of work: how fast it goes, what is left of it, and the name of what it is at, in few columns.

use std::time::Duration;

use crate::checkpoint::text::{human, unquoted};

/// The progress of work, and the time that it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) elapsed: Duration,
}

impl Pace {
    /// The mean of bytes per second; `None` before anything is done.
    pub(super) fn bytes_per_second(self) -> Option<f64> {
        (self.done > 0).then(|| self.done as f64 / self.elapsed.as_secs_f64().max(1e-6))
    }

    /// The time that the rest takes at that pace.
    pub(super) fn left(self) -> Option<Duration> {
        let seconds = self.total.saturating_sub(self.done) as f64 / self.bytes_per_second()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The line of a log, with the name of what the work is at.
    pub(super) fn line(self, at: &str) -> String {
        let percent = u128::from(self.done) * 100 / u128::from(self.total.max(1));
        let mut line = format!("{percent:>3} %  {} of {}", human(self.done), human(self.total));
        if let Some((speed, left)) = self.bytes_per_second().zip(self.left()) {
            line.push_str(&format!("  {}/s  {} left", human(speed as u64), time(left)));
        }
        if !at.is_empty() {
            line.push_str(&format!("  {at}"));
        }
        line
    }
}

/// A time in one unit: `31 s`, `42 min`, `7 h`, `3 d`.
pub(super) fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} min", (seconds + 30) / 60),
        seconds @ 6_000..180_000 => format!("{} h", (seconds + 1_800) / 3_600),
        seconds => format!("{} d", (seconds.saturating_add(43_200)) / 86_400),
    }
}

/// The name of a tensor from its numbered layer on: `layers.12.mlp.up_proj`. Another name stays whole.
pub(super) fn layer_of(name: &str) -> String {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let mut from = 0;
    let mut before = 0;
    for part in module.split_inclusive('.') {
        let is_number = part.trim_end_matches('.').parse::<u64>().is_ok();
        if is_number {
            break;
        }
        before = from;
        from += part.len();
    }
    let numbered = if from < module.len() { &module[before..] } else { module };
    unquoted(numbered).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_fast_and_how_long() {
        let pace = |done, seconds| Pace { done, total: 17_500_000_000, elapsed: Duration::from_secs(seconds) };
        assert_eq!(
            pace(3_500_000_000, 10).line("layers.3.mlp"),
            " 20 %  3.50 GB of 17.50 GB  350.00 MB/s  40 s left  layers.3.mlp"
        );
        assert_eq!(pace(0, 10).line(""), "  0 %  0 B of 17.50 GB");
        assert_eq!(pace(17_500_000_000, 50).line(""), "100 %  17.50 GB of 17.50 GB  350.00 MB/s  0 s left");
        let nothing = Pace { done: 0, total: 0, elapsed: Duration::ZERO };
        assert_eq!((nothing.left(), nothing.line("")), (None, "  0 %  0 B of 0 B".to_owned()));
    }

    #[test]
    fn times_have_one_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (99, "99 s"),
            (100, "2 min"),
            (5_999, "100 min"),
            (6_000, "2 h"),
            (90_000, "25 h"),
            (180_000, "2 d"),
            (u64::MAX, "213503982334601 d"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn names_begin_at_the_numbered_layer() {
        for (name, shown) in [
            ("model.language_model.layers.12.mlp.up_proj.weight", "layers.12.mlp.up_proj"),
            ("model.layers.3.mlp.experts.127.down_proj.weight", "layers.3.mlp.experts.127.down_proj"),
            ("lm_head.weight", "lm_head"),
            ("model.embed_tokens.weight", "model.embed_tokens"),
            ("h.0.attn.bias", "h.0.attn.bias"),
            ("0.weight", "0"),
            ("model-00001-of-00004.safetensors", "model-00001-of-00004.safetensors"),
            ("a\u{1b}[2J.1.b", "a\\u{1b}[2J.1.b"),
            ("", ""),
        ] {
            assert_eq!(layer_of(name), shown, "{name}");
        }
    }
}
