//! Versions of Python packages, compared as pip does as far as doctor needs it.

use std::cmp::Ordering;
use std::fmt;

/// A version such as `4.57.0`, `5.0.0.dev0` or `0.33.0+cu129`.
#[derive(Clone, Debug, Eq)]
pub struct PackageVersion {
    text: String,
    numbers: Vec<u64>,
    /// A version before the release of these numbers: `rc1`, `.dev0`.
    is_before: bool,
}

impl PackageVersion {
    /// Reads a version; `None` where it does not begin with a number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let public = text.split('+').next().unwrap_or(text);
        let mut numbers = Vec::new();
        let mut rest = "";
        for part in public.trim_start_matches('v').split('.') {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if digits > 0 {
                numbers.push(part[..digits].parse().unwrap_or(u64::MAX));
            }
            if digits == 0 || digits < part.len() {
                rest = &part[digits..];
                break;
            }
        }
        let is_before = ["a", "b", "c", "rc", "dev", "pre"].iter().any(|word| rest.starts_with(word));
        (!numbers.is_empty()).then(|| Self { text: text.to_owned(), numbers, is_before })
    }
}

impl Ord for PackageVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.numbers.len().max(other.numbers.len());
        let padded = |version: &Self| -> Vec<u64> {
            version.numbers.iter().copied().chain(std::iter::repeat(0)).take(longest).collect()
        };
        padded(self).cmp(&padded(other)).then(other.is_before.cmp(&self.is_before))
    }
}

impl PartialOrd for PackageVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PackageVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
