//! Steps of error: which signal-to-noise ratios have one colour.

/// The number of colours.
pub(super) const COLOURS: usize = 7;

/// Ratios in decibels, cut into steps from the best, which is step 0, to the worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ErrorSteps {
    /// The upper end of step 0.
    top: f64,
    width: f64,
    /// The number of steps that there are ratios in.
    pub(super) number: usize,
}

impl ErrorSteps {
    /// Cuts what lies between the least and the greatest of these ratios; `None` where there is none.
    pub(super) fn of(ratios: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = ratios.filter(|ratio| ratio.is_finite());
        let range = finite.map(|ratio| (ratio, ratio)).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
        let (least, greatest) = range?;
        // Narrower steps would colour what nobody can tell apart, and so would an edge between two ratios that hardly differ.
        if greatest - least < 0.5 {
            let top = (greatest * 10.0).floor() / 10.0 + 0.1;
            return Some(Self { top, width: top - (least * 10.0).floor() / 10.0, number: 1 });
        }
        const WIDTHS: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
        let steps = |width: f64| ((greatest / width).floor() + 1.0 - (least / width).floor()) as usize;
        let width = WIDTHS.into_iter().find(|width| steps(*width) <= COLOURS).unwrap_or(100.0);
        Some(Self { top: ((greatest / width).floor() + 1.0) * width, width, number: steps(width).min(COLOURS) })
    }

    /// The step of a ratio.
    pub(super) fn step(&self, ratio: f64) -> usize {
        let below = (self.top - ratio) / self.width;
        // A ratio at the lower end of a step belongs to it.
        ((below.ceil() - 1.0).max(0.0) as usize).min(self.number - 1)
    }

    /// The ends of a step, for people.
    pub(super) fn describe(&self, step: usize) -> String {
        let (low, high) = (self.top - (step + 1) as f64 * self.width, self.top - step as f64 * self.width);
        let digits = usize::from(self.width < 1.0);
        format!("{low:.digits$}–{high:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_that_differ_little_share_a_step_and_all_have_one() {
        let steps = ErrorSteps::of([31.5, 31.6, 31.74].into_iter()).unwrap();
        assert_eq!((steps.number, steps.describe(0)), (1, "31.5–31.8".to_owned()));
        assert_eq!(ErrorSteps::of([31.499, 31.501].into_iter()).unwrap().describe(0), "31.4–31.6");
        let steps = ErrorSteps::of([12.0, 31.5, f64::INFINITY, 44.9].into_iter()).unwrap();
        let found = [44.9, 40.0, 39.9, 31.5, 12.0].map(|ratio| steps.describe(steps.step(ratio)));
        assert_eq!(found, ["40–45", "40–45", "35–40", "30–35", "10–15"]);
        assert_eq!(ErrorSteps::of([f64::NAN].into_iter()), None);
        let far = ErrorSteps::of([-4000.0, 50.0].into_iter()).unwrap();
        assert_eq!(far.step(-4000.0), COLOURS - 1);
    }
}
