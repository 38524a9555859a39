//! Events side by side: a column for the clients and one for each node, the time at the left. What is about the whole world goes
//! across.

use std::fmt::Write as _;

use super::{Event, Told, What};
use crate::network::CLIENTS;

/// All columns together take about so many characters.
const CHARS: usize = 168;
/// The narrowest and the widest column.
const COLUMN_CHARS: (usize, usize) = (20, 44);

/// A table of the events. Each host has its own, also one of which nothing was told.
pub fn table(told: &Told, hosts: usize) -> String {
    let shown: Vec<usize> = (0..=hosts).filter(|host| is_shown(told, *host)).collect();
    let width = (CHARS / shown.len().max(1)).clamp(COLUMN_CHARS.0, COLUMN_CHARS.1);
    let mut text = row("", shown.iter().map(|&host| title(told, host)), width);
    let mut rest = &told.events[..];
    while let Some(first) = rest.first() {
        let at_once = rest.iter().take_while(|event| event.at_ms == first.at_ms).count();
        let (now, later) = rest.split_at(at_once);
        rest = later;
        write_tick(&mut text, told, now, &shown, width);
    }
    text
}

fn is_shown(told: &Told, host: usize) -> bool {
    host == CLIENTS || told.names.contains_key(&host) || told.events.iter().any(|event| event.host == Some(host))
}

/// The name of a node, and of its host, if that has another number.
pub fn title(told: &Told, host: usize) -> String {
    match told.names.get(&host) {
        _ if host == CLIENTS => "clients".to_owned(),
        Some(name) if *name == format!("n{host}") => name.clone(),
        Some(name) => format!("{name} (h{host})"),
        None => format!("h{host}"),
    }
}

/// Within a tick everything happens at once: each column has its own events in their order, whatever the others did meanwhile.
fn write_tick(text: &mut String, told: &Told, events: &[Event], shown: &[usize], width: usize) {
    let time = format!("{:.3}", events[0].at_ms as f64 / 1000.0);
    let mut time = time.as_str();
    for stretch in events.chunk_by(|one, other| one.host.is_some() == other.host.is_some()) {
        if stretch[0].host.is_none() {
            for event in stretch {
                let _ = writeln!(text, "{time:>8} | ---- {}", shorten(&event.text, CHARS));
                time = "";
            }
            continue;
        }
        let of = |&host: &usize| {
            let own = stretch.iter().filter(move |event| event.host == Some(host));
            own.map(|event| words(told, event))
        };
        let mut columns: Vec<_> = shown.iter().map(of).collect();
        loop {
            let cells: Vec<Option<String>> = columns.iter_mut().map(Iterator::next).collect();
            if cells.iter().all(Option::is_none) {
                break;
            }
            text.push_str(&row(time, cells.into_iter().map(Option::unwrap_or_default), width));
            time = "";
        }
    }
}

/// An event in its cell: its group, to whom or from whom, and its words.
fn words(told: &Told, event: &Event) -> String {
    let group = event.group.map_or(String::new(), |group| format!("g{group} "));
    let name = |host: &usize| if *host == CLIENTS { "clients".to_owned() } else { title(told, *host) };
    match &event.what {
        What::Sent(to, _) => format!("{group}-> {} {}", name(to), event.text),
        What::Got(from, _) => format!("{group}<- {} {}", name(from), event.text),
        _ => format!("{group}{}", event.text),
    }
}

fn row(time: &str, cells: impl Iterator<Item = String>, width: usize) -> String {
    let mut line = format!("{time:>8}");
    for cell in cells {
        let _ = write!(line, " | {:<width$}", shorten(&cell, width));
    }
    // Nothing stands behind the last word.
    line.truncate(line.trim_end_matches([' ', '|']).len());
    line.push('\n');
    line
}

/// At most so many characters, none of which would break the line.
pub fn shorten(text: &str, chars_max: usize) -> String {
    let clean = |char: char| if char.is_control() { ' ' } else { char };
    if text.chars().count() <= chars_max {
        return text.chars().map(clean).collect();
    }
    text.chars().take(chars_max.saturating_sub(1)).map(clean).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Parcel, Topic};
    use super::*;
    use drey_core::GroupId;

    #[test]
    fn each_host_has_a_column_and_the_world_goes_across() {
        let at = |at_ms, event: Event| Event { at_ms, ..event };
        let said = |host: usize, text: &str| Event::new(host, Topic::Apply, text);
        let told = Told {
            events: vec![
                at(1_000, said(0, "c1 put a=b").did(What::Sent(2, Parcel::Request(1)))),
                at(1_000, said(1, "applied 3").of(GroupId(2))),
                at(1_000, said(1, "applied 4")),
                at(1_005, Event::new(None, Topic::Fault, "h1|h2 cut")),
                at(1_005, said(2, "a word\nthat is far too long for the column that it is to stand in")),
                at(1_005, said(1, "applied 5")),
            ],
            names: [(1, "n1".to_owned()), (2, "n7".to_owned())].into(),
        };
        let lines: Vec<String> = table(&told, 3).lines().map(str::to_owned).collect();
        let column = |text: &str| format!("{text:<44}");
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(lines[0], format!("         | {} | {} | n7 (h2)", column("clients"), column("n1")));
        assert_eq!(lines[1], format!("   1.000 | {} | g2 applied 3", column("-> n7 (h2) c1 put a=b")));
        assert_eq!(lines[2], format!("         | {} | applied 4", column("")));
        assert_eq!(lines[3], "   1.005 | ---- h1|h2 cut");
        let cut = "a word that is far too long for the column …";
        assert_eq!(
            lines[4],
            format!("         | {} | applied 5 | {cut}", column("")).replace("applied 5", &column("applied 5"))
        );
    }
}
