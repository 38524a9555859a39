//! Durations as people type them: `500ms`, `5s`, `2m`, `1h`, `7d`.

use drey_core::limits::TTL_MS_MAX;
use std::time::Duration;

/// What is taken.
const FORMS: &str = "write a whole number and its unit, as 500ms, 5s, 10m, 2h or 7d";

/// Reads a whole number and its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(match unit.strip_prefix('-') {
            Some(_) => format!("a time cannot be negative: {FORMS}"),
            None if unit.is_empty() => format!("it is empty: {FORMS}"),
            None => FORMS.to_owned(),
        });
    }
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("its unit is missing: {FORMS}")),
        _ if unit.starts_with(['.', ',']) => {
            return Err(format!("fractions are not taken: {FORMS}; a smaller unit says the same, as 1500ms"));
        }
        _ => return Err(format!("`{unit}` is no unit: {FORMS}")),
    };
    // Digits alone, so that it can only be too long.
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(unit_ms)) {
        Some(0) => Err(format!("it must be more than nothing: {FORMS}")),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(format!("it is too long: {FORMS}")),
    }
}

/// How often something happens; none: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

/// Reads how often: as [`parse`], or `never`.
pub(super) fn parse_interval(text: &str) -> Result<Interval, String> {
    match text {
        "never" => Ok(Interval(None)),
        _ => parse(text).map(|every| Interval(Some(every))).map_err(|why| format!("{why}, or never")),
    }
}

/// Reads a time to live in milliseconds: as [`parse`], or a number of seconds.
pub(super) fn parse_ttl_ms(text: &str) -> Result<u64, String> {
    if text == "never" {
        return Err(
            "leave it out for what is to stay; `drey expire KEY never` ends a time to live that a key has".to_owned()
        );
    }
    let seconds = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if seconds { parse(&format!("{text}s")) } else { parse(text) };
    let ttl_ms = parsed.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
    match ttl_ms {
        1..=TTL_MS_MAX => Ok(ttl_ms),
        _ => Err(format!("the longest time to live is {}d", TTL_MS_MAX / 86_400_000)),
    }
}

/// Says a duration in its two largest units: `3d 4h`, `2m 5s`, `400ms`.
pub(super) fn say(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let ms = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!([ms("500ms"), ms("5s"), ms("2m"), ms("1h")], [Ok(500), Ok(5_000), Ok(120_000), Ok(3_600_000)]);
        assert_eq!(ms("7d"), Ok(604_800_000));
        for bad in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "5w", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_to_live_may_be_a_number_of_seconds() {
        assert_eq!(
            ["90", "90s", "1500ms", "36500d"].map(parse_ttl_ms),
            [Ok(90_000), Ok(90_000), Ok(1_500), Ok(TTL_MS_MAX)]
        );
        for bad in ["", "0", "-1", "never", "5 m", "36501d", "99999999999999999999"] {
            assert!(parse_ttl_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_time_is_said() {
        for (text, why) in [
            ("", "it is empty"),
            ("-5s", "cannot be negative"),
            ("1.5s", "fractions are not taken"),
            ("0s", "more than nothing"),
            ("5w", "`w` is no unit"),
            ("soon", "write a whole number"),
            ("99999999999999999999s", "too long"),
        ] {
            for told in [parse(text).unwrap_err(), parse_ttl_ms(text).unwrap_err()] {
                assert!(told.contains(why) && told.contains("500ms, 5s, 10m, 2h or 7d"), "{text}: {told}");
            }
        }
        assert!(parse("5").unwrap_err().contains("unit is missing"));
        assert!(parse_ttl_ms("0").unwrap_err().contains("more than nothing"));
        assert!(parse_ttl_ms("never").unwrap_err().contains("drey expire KEY never"));
    }

    #[test]
    fn durations_are_said_in_two_units() {
        let said = [0, 999, 1_000, 125_000, 11_520_000, 273_600_000].map(say);
        assert_eq!(said, ["0ms", "999ms", "1s", "2m 5s", "3h 12m", "3d 4h"]);
    }
}
