//! Dates as HTTP writes them.
//!
//! Only the one form that senders must use, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7). The two obsolete
//! ones, and values such as `0` that stand for the past, are no dates here: an answer that depends on one is not kept.

/// Seconds since 1970-01-01, negative before; `None` for anything that is no date. A leap second is the last second of
/// its minute.
pub(super) fn parse(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split(' ');
    let weekday = words.next()?;
    let day = number(words.next()?, 2)?;
    let month = month(words.next()?)?;
    let year = number(words.next()?, 4)?;
    let time = words.next()?;
    if !WEEKDAYS.contains(&weekday) || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = number(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=31).contains(&day) || 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second.min(59);
    Some(days_since_epoch(year, month, day) * 86_400 + seconds)
}

const WEEKDAYS: [&str; 7] = ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// 1 to 12.
fn month(name: &str) -> Option<i64> {
    let index = MONTHS.iter().position(|it| *it == name)?;
    i64::try_from(index).ok()?.checked_add(1)
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    if text.len() != digits || !text.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Howard Hinnant's `days_from_civil` ("chrono-compatible low-level date algorithms"), for years from 0: counts from March,
/// so that the leap day is the last of a year, in cycles of 400 years or 146 097 days.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - 719_468
}
