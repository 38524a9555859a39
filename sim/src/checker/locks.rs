//! A lock has one holder: from when one is told that it has it until it asks to give it back, no other is told so; and it is still there
//! when its holder looks, gives it back, or has it at the end.

use super::Violation;
use crate::scripts::locks::Hold;

/// A law.
pub const TWO: &str = "a lock has one holder";
/// A law.
pub const TAKEN_AWAY: &str = "what is locked stays locked";

/// Checks each lock by itself; `last` is what it had at the end, if anybody looked.
pub fn check(holds: &[Hold], last: &[Option<Option<u64>>]) -> Result<(), Violation> {
    for (lock, last) in last.iter().enumerate() {
        let mut holds: Vec<Hold> = holds.iter().filter(|hold| hold.lock == lock).copied().collect();
        holds.sort_unstable_by_key(|hold| hold.from);
        for pair in holds.windows(2) {
            if let [before, behind] = pair
                && before.until > behind.from
            {
                return Err(Violation::new(TWO, format!("{before:?} and {behind:?}")));
            }
        }
        let held = holds.last().filter(|hold| hold.until == u64::MAX);
        if let (Some(last), Some(held)) = (last, held)
            && *last != Some(held.token)
        {
            return Err(Violation::new(TAKEN_AWAY, format!("{held:?}, but at the end there was {last:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(client: usize, from: u64, until: u64) -> Hold {
        Hold { lock: 0, client, token: client as u64, from, until }
    }

    fn broken(holds: &[Hold], last: Option<u64>) -> Option<&'static str> {
        check(holds, &[Some(last)]).err().map(|violation| violation.law)
    }

    #[test]
    fn one_after_the_other() {
        assert_eq!(broken(&[hold(1, 1, 5), hold(2, 6, 9), hold(1, 10, 12)], None), None);
        assert_eq!(broken(&[hold(2, 6, 9), hold(1, 1, 7)], None), Some(TWO));
        assert_eq!(broken(&[hold(1, 1, 9), hold(2, 2, 3)], None), Some(TWO), "within it");
        let other = Hold { lock: 1, ..hold(2, 2, 3) };
        assert_eq!(broken(&[hold(1, 1, 9), other], None), None, "another lock");
    }

    #[test]
    fn who_has_it_at_the_end_has_it() {
        assert_eq!(broken(&[hold(1, 1, u64::MAX)], Some(1)), None);
        assert_eq!(broken(&[hold(1, 1, u64::MAX)], Some(2)), Some(TAKEN_AWAY));
        assert_eq!(broken(&[hold(1, 1, u64::MAX)], None), Some(TAKEN_AWAY));
        assert_eq!(broken(&[hold(1, 1, u64::MAX), hold(2, 3, 4)], Some(1)), Some(TWO));
        assert_eq!(broken(&[hold(1, 1, 4)], Some(7)), None, "one that was given up");
    }
}
