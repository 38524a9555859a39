//! How long a call may take: the header `grpc-timeout`, and what holds without it.

use http::{HeaderMap, HeaderValue};

use super::refusal::Refusal;

/// The time of a call that does not say.
pub(super) const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// The longest time of a call, whatever it says: a call holds room in the shard that does it.
pub(super) const TIMEOUT_MAX_MS: u64 = 300_000;

/// So long before the client's time is over it is answered, or a fifth of its time if that is less: at its end it hears nothing
/// any more, and it should hear why. More than a shard's tick, at which deadlines are noticed.
const ANSWER_EARLY_MS_MAX: u64 = 200;

/// The header's name.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The most digits that the header may have.
const DIGITS_MAX: usize = 8;

/// The time of a call, at most [`TIMEOUT_MAX_MS`]: a little less than the client gives it.
pub(super) fn of_call(headers: &HeaderMap) -> Result<u64, Refusal> {
    let answered_in = |given_ms: u64| given_ms - (given_ms / 5).min(ANSWER_EARLY_MS_MAX);
    Ok(given(headers)?.map_or(TIMEOUT_DEFAULT_MS, answered_in).min(TIMEOUT_MAX_MS))
}

/// What the header says, in milliseconds.
pub(super) fn given(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    headers.get(GRPC_TIMEOUT).map(parse).transpose()
}

fn parse(value: &HeaderValue) -> Result<u64, Refusal> {
    let bad = || {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        Refusal::invalid(format!("grpc-timeout is {text:?}: at most {DIGITS_MAX} digits and H, M, S, m, u or n"))
    };
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    // Rounded up: a call with a little time left is given a millisecond, not none.
    match unit {
        b'H' => Ok(number * 3_600_000),
        b'M' => Ok(number * 60_000),
        b'S' => Ok(number * 1_000),
        b'm' => Ok(number),
        b'u' => Ok(number.div_ceil(1_000)),
        b'n' => Ok(number.div_ceil(1_000_000)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &'static str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), HeaderValue::from_static(text))]);
        of_call(&headers).ok()
    }

    #[test]
    fn all_units_are_known_and_no_time_is_too_long() {
        let known = [("2S", 1_800), ("150m", 120), ("1500u", 2), ("1n", 1), ("1M", 59_800), ("0m", 0)];
        for (text, milliseconds) in known {
            assert_eq!(timeout(text), Some(milliseconds), "{text}");
        }
        for text in ["1H", "99999999H"] {
            assert_eq!(timeout(text), Some(TIMEOUT_MAX_MS), "{text}");
        }
        assert_eq!(of_call(&HeaderMap::new()).ok(), Some(TIMEOUT_DEFAULT_MS));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(timeout(text), None, "{text:?}");
        }
    }
}
