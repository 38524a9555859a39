//! One row of the table: one kind of load.

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) puts_percent: u8,
    pub(super) clients: usize,
}

impl Row {
    /// What the table calls it.
    pub(super) fn name(&self) -> String {
        let mix = match self.puts_percent {
            100 => "puts".to_owned(),
            0 => "gets".to_owned(),
            50 => "half and half".to_owned(),
            percent => format!("{percent} % puts"),
        };
        format!("{mix}, {} clients", grouped(self.clients as f64))
    }
}

/// A number without fraction, its thousands apart.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_numbers_are_told_as_people_do() {
        assert_eq!(Row { puts_percent: 100, clients: 64 }.name(), "puts, 64 clients");
        assert_eq!(Row { puts_percent: 95, clients: 1_000 }.name(), "95 % puts, 1,000 clients");
        for (number, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
