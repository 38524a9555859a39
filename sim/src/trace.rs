//! What happened, in order: a running hash that two runs of a seed are compared by, and on demand the text of it.
//!
//! The text costs far more than the run itself, so that a run keeps only the hash and a mark of it now and then; whoever
//! wants to read replays the seed.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use crate::story::{Event, Keep, Story, Told};

/// How much text a trace keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// None: the hash alone.
    None,
    /// The last so many lines.
    Last(usize),
    /// Everything, printed as it happens.
    Print,
    /// No line, but the few words of a story.
    Story(Keep),
}

/// The record of a run.
pub struct Trace {
    hash: u64,
    events: u64,
    marks: Vec<Mark>,
    text: Text,
    lines: VecDeque<String>,
    story: Option<Story>,
    now_ms: u64,
}

/// The state of the hash at a time: the first mark in which two runs differ says where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Simulated time.
    pub now_ms: u64,
    /// Events so far.
    pub events: u64,
    /// Over all of them.
    pub hash: u64,
}

impl Trace {
    /// An empty record.
    pub fn new(text: Text) -> Trace {
        let story = match text {
            Text::Story(keep) => Some(Story::new(keep)),
            Text::None | Text::Last(_) | Text::Print => None,
        };
        Trace { hash: 0, events: 0, marks: Vec::new(), text, lines: VecDeque::new(), story, now_ms: 0 }
    }

    /// Sets the simulated time of what follows.
    pub fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes down an event whose text is cheap enough to be its own identity.
    pub fn event(&mut self, event: fmt::Arguments<'_>) {
        let mut folding = Folding::new(fold(self.hash, self.events));
        folding.write_fmt(event).expect("a hash takes all text");
        self.hash = folding.end();
        self.note(event);
    }

    /// Takes down an event that this identifies; `text` says it to people.
    pub fn identified(&mut self, identity: &impl Hash, text: fmt::Arguments<'_>) {
        self.silently(identity);
        self.note(text);
    }

    /// Takes down something that people need not read.
    pub fn silently(&mut self, identity: &impl Hash) {
        let mut values = Values(fold(self.hash, self.events));
        identity.hash(&mut values);
        self.hash = values.finish();
    }

    /// Tells something to who wants a story. Beside the hash: stories are for people.
    pub fn tell(&mut self, event: impl FnOnce() -> Option<Event>) {
        if let Some(story) = &mut self.story
            && let Some(event) = event()
        {
            story.add(Event { at_ms: self.now_ms, ..event });
        }
    }

    /// Whether anybody wants a story.
    pub fn tells(&self) -> bool {
        self.story.is_some()
    }

    /// What was told.
    pub fn told(&self) -> Told {
        self.story.as_ref().map_or_else(Told::default, Story::told)
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.events += 1;
        let now_ms = self.now_ms;
        match self.text {
            Text::None | Text::Story(_) => {}
            Text::Last(kept) => {
                if self.lines.len() == kept {
                    self.lines.pop_front();
                }
                self.lines.push_back(shorten(format!("{:>9.3} {text}", now_ms as f64 / 1000.0)));
            }
            Text::Print => println!("{}", shorten(format!("{:>9.3} {text}", now_ms as f64 / 1000.0))),
        }
    }

    /// Remembers the hash as it is now.
    pub fn mark(&mut self) {
        self.marks.push(Mark { now_ms: self.now_ms, events: self.events, hash: self.hash });
    }

    /// The marks, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The kept lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all events.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// The longest line that is worth reading.
const LINE_CHARS_MAX: usize = 400;

fn shorten(mut line: String) -> String {
    if line.len() > LINE_CHARS_MAX {
        let mut end = LINE_CHARS_MAX;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

fn fold(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Takes formatted text piece by piece, most pieces being a few bytes long, and hashes it in larger ones.
struct Folding {
    hash: u64,
    buffer: [u8; 256],
    filled: usize,
}

impl Folding {
    fn new(hash: u64) -> Folding {
        Folding { hash, buffer: [0; 256], filled: 0 }
    }

    fn empty(&mut self) {
        self.hash = fold(self.hash, xxh3_64(&self.buffer[..self.filled]));
        self.filled = 0;
    }

    fn end(mut self) -> u64 {
        self.empty();
        self.hash
    }
}

/// Takes values one by one, without a word of text.
struct Values(u64);

impl Hasher for Values {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0, xxh3_64(bytes));
    }

    fn write_u8(&mut self, value: u8) {
        self.0 = fold(self.0, value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = fold(self.0, value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0, value);
    }

    fn write_usize(&mut self, value: usize) {
        self.0 = fold(self.0, value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Write for Folding {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.as_bytes().chunks(self.buffer.len()) {
            if self.filled + piece.len() > self.buffer.len() {
                self.empty();
            }
            self.buffer[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
        }
        Ok(())
    }
}

/// The first mark in which two runs of the same seed differ, if any.
pub fn first_difference(one: &[Mark], other: &[Mark]) -> Option<(Option<Mark>, Option<Mark>)> {
    let length = one.len().max(other.len());
    (0..length).map(|at| (one.get(at).copied(), other.get(at).copied())).find(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_where_they_stand_and_text_does_not_matter() {
        let run = |silent: bool, values: &[(u64, &str)]| {
            let mut trace = Trace::new(if silent { Text::None } else { Text::Last(9) });
            values.iter().for_each(|value| trace.identified(value, format_args!("{silent}")));
            trace.hash()
        };
        assert_eq!(run(true, &[(1, "a"), (2, "b")]), run(false, &[(1, "a"), (2, "b")]));
        assert_ne!(run(true, &[(1, "a"), (2, "b")]), run(true, &[(2, "b"), (1, "a")]));
        assert_ne!(run(true, &[(1, "ab")]), run(true, &[(1, "a")]));
        assert_ne!(run(true, &[(1, "a"), (1, "a")]), run(true, &[(1, "a")]));
    }

    #[test]
    fn the_hash_knows_contents_and_order() {
        let run = |events: &[&str]| {
            let mut trace = Trace::new(Text::None);
            events.iter().for_each(|event| trace.event(format_args!("{event}")));
            trace.hash()
        };
        assert_eq!(run(&["a", "b"]), run(&["a", "b"]));
        assert_ne!(run(&["a", "b"]), run(&["b", "a"]));
        assert_ne!(run(&["a", "b"]), run(&["a", "c"]));
        assert_ne!(run(&["a", "b"]), run(&["ab"]));
    }

    #[test]
    fn the_first_different_mark_is_found() {
        let mark = |now_ms, hash| Mark { now_ms, events: now_ms, hash };
        let one = [mark(1, 10), mark(2, 20), mark(3, 30)];
        assert_eq!(first_difference(&one, &one), None);
        let other = [mark(1, 10), mark(2, 21), mark(3, 31)];
        assert_eq!(first_difference(&one, &other), Some((Some(mark(2, 20)), Some(mark(2, 21)))));
        assert_eq!(first_difference(&one, &one[..2]), Some((Some(mark(3, 30)), None)));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trace = Trace::new(Text::Last(2));
        trace.at(1500);
        ["a", "b", "c"].iter().for_each(|event| trace.event(format_args!("{event}")));
        assert_eq!(trace.lines().collect::<Vec<_>>(), ["    1.500 b", "    1.500 c"]);
    }
}
