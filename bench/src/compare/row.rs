//! One row of the table: one kind of load.

use crate::figures::grouped;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_as_people_do() {
        assert_eq!(Row { puts_percent: 100, clients: 64 }.name(), "puts, 64 clients");
        assert_eq!(Row { puts_percent: 95, clients: 1_000 }.name(), "95 % puts, 1,000 clients");
    }
}
