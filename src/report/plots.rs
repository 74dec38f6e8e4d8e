//! Histograms as pictures, and bars of shares.

use crate::check::{Distribution, Histogram};
use crate::checkpoint::text::grouped;

/// Width and height of a plot without its labels, in pixels.
const PLOT: [f64; 2] = [300.0, 90.0];
/// Room at the left for the counts, and below for the ends of the range.
const MARGIN: [f64; 2] = [6.0, 18.0];

/// The values of a weight, decoded as bars and those of the source as a line, by the logarithm of their number.
//
// By the logarithm, because a weight has millions of small values and a handful at its ends, which decide its scale.
pub(super) fn values(distribution: &Distribution) -> String {
    let (decoded, source) = (&distribution.decoded, distribution.source.as_ref());
    let most = |histogram: &Histogram| histogram.counts.iter().copied().max().unwrap_or(0);
    let most = most(decoded).max(source.map_or(0, most));
    let height = |count: u64| if count == 0 { 0.0 } else { (1.0 + count as f64).ln() / (1.0 + most as f64).ln() };
    let line =
        source.map_or_else(String::new, |source| format!("<path class=\"line\" d=\"{}\"/>", line(source, height)));
    let [low, high] = decoded.range;
    let legend = if source.is_some() { "bars: decoded, line: source" } else { "decoded" };
    frame(
        &format!("Values from {} to {}; {legend}; the fullest bin has {}", number(low), number(high), grouped(most)),
        &format!("<path class=\"bars\" d=\"{}\"/>{line}", bars(decoded, height)),
        [&number(low), "0", &number(high)],
    )
}

/// The scales of a weight; a sentence in place of a picture where they are all the same.
pub(super) fn scales(distribution: &Distribution) -> String {
    let scales = &distribution.scales;
    let all: u64 = scales.counts.iter().sum();
    let [low, high] = scales.range.map(f64::exp2);
    if all < 2 || scales.counts.len() < 2 {
        let what = match all {
            0 => "No scale is a finite number above 0.".to_owned(),
            1 => format!("One scale: {}.", number(low)),
            all => format!("All {} scales are near {}.", grouped(all), number(low)),
        };
        return format!("<p class=\"only\">{what}</p>");
    }
    let most = scales.counts.iter().copied().max().unwrap_or(0).max(1);
    let middle = number((scales.range[0].midpoint(scales.range[1])).exp2());
    frame(
        &format!(
            "{} scales from {} to {}, by their logarithm; the fullest bin has {}",
            grouped(all),
            number(low),
            number(high),
            grouped(most)
        ),
        &format!("<path class=\"bars scale\" d=\"{}\"/>", bars(scales, |count| count as f64 / most as f64)),
        [&number(low), &middle, &number(high)],
    )
}

/// A bar that is cut into shares, each with the number of its colour and its name.
pub(super) fn shares(label: &str, shares: &[(usize, String, f64)], width: f64) -> String {
    let (mut x, mut parts) = (0.0, String::new());
    for (colour, name, share) in shares {
        let wide = share * width;
        parts.push_str(&format!(
            "<g><title>{name}</title><rect class=\"s{colour}\" x=\"{x:.1}\" width=\"{:.1}\" height=\"22\"/></g>",
            wide.max(0.5)
        ));
        x += wide;
    }
    format!(
        "<svg class=\"share\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 600 22\" preserveAspectRatio=\"none\" \
         width=\"600\" height=\"22\">{parts}</svg>\n"
    )
}

/// A patch of a colour of [`shares`], before its name in a line of text.
pub(super) fn swatch(colour: usize) -> String {
    format!("<span class=\"swatch w{colour}\" aria-hidden=\"true\"></span>")
}

fn frame(label: &str, drawn: &str, ticks: [&str; 3]) -> String {
    let [width, height] = [PLOT[0] + 2.0 * MARGIN[0], PLOT[1] + MARGIN[1] + 2.0];
    let (base, label_at) = (PLOT[1] + 1.0, PLOT[1] + 15.0);
    let [left, middle, right] = [MARGIN[0], width / 2.0, width - MARGIN[0]];
    let [low, centre, high] = ticks;
    format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\">{drawn}<path class=\"axis\" d=\"M{left} {base}H{right}\"/>\
         <text x=\"{left}\" y=\"{label_at}\">{low}</text>\
         <text x=\"{middle}\" y=\"{label_at}\" text-anchor=\"middle\">{centre}</text>\
         <text x=\"{right}\" y=\"{label_at}\" text-anchor=\"end\">{high}</text></svg>\n"
    )
}

fn bars(histogram: &Histogram, height: impl Fn(u64) -> f64) -> String {
    let wide = PLOT[0] / histogram.counts.len() as f64;
    let bar = |(bin, count): (usize, &u64)| {
        // A single value is seen, too.
        let tall = (height(*count) * PLOT[1]).max(1.0);
        let x = MARGIN[0] + bin as f64 * wide;
        format!("M{x:.1} {:.1}h{:.1}v-{tall:.1}h-{:.1}z", PLOT[1], wide - 0.6, wide - 0.6)
    };
    histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(bar).collect()
}

fn line(histogram: &Histogram, height: impl Fn(u64) -> f64) -> String {
    let wide = PLOT[0] / histogram.counts.len() as f64;
    let mut path = format!("M{:.1} {:.1}", MARGIN[0], PLOT[1]);
    for (bin, count) in histogram.counts.iter().enumerate() {
        let y = PLOT[1] - height(*count) * PLOT[1];
        path.push_str(&format!("V{y:.1}H{:.1}", MARGIN[0] + (bin + 1) as f64 * wide));
    }
    path.push_str(&format!("V{:.1}", PLOT[1]));
    path
}

/// A number of any size in few characters.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.01..1000.0).contains(&size) => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_tall_as_their_share_and_one_value_is_seen() {
        let histogram = Histogram { range: [0.0, 3.0], counts: vec![1000, 0, 1], without_place: 0 };
        let path = bars(&histogram, |count| count as f64 / 1000.0);
        assert_eq!(path, "M6.0 90.0h99.4v-90.0h-99.4zM206.0 90.0h99.4v-1.0h-99.4z");
    }

    #[test]
    fn numbers_of_any_size_are_short() {
        assert_eq!([0.0, 0.0123, -448.0, 3.2e-9].map(number), ["0", "0.012", "-448.000", "3.20e-9"]);
    }
}
