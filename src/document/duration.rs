//! Durations, written as text.
//!
//! One or more numbers with a unit, `h`, `m`, `s` or `ms`, as Kubernetes and Go write them (`"1m30s"`, `"250ms"`), or `d`; a
//! number may have a decimal fraction (`"0.5s"`).

use std::time::Duration;

/// Units in nanoseconds, the longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// `None` for anything that is no duration, and for more than 584 years.
pub fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = after;
    }
    Some(Duration::from_nanos(total))
}

/// `number` times `unit`, exact to the nanosecond; digits beyond that are dropped.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(u64::from(digit.saturating_sub(b'0')).checked_mul(place)?)?;
    }
    Some(total)
}

/// A duration of whole milliseconds in the largest unit that it is a whole number of: `"24h"`, `"90s"`.
pub fn text(millis: u64) -> String {
    let nanos = millis.saturating_mul(1_000_000);
    // Of days, ranges speak in hours, and minutes are for those that are no whole hours.
    let (unit, size) =
        UNITS.iter().skip(1).find(|(_, size)| nanos.is_multiple_of(*size)).copied().unwrap_or(("ms", 1_000_000));
    if unit == "m" && nanos < 10 * size {
        return format!("{}s", nanos / 1_000_000_000);
    }
    format!("{}{unit}", nanos / size)
}
