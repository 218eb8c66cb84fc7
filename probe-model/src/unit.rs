//! Numbers as people read them. Three significant digits; exact values are in the exports.

/// A duration in ns, with a unit that keeps three significant digits readable.
pub fn nanos(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => three(ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => three(ns as f64 / 1e6, "ms"),
        _ => three(ns as f64 / 1e9, "s"),
    }
}

/// A size in bytes, in binary units; whole sizes without a fraction.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
    let (shift, unit) = UNITS.into_iter().find(|&(shift, _)| bytes >> shift > 0).unwrap_or((0, "B"));
    if bytes.is_multiple_of(1 << shift) {
        format!("{} {unit}", bytes >> shift)
    } else {
        three(bytes as f64 / (1u64 << shift) as f64, unit)
    }
}

/// A count with separators between thousands.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three(value: f64, unit: &str) -> String {
    // Rounding may carry into the next decade: 9.996 is shown as 10.0.
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_everywhere() {
        assert_eq!(
            [0, 999, 1_000, 12_345, 999_949].map(nanos),
            ["0 ns", "999 ns", "1.00 µs", "12.3 µs", "1000 µs"]
        );
        assert_eq!(nanos(2_500_000_000), "2.50 s");
        assert_eq!(
            [0, 1, 4096, 6000, 2 << 20, 1 << 40].map(bytes),
            ["0 B", "1 B", "4 KiB", "5.86 KiB", "2 MiB", "1 TiB"]
        );
        assert_eq!(
            [0, 999, 1_000, 20_001, 1_234_567].map(count),
            ["0", "999", "1,000", "20,001", "1,234,567"]
        );
    }
}
