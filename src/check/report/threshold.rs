//! Thresholds, such as `--fail-if sqnr<30dB`: bounds on a tensor's figures beyond which a result fails.

use std::fmt;
use std::str::FromStr;

use super::Figures;

/// A figure and the bound beyond which a tensor fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    figure: Figure,
    below: bool,
    inclusive: bool,
    bound: f64,
    /// The bound is in percent of the tensor's elements.
    is_share: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Sqnr,
    RelativeError,
    MaxError,
    Cosine,
    Saturated,
    Flushed,
}

const FIGURES: [(Figure, &str); 6] = [
    (Figure::Sqnr, "sqnr"),
    (Figure::RelativeError, "relative_error"),
    (Figure::MaxError, "max_error"),
    (Figure::Cosine, "cosine"),
    (Figure::Saturated, "saturated"),
    (Figure::Flushed, "flushed"),
];

/// The reasons why a text is not a threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("`{text}` compares nothing: write a figure, `<` or `>`, and a number, such as `sqnr<30dB`")]
    NoComparison { text: String },
    #[error("no figure is called `{name}`: there are sqnr, relative_error, max_error, cosine, saturated and flushed")]
    UnknownFigure { name: String },
    #[error("`{number}` is not a number for {figure}")]
    BadNumber { number: String, figure: &'static str },
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let Some(at) = text.find(['<', '>']) else {
            return Err(ThresholdError::NoComparison { text: text.escape_debug().to_string() });
        };
        let (name, rest) = (text[..at].trim(), &text[at + 1..]);
        let Some(&(figure, known)) = FIGURES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)) else {
            return Err(ThresholdError::UnknownFigure { name: name.escape_debug().to_string() });
        };
        let (inclusive, number) = match rest.strip_prefix('=') {
            Some(number) => (true, number),
            None => (false, rest),
        };
        let number = number.trim();
        let unit = match figure {
            Figure::Sqnr => "dB",
            Figure::Saturated | Figure::Flushed => "%",
            Figure::RelativeError | Figure::MaxError | Figure::Cosine => "",
        };
        // The unit may be left out: a figure has only one, and shares are asked for with `%`.
        let bare = number.strip_suffix(unit).unwrap_or(number);
        let is_share = unit == "%" && bare.len() < number.len();
        let bound = bare.trim_end().parse::<f64>().ok().filter(|bound| bound.is_finite());
        let Some(bound) = bound else {
            return Err(ThresholdError::BadNumber { number: number.escape_debug().to_string(), figure: known });
        };
        Ok(Self { figure, below: text[at..].starts_with('<'), inclusive, bound, is_share })
    }
}

impl Threshold {
    /// Describes the figure of a tensor that is beyond the bound; `None` where it is within.
    pub(crate) fn broken(&self, figures: &Figures) -> Option<String> {
        let share = |number: u64| {
            if self.is_share { number as f64 * 100.0 / figures.elements.max(1) as f64 } else { number as f64 }
        };
        let value = match self.figure {
            // Without noise the ratio is infinite, which no lower bound catches.
            Figure::Sqnr => figures.sqnr_db.unwrap_or(f64::INFINITY),
            Figure::RelativeError => figures.relative_error,
            Figure::MaxError => figures.max_error,
            Figure::Cosine => figures.cosine,
            Figure::Saturated => share(figures.saturated),
            Figure::Flushed => share(figures.flushed),
        };
        // A NaN figure breaks no threshold; a tensor with NaN has its own finding.
        let beyond = if self.below { value < self.bound } else { value > self.bound };
        let broken = beyond || self.inclusive && value == self.bound;
        broken.then(|| format!("{} is {value:.6}{}", self.name(), self.unit()))
    }

    fn name(&self) -> &'static str {
        FIGURES.iter().find(|(figure, _)| *figure == self.figure).map_or("", |(_, name)| name)
    }

    fn unit(&self) -> &'static str {
        match (self.figure, self.is_share) {
            (Figure::Sqnr, _) => " dB",
            (_, true) => " %",
            _ => "",
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = if self.below { '<' } else { '>' };
        let equal = if self.inclusive { "=" } else { "" };
        write!(f, "{}{comparison}{equal}{}{}", self.name(), self.bound, self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: Figures = Figures {
        elements: 1000,
        sqnr_db: Some(31.5),
        relative_error: 0.026,
        max_error: 0.5,
        max_error_at: [0, 0],
        cosine: 0.9996,
        saturated: 10,
        flushed: 0,
    };

    #[test]
    fn figures_beyond_the_threshold_are_named() {
        let broken = |text: &str| text.parse::<Threshold>().unwrap().broken(&FIGURES);
        assert_eq!(broken("sqnr<30dB"), None);
        assert_eq!(broken("SQNR < 32 dB").as_deref(), Some("sqnr is 31.500000 dB"));
        assert_eq!(broken("max_error>0.4").as_deref(), Some("max_error is 0.500000"));
        assert_eq!(broken("max_error>0.5"), None);
        assert!(broken("max_error>=0.5").is_some());
        assert!(broken("cosine<0.9999").is_some() && broken("cosine<0.999").is_none());
        assert!(broken("saturated>9").is_some() && broken("saturated>10").is_none());
        assert_eq!(broken("saturated>0.9%").as_deref(), Some("saturated is 1.000000 %"));
        assert!(broken("saturated>1%").is_none() && broken("flushed>0").is_none());
        let exact = Figures { sqnr_db: None, ..FIGURES };
        assert!("sqnr<500dB".parse::<Threshold>().unwrap().broken(&exact).is_none());
        assert_eq!("sqnr<=30 dB".parse::<Threshold>().unwrap().to_string(), "sqnr<=30 dB");
    }

    #[test]
    fn malformed_thresholds_are_refused() {
        for (text, message) in [
            ("sqnr", "`sqnr` compares nothing: write a figure, `<` or `>`, and a number, such as `sqnr<30dB`"),
            ("psnr<3", "no figure is called `psnr`"),
            ("sqnr<", "`` is not a number for sqnr"),
            ("sqnr<30%", "`30%` is not a number for sqnr"),
            ("cosine<nan", "`nan` is not a number for cosine"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
