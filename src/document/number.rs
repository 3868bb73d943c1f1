//! Numbers as they were written.
//!
//! They are shown by their own digits, so that no writer of floating point is in the module, and read without the tables of the
//! standard library's reader, which weigh 10 KB.

/// Doubles, which is what Istio makes of numbers, hold the whole numbers below this one exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// More digits than a double or a `u64` can tell apart.
const DIGITS: usize = 19;

/// Whether a JSON number is written without fraction and exponent.
pub fn is_integer(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

/// The number if it is a whole one from 0 to `u32::MAX`, however it was written: `5.0` and `5e0` are 5.
pub fn whole(text: &str) -> Option<u32> {
    if is_integer(text) {
        // Minus zero is 0.
        return text.strip_prefix("-0").filter(|rest| rest.is_empty()).map(|_| 0).or_else(|| text.parse().ok());
    }
    let number = double(text);
    (number.fract() == 0.0 && 0.0 <= number && number <= f64::from(u32::MAX)).then_some(number as u32)
}

/// The digits of a whole number, which is what a text was before YAML took it for a number. `None` if nobody can tell: of a fraction
/// (`1.50` may have lost a zero), and of a number that a double does not hold exactly.
pub fn digits(text: &str) -> Option<String> {
    if is_integer(text) {
        let fits = text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
        return fits.then(|| text.to_owned());
    }
    let number = double(text);
    if number.fract() != 0.0 || EXACT <= number.abs() {
        return None;
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    Some(format!("{sign}{}", number.abs() as u64))
}

/// The double nearest to a JSON number. Exact if it has up to 15 digits and an exponent up to 22 (Clinger, "How to Read Floating
/// Point Numbers Accurately", PLDI 1990), otherwise off by a few units of the last place; infinite if it is too large.
pub fn double(text: &str) -> f64 {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, signed(exponent)),
        None => (text, 0),
    };
    let (mut digits, mut places, mut seen, mut behind_point) = (0_u64, exponent, 0, false);
    for byte in mantissa.bytes() {
        match byte {
            b'.' => behind_point = true,
            b'0'..=b'9' if seen < DIGITS => {
                digits = digits.saturating_mul(10).saturating_add(u64::from(byte.saturating_sub(b'0')));
                seen += usize::from(digits != 0);
                places = places.saturating_sub(i32::from(behind_point));
            }
            b'0'..=b'9' => places = places.saturating_add(i32::from(!behind_point)),
            _ => {}
        }
    }
    // Zeros at the end of a fraction say nothing, and more than 15 digits may not be exact.
    while places < 0 && digits != 0 && digits % 10 == 0 {
        digits /= 10;
        places += 1;
    }
    let number = scaled(digits as f64, places);
    if text.starts_with('-') { -number } else { number }
}

/// The number times a power of ten. In steps of at most 10²², the largest power that a double holds exactly.
fn scaled(mut number: f64, mut places: i32) -> f64 {
    while places != 0 && number != 0.0 && number.is_finite() {
        let step = places.unsigned_abs().min(22);
        let power = (0..step).fold(1.0, |power, _| power * 10.0);
        let step = i32::try_from(step).unwrap_or(22);
        if places < 0 {
            number /= power;
            places = places.saturating_add(step);
        } else {
            number *= power;
            places = places.saturating_sub(step);
        }
    }
    number
}

/// An exponent, as large as matters.
fn signed(text: &str) -> i32 {
    let magnitude = text.bytes().filter(u8::is_ascii_digit).fold(0_i32, |number, digit| {
        number.saturating_mul(10).saturating_add(i32::from(digit.saturating_sub(b'0'))).min(100_000)
    });
    if text.starts_with('-') { -magnitude } else { magnitude }
}
