//! Sizes and amounts as people write and read them: docker's units.

/// Returns `bytes` in decimal units with `digits` significant digits, as `1.24MB`.
pub(crate) fn size(bytes: u64, digits: usize) -> String {
    in_units(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// Returns `bytes` in binary units with four significant digits, as `1.254MiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    in_units(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn in_units(bytes: u64, base: f64, units: [&str; 7], digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "only a few digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    // Also when rounding would give the whole of the next unit.
    while significant(value, digits).parse::<f64>().is_ok_and(|shown| shown >= base) {
        value /= base;
        unit += 1;
    }
    significant(value, digits) + units[unit]
}

/// Returns `value` with `digits` significant digits and no zeros at the end.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { format!("{value:.0}").len() };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Reads a size as docker's flags write it: `512m`, `1.5g`, `64MiB`, `1024`. Units are binary.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.trim_start();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (bytes.is_finite() && bytes < 1e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: go-units HumanSizeWithPrecision, except where it gives `1e+03MB`.
    #[test]
    fn sizes_are_dockers() {
        for (bytes, digits, expected) in [
            (0, 3, "0B"),
            (5, 3, "5B"),
            (999, 3, "999B"),
            (1000, 3, "1kB"),
            (1024, 4, "1.024kB"),
            (2048, 4, "2.048kB"),
            (5670, 3, "5.67kB"),
            (117_000_000, 3, "117MB"),
            (1_240_000, 3, "1.24MB"),
            (77_900_000, 3, "77.9MB"),
            (999_900_000, 3, "1GB"),
            (1_000_000_000_000, 4, "1TB"),
            (u64::MAX, 3, "18.4EB"),
        ] {
            assert_eq!(size(bytes, digits), expected);
        }
    }

    // Expected values: go-units BytesSize.
    #[test]
    fn binary_sizes_are_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1_315_000, "1.254MiB"),
            (64 << 20, "64MiB"),
            ((1 << 30) - 1, "1GiB"),
            (25_000_000_000, "23.28GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary_size(bytes), expected);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("512m", Some(512 << 20)),
            ("1.5g", Some(3 << 29)),
            ("64MiB", Some(64 << 20)),
            ("2kb", Some(2048)),
            ("1024", Some(1024)),
            ("10b", Some(10)),
            ("1 G", Some(1 << 30)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("9999999999p", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
