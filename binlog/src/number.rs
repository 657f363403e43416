//! FLOAT and DOUBLE as text: as both servers answer `SELECT column`.
//!
//! A DOUBLE has as many digits as it takes to get the same number back, a FLOAT at most six. MySQL's `CAST(column AS CHAR)`
//! says the same, except where that is longer than 12 characters of a FLOAT or 22 of a DOUBLE: there it turns to an exponent.
//!
//! Source: `my_gcvt` of MySQL and MariaDB, `strings/dtoa.cc`.

/// Digits of a FLOAT.
const FLOAT_DIGITS: usize = 6;
/// Digits before or after the point, beyond which there is an exponent.
const POINT_MAX: i32 = 15;

/// Of a FLOAT.
pub(crate) fn float(value: f32) -> Option<String> {
    // One digit stands before the point.
    let decimals = FLOAT_DIGITS.saturating_sub(1);
    value.is_finite().then(|| format!("{:.decimals$e}", f64::from(value))).as_deref().and_then(text)
}

/// Of a DOUBLE.
pub(crate) fn double(value: f64) -> Option<String> {
    value.is_finite().then(|| format!("{value:e}")).as_deref().and_then(text)
}

/// From `-1.2500e-7`.
fn text(scientific: &str) -> Option<String> {
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, mantissa) =
        mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits = mantissa.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => return Some(format!("{sign}0")),
        digits => digits,
    };
    // Where the point is, counted from the first digit.
    let point = exponent.checked_add(1)?;
    let count = i32::try_from(digits.len()).ok()?;
    if point <= -POINT_MAX || (point > POINT_MAX && count <= point) {
        let (first, rest) = digits.split_at_checked(1)?;
        let dot = if rest.is_empty() { "" } else { "." };
        return Some(format!("{sign}{first}{dot}{rest}e{exponent}"));
    }
    let Ok(before) = usize::try_from(point) else {
        let zeros = usize::try_from(point.unsigned_abs()).ok()?;
        return Some(format!("{sign}0.{:0<zeros$}{digits}", ""));
    };
    Some(match digits.split_at_checked(before) {
        Some(("", after)) => format!("{sign}0.{after}"),
        Some((whole, "")) => format!("{sign}{whole}"),
        Some((whole, after)) => format!("{sign}{whole}.{after}"),
        None => format!("{sign}{digits:0<before$}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_servers_print_them() {
        let doubles = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.1, "1.1"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (1.5e-7, "0.00000015"),
            (1e14, "100000000000000"),
            (1e15, "1e15"),
            (-1.23e15, "-1.23e15"),
            (1_234_567_890_123_456.8, "1234567890123456.8"),
            (4_503_599_627_370_496.0, "4.503599627370496e15"),
            (99_999_999_999_999.9, "99999999999999.9"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
            (1.0 / 3e10, "0.000000000033333333333333335"),
        ];
        for (value, text) in doubles {
            assert_eq!(double(value).as_deref(), Some(text), "{value:e}");
        }
        let floats = [
            (0.1, "0.1"),
            (123_456.79, "123457"),
            (1_234_567.0, "1234570"),
            (999_999.5, "1000000"),
            (3.402_823_5e38, "3.40282e38"),
            (1.4e-45, "1.4013e-45"),
            (100_000_000_000_000.0, "100000000000000"),
            (1e15, "1e15"),
            (-1e-14, "-0.00000000000001"),
            (1e-16, "1e-16"),
        ];
        for (value, text) in floats {
            assert_eq!(float(value).as_deref(), Some(text), "{value:e}");
        }
        assert_eq!(float(f32::NAN), None);
        assert_eq!(double(f64::INFINITY), None);
    }
}
