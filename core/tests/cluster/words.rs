//! The words of a command.

use bytes::Bytes;
use drey_core::Version;
use drey_core::name::{BucketName, Key};
use drey_core::request::Condition;

use super::network::Pair;

/// A request's time when nothing else is said: longer than any test.
pub const DEADLINE_MS: u64 = 3_600_000;

/// A command's words: those with `=` are options.
pub struct Words<'a> {
    pub plain: Vec<&'a str>,
    pub options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub fn parse(line: &'a str) -> Words<'a> {
        let mut words = Words { plain: Vec::new(), options: Vec::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if !name.contains(':') => words.options.push((name, value)),
                _ => words.plain.push(word),
            }
        }
        words
    }

    pub fn at(&self, place: usize) -> &'a str {
        self.plain.get(place).unwrap_or_else(|| panic!("a word is missing behind {:?}", self.plain))
    }

    pub fn number(&self, place: usize) -> u64 {
        number(self.at(place))
    }

    pub fn numbers(&self, from: usize) -> Vec<u64> {
        self.plain[from..].iter().map(|word| number(word)).collect()
    }

    pub fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    pub fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(option, _)| *option == name).map(|(_, value)| *value)
    }

    pub fn bucket(&self, place: usize) -> BucketName {
        BucketName::new(Bytes::from(self.at(place).to_owned())).expect("a bucket's name")
    }

    pub fn deadline_ms(&self) -> u64 {
        self.option("deadline").map_or(DEADLINE_MS, number)
    }

    pub fn condition(&self) -> Option<Condition> {
        self.option("if").map(condition)
    }
}

pub fn condition(word: &str) -> Condition {
    match word.split_once(':') {
        None if word == "exists" => Condition::Exists(true),
        None if word == "absent" => Condition::Exists(false),
        Some(("version", version)) => Condition::VersionIs(Version(number(version))),
        Some(("value", value)) => Condition::ValueIs(Bytes::from(value.to_owned())),
        _ => panic!("no condition: {word}"),
    }
}

pub fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}

pub fn pair(word: &str) -> Pair {
    let (from, to) = word.split_once("->").unwrap_or_else(|| panic!("no direction: {word}"));
    (number(from), number(to))
}

pub fn key(word: &str) -> Key {
    Key::new(Bytes::from(word.to_owned())).expect("a key")
}
