//! Sizes as people type them: `0`, `512KiB`, `256MiB`, `2GiB`.

/// What is taken.
const FORMS: &str = "write a whole number of bytes, or one with its unit, as 512KiB, 256MiB or 2GiB";

/// Reads a whole number, in bytes or with its unit.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(FORMS.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| FORMS.to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("it is too much: {FORMS}"))
}

/// A slower transfer would be given up by who receives it, between two of its parts.
const RATE_MIN: u64 = 1 << 20;

/// Reads so much a second; 0 is no limit.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse(text)? {
        1..RATE_MIN => Err("1MiB is the least, and 0 is no limit".to_owned()),
        rate => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let read = ["0", "17", "17B", "2KiB", "256MiB", "1GiB", "3TiB"].map(|text| parse(text).expect(text));
        assert_eq!(read, [0, 17, 17, 2 << 10, 256 << 20, 1 << 30, 3 << 40]);
        for bad in ["", "MiB", "-1", "1.5GiB", "1 GiB", "1MB", "1kib", "99999999999999999999", "99999999TiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_none_or_high_enough() {
        assert_eq!(["0", "1MiB", "64MiB"].map(|text| parse_rate(text).expect(text)), [0, 1 << 20, 64 << 20]);
        for bad in ["1", "1023KiB", "fast"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
