//! Durations as people type them: `500ms`, `5s`, `2m`, `1h`.

use std::time::Duration;

/// Reads a whole number and its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let expected = || "write a number and ms, s, m or h, as in 500ms".to_owned();
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(unit_ms) {
        Some(0) | None => Err("it must be more than nothing and less than for ever".to_owned()),
        Some(ms) => Ok(Duration::from_millis(ms)),
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
        for bad in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "5d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_said_in_two_units() {
        let said = [0, 999, 1_000, 125_000, 11_520_000, 273_600_000].map(say);
        assert_eq!(said, ["0ms", "999ms", "1s", "2m 5s", "3h 12m", "3d 4h"]);
    }
}
