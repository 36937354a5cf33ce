//! What a word without quotes is. The API server and kubectl follow YAML 1.1 here (sigs.k8s.io/yaml, as go-yaml v2 does): `yes` is a
//! boolean, `0755` is octal.

use serde_json::Number;

use super::tree::Content;

/// What a plain scalar is.
pub fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Content::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Content::Bool(false);
        }
        _ => {}
    }
    let may_be_number =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    let number = if may_be_number { number(text) } else { None };
    number.map_or_else(|| Content::Text(text.to_owned()), Content::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    integer(&digits).or_else(|| {
        is_float(&digits)
            .then(|| digits.parse().ok())
            .flatten()
            .and_then(Number::from_f64)
    })
}

fn integer(text: &str) -> Option<Number> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes = [
        ("0x", 16),
        ("0X", 16),
        ("0b", 2),
        ("0B", 2),
        ("0o", 8),
        ("0O", 8),
    ];
    let with_radix = prefixes
        .iter()
        .find_map(|(prefix, radix)| Some((unsigned.strip_prefix(prefix)?, *radix)));
    let (digits, radix) = match with_radix {
        Some(found) => found,
        None if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        None => (unsigned, 10),
    };
    // A second sign is none that the number itself may have.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if is_negative {
        let value = i64::try_from(value).ok().map(i64::wrapping_neg)?;
        Some(value.into())
    } else {
        Some(value.into())
    }
}

/// Digits with a point, an exponent, or both.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent = exponent.map(|text| text.strip_prefix(['-', '+']).unwrap_or(text));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    are_digits(whole)
        && are_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|text| !text.is_empty() && are_digits(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_they_are_for_the_api_server() {
        for (text, expected) in [
            ("yes", Content::Bool(true)),
            ("off", Content::Bool(false)),
            ("~", Content::Null),
            ("10", Content::Number(10.into())),
            ("-10", Content::Number((-10).into())),
            ("0755", Content::Number(493.into())),
            ("0o17", Content::Number(15.into())),
            ("0x1F", Content::Number(31.into())),
            ("1_000", Content::Number(1000.into())),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
        for text in ["1.5", "1e3", ".5", "-2.", "08"] {
            assert!(matches!(plain(text), Content::Number(_)), "{text}");
        }
        for text in [
            "30d",
            "1.2.3",
            "-",
            "+-1",
            "0x",
            "2026-11-30",
            "10:30",
            "https://h",
            ".",
            "1e",
            "-web",
        ] {
            assert_eq!(plain(text), Content::Text(text.to_owned()), "{text}");
        }
    }
}
