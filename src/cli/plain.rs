//! What a plain scalar means in YAML 1.1, which is what Kubernetes and its tools read.
//!
//! Sources: <https://yaml.org/type/> for the types, and go-yaml v2 for what kubectl makes of them where the two differ.

use super::tree::Value;

/// The largest whole number up to which a double has each: 2^53. Kubernetes and Istio hand numbers on as doubles.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A value, and why it may not be what was meant.
pub(super) type Meaning = (Value, Option<String>);

/// The meaning of a plain scalar.
pub(super) fn resolve(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return (Value::Null, None),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return (Value::Bool(true), None);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return (Value::Bool(false), None);
        }
        _ => {}
    }
    if is_date(text) {
        let doubt = format!("{text}, is a date to some readers of YAML, which hand it on in another spelling");
        return (Value::Text(text.to_owned()), Some(doubt));
    }
    whole(text).or_else(|| sexagesimal(text)).or_else(|| fraction(text)).unwrap_or((Value::Text(text.to_owned()), None))
}

/// `2026-11-23`, with or without a time after it.
fn is_date(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, "0"),
    };
    let mut parts = date.split('-');
    let mut is_part = |longest: usize, shortest: usize| {
        parts
            .next()
            .is_some_and(|it| (shortest..=longest).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_date = is_part(4, 4) && is_part(2, 1) && is_part(2, 1) && parts.next().is_none();
    is_date && time.starts_with(|it: char| it.is_ascii_digit())
}

/// The sign and the rest, without the underscores that YAML 1.1 has between digits.
fn parts(text: &str) -> (&'static str, String) {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    (sign, if rest.starts_with('_') { rest.to_owned() } else { rest.replace('_', "") })
}

fn whole(text: &str) -> Option<Meaning> {
    let (sign, digits) = parts(text);
    let of_base = |prefix: &str, base: u32| {
        let digits = digits.strip_prefix(prefix)?;
        let is_digits = !digits.is_empty() && digits.chars().all(|it| it.is_digit(base));
        is_digits.then(|| u64::from_str_radix(digits, base).ok())?
    };
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(number) = of_base(prefix, base) {
            return Some(exact(text, sign, &number.to_string()));
        }
    }
    if 1 < digits.len()
        && digits.starts_with('0')
        && let Some(number) = of_base("0", 8)
    {
        let doubt = format!("{text}, is octal in YAML 1.1, hence {sign}{number}, and decimal to other readers");
        return Some((Value::Number(format!("{sign}{number}")), Some(doubt)));
    }
    let is_decimal = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    (is_decimal && (digits.len() == 1 || !digits.starts_with('0'))).then(|| exact(text, sign, &digits))
}

/// A whole number as a double has it.
fn exact(text: &str, sign: &str, digits: &str) -> Meaning {
    let double: f64 = digits.parse().unwrap_or(0.0);
    if double <= MOST_EXACT {
        return (Value::Number(format!("{sign}{digits}")), None);
    }
    let kept = format!("{sign}{double}");
    let doubt = format!("{text}, is a number of which Kubernetes keeps {kept}");
    (Value::Number(kept), Some(doubt))
}

/// `11:50`: sixties, of which each digit after the first has less than sixty.
fn sexagesimal(text: &str) -> Option<Meaning> {
    let (sign, digits) = parts(text);
    let mut parts = digits.split(':');
    let first = parts.next().filter(|it| it.starts_with(|it: char| ('1'..='9').contains(&it)))?;
    let mut number: u64 = first.bytes().all(|it| it.is_ascii_digit()).then(|| first.parse().ok())??;
    let mut places = 0;
    for part in parts {
        let place: u64 = part.bytes().all(|it| it.is_ascii_digit()).then(|| part.parse().ok())??;
        if 2 < part.len() || 59 < place {
            return None;
        }
        number = number.checked_mul(60)?.checked_add(place)?;
        places += 1;
    }
    let number = format!("{sign}{number}");
    let doubt = format!("{text}, is {number} in YAML 1.1, and a text to other readers");
    (places != 0).then_some((Value::Number(number), Some(doubt)))
}

/// A number with a point or an exponent. Infinities and what is no number have no JSON, so they stay texts.
fn fraction(text: &str) -> Option<Meaning> {
    let (sign, digits) = parts(text);
    let mut bytes = digits.bytes();
    let is_number = bytes.next().is_some_and(|it| it.is_ascii_digit() || it == b'.')
        && bytes.all(|it| it.is_ascii_digit() || matches!(it, b'.' | b'e' | b'E' | b'+' | b'-'));
    let double: f64 = is_number.then(|| digits.parse().ok())??;
    double.is_finite().then(|| (Value::Number(format!("{sign}{double}")), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value as JSON, and whether it is in doubt.
    fn shown(text: &str) -> (String, bool) {
        let (value, doubt) = resolve(text);
        let shown = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number,
            Value::Text(text) => format!("{text:?}"),
            Value::List(_) | Value::Map(_) => String::new(),
        };
        (shown, doubt.is_some())
    }

    #[test]
    fn reads_plain_scalars_as_version_1_1_does() {
        for (text, value, is_in_doubt) in [
            ("", "null", false),
            ("~", "null", false),
            ("NULL", "null", false),
            ("nUll", "\"nUll\"", false),
            ("on", "true", false),
            ("Y", "true", false),
            ("OFF", "false", false),
            ("No", "false", false),
            ("oN", "\"oN\"", false),
            ("0", "0", false),
            ("-7", "-7", false),
            ("+7", "7", false),
            ("1_000", "1000", false),
            ("_1", "\"_1\"", false),
            ("0x1F", "31", false),
            ("0b101", "5", false),
            ("0o17", "15", false),
            ("010", "8", true),
            ("09", "9", false),
            ("1.50", "1.5", false),
            (".5", "0.5", false),
            ("1e3", "1000", false),
            ("1e999", "\"1e999\"", false),
            (".inf", "\".inf\"", false),
            ("1.2.3", "\"1.2.3\"", false),
            ("11:50", "710", true),
            ("1:2:3", "3723", true),
            ("11:60", "\"11:60\"", false),
            ("10s", "\"10s\"", false),
            ("2026-11-23", "\"2026-11-23\"", true),
            ("2026-11-23T10:00:00Z", "\"2026-11-23T10:00:00Z\"", true),
            ("2026-11-x", "\"2026-11-x\"", false),
            ("9007199254740992", "9007199254740992", false),
            ("12345678901234567890", "12345678901234567000", true),
        ] {
            assert_eq!(shown(text), (value.to_owned(), is_in_doubt), "{text}");
        }
    }
}
