//! Amounts: whole hundredths of a currency inside, decimal texts outside. No float is on the way.

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is written with digits and at most two decimals, such as 10.00")]
pub struct Malformed;

/// The longest number before the point that cannot overflow.
const WHOLE_DIGITS: usize = 15;

/// `"10.00"` as 1000. Further decimals must be zeros: the provider writes some amounts as `10.00000`.
///
/// # Errors
/// Anything else: a sign, an exponent, a fraction of a hundredth.
pub fn parse_amount(text: &str) -> Result<i64, Malformed> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || whole.len() > WHOLE_DIGITS {
        return Err(Malformed);
    }
    let (hundredths, rest) = decimals.split_at(decimals.len().min(2));
    if rest.bytes().any(|digit| digit != b'0') {
        return Err(Malformed);
    }
    let whole: i64 = whole.parse().map_err(|_| Malformed)?;
    let hundredths: i64 = format!("{hundredths:0<2}").parse().map_err(|_| Malformed)?;
    whole.checked_mul(100).and_then(|amount| amount.checked_add(hundredths)).ok_or(Malformed)
}

/// 1000 as `"10.00"`.
pub fn amount_text(amount: i64) -> String {
    format!("{}.{:02}", amount / 100, amount % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, amount) in [
            ("10.00", 1000),
            ("10", 1000),
            ("10.5", 1050),
            ("0.01", 1),
            ("10.00000", 1000),
            ("0.29", 29),
            ("1.15", 115),
            ("999999999999999.99", 99_999_999_999_999_999),
        ] {
            assert_eq!(parse_amount(text), Ok(amount), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_amount_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e2",
            "10,00",
            "1.001",
            "0x10",
            " 1",
            "1 ",
            "NaN",
            "9999999999999999",
            "١",
        ] {
            assert_eq!(parse_amount(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for amount in [1, 99, 100, 101, 123_456_789] {
            assert_eq!(parse_amount(&amount_text(amount)), Ok(amount));
        }
    }
}
