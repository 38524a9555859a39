//! A run on a page for a browser, which needs nothing else: `page.html` draws, and what it draws stands in it as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Event, Parcel, Topic, What, columns};
use crate::run::Report;

/// What browsers still move about smoothly.
const EVENTS_MAX: usize = 100_000;
/// What is left out first when there are more.
const LEFT_OUT_FIRST: &[Topic] = &[Topic::Heartbeat, Topic::Log, Topic::Store];
const PAGE: &str = include_str!("page.html");
const DATA: &str = "{{data}}";
const TITLE: &str = "{{title}}";

/// The page of a run whose story was told from beginning to end.
pub fn page(report: &Report) -> String {
    let title = format!("seed {} on {}", report.seed, report.driver);
    PAGE.replace(TITLE, &title).replace(DATA, &data(report))
}

fn data(report: &Report) -> String {
    let end_ms = report.simulated_ms;
    let violation = report.verdict.as_ref().err();
    let broken_ms = violation.map(|violation| violation.at_ms.unwrap_or(end_ms));
    let (events, left_out) = choose(&report.told.events, broken_ms.unwrap_or(end_ms));
    let hosts = (0..=report.plan.hosts()).map(|host| columns::title(&report.told, host));
    let mut drawing = Drawing::default();
    events.iter().for_each(|event| drawing.add(event));
    // What was left out of them was there all the same.
    report.told.events.iter().for_each(|event| drawing.follow(event));
    drawing.end(end_ms);
    let mut json = String::from("{");
    let _ = write!(json, "\"title\":{},", string(&crate::report::line(report)));
    let _ = write!(json, "\"broken\":{},", violation.map_or("null".to_owned(), |said| string(&said.to_string())));
    let _ = write!(json, "\"broken_ms\":{},", broken_ms.map_or("null".to_owned(), |at_ms| at_ms.to_string()));
    let _ = write!(json, "\"end_ms\":{end_ms},\"left_out\":{},", string(&left_out));
    let _ = write!(json, "\"hosts\":{},", array(hosts.map(|name| string(&name))));
    let _ = write!(json, "\"topics\":{},", array(Topic::ALL.iter().map(|topic| string(topic.name()))));
    let _ = write!(json, "\"groups\":{},", report.plan.groups + 1);
    let Drawing { texts, points, messages, up, leads, cuts, .. } = drawing;
    let mut ordered = vec![""; texts.len()];
    texts.iter().for_each(|(text, at)| ordered[*at] = text);
    let _ = write!(json, "\"texts\":{},", array(ordered.iter().map(|text| string(text))));
    for (name, rows) in [("points", points), ("messages", messages), ("up", up), ("leads", leads), ("cuts", cuts)] {
        let _ = write!(json, "\"{name}\":{},", array(rows.into_iter().map(|row| array(row.into_iter()))));
    }
    json.pop();
    json.push('}');
    json
}

/// As many as can be drawn, those before `until_ms` rather than those behind it, and what is missing.
fn choose(events: &[Event], until_ms: u64) -> (Vec<&Event>, String) {
    let mut chosen: Vec<&Event> = events.iter().collect();
    let mut left_out = Vec::new();
    for topic in LEFT_OUT_FIRST {
        if chosen.len() > EVENTS_MAX {
            let before = chosen.len();
            chosen.retain(|event| event.topic != *topic);
            left_out.push(format!("{} events of {}", before - chosen.len(), topic.name()));
        }
    }
    if chosen.len() > EVENTS_MAX {
        // A little of what comes behind helps to understand.
        let end = chosen.partition_point(|event| event.at_ms <= until_ms);
        let end = (end + EVENTS_MAX / 10).clamp(EVENTS_MAX, chosen.len());
        let (earlier, later) = (end - EVENTS_MAX, chosen.len() - end);
        chosen = chosen[earlier..end].to_vec();
        let (first_ms, last_ms) = (chosen[0].at_ms, chosen[EVENTS_MAX - 1].at_ms);
        left_out.push(format!(
            "{earlier} events before {:.3} s and {later} behind {:.3} s",
            first_ms as f64 / 1000.0,
            last_ms as f64 / 1000.0
        ));
    }
    (chosen, left_out.join(", "))
}

/// Rows of numbers, as the page reads them; -1 stands for none.
#[derive(Default)]
struct Drawing<'a> {
    texts: BTreeMap<&'a str, usize>,
    /// Time, host, group, topic, text.
    points: Vec<Vec<i64>>,
    /// Time, host, time of arrival, host, group, topic, text.
    messages: Vec<Vec<i64>>,
    /// By parcel: its message.
    under_way: BTreeMap<Parcel, usize>,
    /// Host, from, to.
    up: Vec<Vec<i64>>,
    /// Host, group, from, to, text.
    leads: Vec<Vec<i64>>,
    /// Sending host, receiving host, from, to.
    cuts: Vec<Vec<i64>>,
    up_since: BTreeMap<usize, u64>,
    leads_since: BTreeMap<(usize, i64), (u64, usize)>,
    cut_since: BTreeMap<(usize, usize), (u64, u32)>,
}

impl<'a> Drawing<'a> {
    fn text(&mut self, text: &'a str) -> usize {
        let next = self.texts.len();
        *self.texts.entry(text).or_insert(next)
    }

    fn add(&mut self, event: &'a Event) {
        let at = event.at_ms as i64;
        let text = self.text(&event.text) as i64;
        let topic = event.topic as i64;
        let (group, host) = (group(event), event.host.map_or(-1, |host| host as i64));
        match &event.what {
            What::Sent(to, parcel) => {
                self.under_way.insert(*parcel, self.messages.len());
                self.messages.push(vec![at, host, -1, *to as i64, group, topic, text]);
            }
            What::Got(from, parcel) => match self.under_way.get(parcel) {
                Some(&message) => self.messages[message][2] = at,
                // Its sender's word was left out.
                None => self.messages.push(vec![at, *from as i64, at, host, group, topic, text]),
            },
            _ => self.points.push(vec![at, host, group, topic, text]),
        }
    }

    /// What lasts.
    fn follow(&mut self, event: &'a Event) {
        let (at_ms, Some(host)) = (event.at_ms, event.host) else {
            return self.follow_cuts(event);
        };
        match &event.what {
            What::Up(_) => {
                self.up_since.insert(host, at_ms);
            }
            What::Down => {
                self.down(host, at_ms);
            }
            What::Leads => {
                let text = self.text(&event.text);
                self.follows((host, group(event)), at_ms);
                self.leads_since.insert((host, group(event)), (at_ms, text));
            }
            What::Follows => self.follows((host, group(event)), at_ms),
            _ => {}
        }
    }

    fn follow_cuts(&mut self, event: &Event) {
        match &event.what {
            What::Cut(ways) => ways.iter().for_each(|way| {
                self.cut_since.entry(*way).or_insert((event.at_ms, 0)).1 += 1;
            }),
            // Those that are cut by two faults are healed by both, or all at once at the end of the faults.
            What::Healed(ways) => ways.iter().for_each(|way| {
                if let Some((since_ms, times)) = self.cut_since.remove(way) {
                    match times {
                        0 | 1 => self.cuts.push(numbers([way.0 as u64, way.1 as u64, since_ms, event.at_ms])),
                        _ => {
                            self.cut_since.insert(*way, (since_ms, times - 1));
                        }
                    }
                }
            }),
            _ => {}
        }
    }

    fn down(&mut self, host: usize, at_ms: u64) {
        if let Some(since_ms) = self.up_since.remove(&host) {
            self.up.push(numbers([host as u64, since_ms, at_ms]));
        }
        let led: Vec<_> = self.leads_since.keys().filter(|(leader, _)| *leader == host).copied().collect();
        led.into_iter().for_each(|leader| self.follows(leader, at_ms));
    }

    fn follows(&mut self, (host, group): (usize, i64), at_ms: u64) {
        if let Some((since_ms, text)) = self.leads_since.remove(&(host, group)) {
            self.leads.push(vec![host as i64, group, since_ms as i64, at_ms as i64, text as i64]);
        }
    }

    fn end(&mut self, end_ms: u64) {
        let up: Vec<_> = self.up_since.keys().copied().collect();
        up.into_iter().for_each(|host| self.down(host, end_ms));
        let cut = std::mem::take(&mut self.cut_since);
        self.cuts
            .extend(cut.iter().map(|(way, (since_ms, _))| numbers([way.0 as u64, way.1 as u64, *since_ms, end_ms])));
        // By time, so that what is in view is found at once.
        self.messages.sort();
    }
}

fn group(event: &Event) -> i64 {
    event.group.map_or(-1, |group| i64::from(group.0))
}

fn numbers<const COUNT: usize>(numbers: [u64; COUNT]) -> Vec<i64> {
    numbers.iter().map(|&number| number as i64).collect()
}

fn array<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let mut json = String::from("[");
    for (at, item) in items.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(json, "{comma}{item}");
    }
    json.push(']');
    json
}

/// A JSON string in which nothing ends the script that it stands in, whatever a key or a value holds.
fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' | '{' | '}' => {
                let _ = write!(json, "\\u{:04x}", char as u32);
            }
            _ => json.push(char),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use drey_core::GroupId;

    use super::*;

    #[test]
    fn no_text_ends_the_script() {
        assert_eq!(
            string("a</script>\"\\\n{{data}}"),
            r#""a\u003c/script\u003e\"\\\u000a\u007b\u007bdata\u007d\u007d""#
        );
    }

    #[test]
    fn what_is_sent_ends_where_it_arrives() {
        let at = |at_ms, event: Event| Event { at_ms, ..event };
        let parcel = Parcel::Request(7);
        let told = [
            at(5, Event::new(1, Topic::Message, "Append 3").of(GroupId(2)).did(What::Sent(2, parcel))),
            at(6, Event::new(1, Topic::Message, "Append 4").did(What::Sent(2, Parcel::Request(8)))),
            at(9, Event::new(2, Topic::Message, "Append 3").of(GroupId(2)).did(What::Got(1, parcel))),
        ];
        let mut drawing = Drawing::default();
        told.iter().for_each(|event| drawing.add(event));
        let topic = Topic::Message as i64;
        assert_eq!(drawing.messages, [vec![5, 1, 9, 2, 2, topic, 0], vec![6, 1, -1, 2, -1, topic, 1]]);
    }

    #[test]
    fn what_lasts_ends_with_its_process_or_with_the_run() {
        let at = |at_ms, event: Event| Event { at_ms, ..event };
        let process = |host: usize| Event::new(host, Topic::Process, "");
        let told = [
            at(1, process(1).did(What::Up("n1".to_owned()))),
            at(2, process(2).did(What::Up("n2".to_owned()))),
            at(3, Event::new(1, Topic::Leader, "leads t1").of(GroupId(0)).did(What::Leads)),
            at(4, Event::new(None, Topic::Fault, "").did(What::Cut(vec![(1, 2), (2, 1)]))),
            at(6, process(1).did(What::Down)),
            at(7, Event::new(None, Topic::Fault, "").did(What::Healed(vec![(1, 2)]))),
        ];
        let mut drawing = Drawing::default();
        told.iter().for_each(|event| drawing.follow(event));
        drawing.end(10);
        assert_eq!(drawing.up, [[1, 1, 6], [2, 2, 10]]);
        assert_eq!(drawing.leads, [[1, 0, 3, 6, 0]]);
        assert_eq!(drawing.cuts, [[1, 2, 4, 7], [2, 1, 4, 10]]);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let events: Vec<Event> = (0..EVENTS_MAX as u64 + 10)
            .map(|at_ms| {
                let topic = if at_ms % 20_000 == 0 { Topic::Heartbeat } else { Topic::Client };
                Event { at_ms, ..Event::new(0, topic, "") }
            })
            .collect();
        let (chosen, left_out) = choose(&events, 0);
        assert_eq!(chosen.len(), EVENTS_MAX);
        assert!(left_out.starts_with("6 events of heartbeats"), "{left_out}");
        assert!(left_out.contains("0 events before 0.001 s and 4 behind"), "{left_out}");
        assert_eq!(choose(&events[..50], 0).1, "");
    }
}
