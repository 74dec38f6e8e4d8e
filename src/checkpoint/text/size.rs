//! Byte counts as people write and read them.

/// `10.59 GB`: decimal units and three to four figures, as the hub shows sizes.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

/// `14.72 GiB`, or `16 GiB`: a size of memory, in the units in which GPUs have it.
pub fn memory(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1_u64 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", grouped(bytes / unit))
    } else {
        format!("{:.2} {name}", bytes as f64 / unit as f64)
    }
}

/// `10.59 GB (10,589,327,840 bytes)`: for a size of which every byte counts.
pub fn exact(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1000 => format!("{bytes} bytes"),
        _ => format!("{} ({} bytes)", human(bytes), grouped(bytes)),
    }
}

/// Two sizes to compare: as [`human`] shows them, unless they would look the same.
pub fn apart(a: u64, b: u64) -> [String; 2] {
    let [short_a, short_b] = [human(a), human(b)];
    if a != b && short_a == short_b { [exact(a), exact(b)] } else { [short_a, short_b] }
}

/// `10589327840` as `10,589,327,840`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Reads `5GB`, `512 MiB` or `1000`: decimal units in powers of 1000, binary ones in powers of 1024.
///
/// # Errors
/// What the text should have been.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected =
        || format!("`{}` is no size: write bytes, or a number with kB, MB, GB, KiB, MiB or GiB", text.escape_debug());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(expected()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).filter(|&bytes| bytes > 0).ok_or_else(expected);
    }
    let value: f64 = number.parse().map_err(|_| expected())?;
    let bytes = value * factor as f64;
    if bytes >= 1.0 && bytes < 2_f64.powi(63) { Ok(bytes as u64) } else { Err(expected()) }
}

/// Returns the size that a text such as `5 gigs` or `1.5 G` means, as a whole number with a unit; `None` where it means
/// none.
pub fn meant_size(text: &str) -> Option<String> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let is_binary = unit.get(1..).is_some_and(|rest| rest.starts_with("ib") || rest.starts_with("ibi"));
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    const BINARY: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = ["b", "k", "m", "g", "t"].iter().position(|letter| unit.starts_with(letter))?;
    let units = if is_binary { BINARY } else { UNITS };
    if let Ok(whole @ 1..1_000_000) = number.parse::<u32>() {
        return Some(format!("{whole}{}", units[at]));
    }
    let thousands = (number.parse::<f64>().ok()? * 1000.0).round();
    let is_whole = at > 0 && !is_binary && (1.0..1e6).contains(&thousands);
    is_whole.then(|| format!("{thousands}{}", units[at - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_with_units_or_grouped_digits() {
        assert_eq!(human(999), "999 B");
        assert_eq!(human(10_589_327_840), "10.59 GB");
        assert_eq!(human(999_999), "1.00 MB");
        assert_eq!(
            [memory(16 << 30), memory(15 << 29), memory(5 << 18), memory(1 << 14)],
            ["16 GiB", "7.50 GiB", "1.25 MiB", "16 KiB"]
        );
        assert_eq!(grouped(1_002), "1,002");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(10_589_327_840), "10,589,327,840");
    }

    #[test]
    fn sizes_that_differ_look_different() {
        assert_eq!([exact(1), exact(8), exact(1000)], ["1 byte", "8 bytes", "1.00 kB (1,000 bytes)"]);
        assert_eq!(apart(4_000_000, 5_000), ["4.00 MB", "5.00 kB"]);
        assert_eq!(apart(4_000_001, 4_000_000), ["4.00 MB (4,000,001 bytes)", "4.00 MB (4,000,000 bytes)"]);
    }

    #[test]
    fn sizes_are_parsed_with_or_without_units() {
        assert_eq!(parse("5GB"), Ok(5_000_000_000));
        assert_eq!(parse("5 GiB"), Ok(5 << 30));
        assert_eq!(parse("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse("1000"), Ok(1000));
        for wrong in ["", "GB", "0", "-1", "5 parsec", "99999999999 TB", "1e400"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_in_other_words_are_understood() {
        for (text, size) in [
            ("5 gigs", Some("5GB")),
            ("5g", Some("5GB")),
            ("5gib", Some("5GiB")),
            ("512 megabytes", Some("512MB")),
            ("4 gibibytes", Some("4GiB")),
            ("1.5 GB", Some("1500MB")),
            ("100 bytes", Some("100B")),
            ("1.5 GiB", None),
            ("0 GB", None),
            ("-5GB", None),
            ("5", None),
            ("big", None),
            ("", None),
        ] {
            assert_eq!(meant_size(text).as_deref(), size, "{text}");
            if let Some(size) = size {
                assert!(parse(size).is_ok(), "{size}");
            }
        }
    }
}
