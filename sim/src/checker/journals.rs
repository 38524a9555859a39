//! What many append to one value stands in it in an order that everybody sees: an entry whose append was acknowledged is in it once, at
//! the place that time allows; one that was refused never is; and each read is the beginning of all later ones.

use std::collections::BTreeMap;

use super::Violation;
use crate::scripts::journal::{Appended, Event};

/// A law.
pub const LOST: &str = "no entry is lost";
/// A law.
pub const STRANGE: &str = "a journal has each entry once, and none that was refused";
/// A law.
pub const ORDER: &str = "a journal only grows, at its end";

/// Checks all that was done with a journal; `last` is what was in it at the end.
pub fn check(events: &[Event], last: &[u32]) -> Result<(), Violation> {
    let mut places = BTreeMap::new();
    for (place, entry) in last.iter().enumerate() {
        if places.insert(*entry, place).is_some() {
            return Err(Violation::new(STRANGE, format!("entry {entry} is there twice: {last:?}")));
        }
    }
    let mut appended = 0;
    for event in events {
        let Appended::Read(found) = &event.appended else {
            appended += 1;
            check_append(event, places.get(&event.entry).copied())?;
            continue;
        };
        if !last.starts_with(found) {
            return Err(Violation::new(ORDER, format!("{event:?}, but {last:?} at the end")));
        }
    }
    if places.len() > appended {
        return Err(Violation::new(STRANGE, format!("of {last:?} some were never appended")));
    }
    check_times(events, &places)
}

fn check_append(event: &Event, place: Option<usize>) -> Result<(), Violation> {
    match (&event.appended, place) {
        (Appended::Done, None) => Err(Violation::new(LOST, format!("{event:?} is not there at the end"))),
        (Appended::Nothing, Some(place)) => Err(Violation::new(STRANGE, format!("{event:?} is there, at {place}"))),
        _ => Ok(()),
    }
}

/// A sweep over time: what was known to be there when a call began is before what that call added, and in what it found.
fn check_times(events: &[Event], places: &BTreeMap<u32, usize>) -> Result<(), Violation> {
    // How long the journal is known to be by an event.
    let known = |event: &Event| match &event.appended {
        Appended::Read(found) => Some(found.len()),
        Appended::Done => places.get(&event.entry).map(|place| place + 1),
        Appended::Nothing | Appended::Unknown => None,
    };
    let mut times: Vec<(u64, bool, usize)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if known(event).is_some() {
            times.push((event.called, false, at));
            times.push((event.returned, true, at));
        }
    }
    times.sort_unstable();
    let (mut longest, mut floors) = (0, BTreeMap::new());
    for (_, is_return, at) in times {
        if !is_return {
            floors.insert(at, longest);
            continue;
        }
        let event = &events[at];
        let length = known(event).unwrap_or_default();
        let floor = floors.remove(&at).unwrap_or_default();
        let is_behind = match event.appended {
            Appended::Read(_) => length >= floor,
            _ => length > floor,
        };
        if !is_behind {
            return Err(Violation::new(ORDER, format!("{event:?} began when {floor} entries had been there")));
        }
        longest = longest.max(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(entry: u32, (called, returned): (u64, u64), appended: Appended) -> Event {
        Event { entry, called, returned, appended }
    }

    fn read((called, returned): (u64, u64), found: &[u32]) -> Event {
        append(0, (called, returned), Appended::Read(found.to_vec()))
    }

    fn broken(events: &[Event], last: &[u32]) -> Option<&'static str> {
        check(events, last).err().map(|violation| violation.law)
    }

    #[test]
    fn what_is_acknowledged_is_there_once() {
        let done = append(1, (1, 2), Appended::Done);
        assert_eq!(broken(std::slice::from_ref(&done), &[1]), None);
        assert_eq!(broken(std::slice::from_ref(&done), &[]), Some(LOST));
        assert_eq!(broken(std::slice::from_ref(&done), &[1, 1]), Some(STRANGE));
        assert_eq!(broken(std::slice::from_ref(&done), &[1, 2]), Some(STRANGE), "nobody appended that");
        assert_eq!(broken(&[append(1, (1, 2), Appended::Nothing)], &[1]), Some(STRANGE));
        for last in [&[][..], &[1]] {
            assert_eq!(broken(&[append(1, (1, 2), Appended::Unknown)], last), None);
        }
    }

    #[test]
    fn reads_are_beginnings() {
        let both = [append(1, (1, 9), Appended::Done), append(2, (1, 9), Appended::Done)];
        let with = |found: &[u32]| [&both[..], &[read((3, 4), found)]].concat();
        for found in [&[][..], &[2], &[2, 1]] {
            assert_eq!(broken(&with(found), &[2, 1]), None);
        }
        assert_eq!(broken(&with(&[1]), &[2, 1]), Some(ORDER));
        assert_eq!(broken(&with(&[2, 1, 3]), &[2, 1]), Some(ORDER));
    }

    #[test]
    fn time_counts() {
        let first = append(1, (1, 2), Appended::Done);
        assert_eq!(broken(&[first.clone(), append(2, (3, 4), Appended::Done)], &[2, 1]), Some(ORDER));
        assert_eq!(broken(&[first.clone(), append(2, (1, 4), Appended::Done)], &[2, 1]), None, "at the same time");
        assert_eq!(broken(&[first.clone(), read((3, 4), &[])], &[1]), Some(ORDER), "it was there");
        assert_eq!(broken(&[first, read((1, 4), &[])], &[1]), None);
    }
}
