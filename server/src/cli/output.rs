//! Answers on stdout: tables for people, one JSON object a line for programs.

use base64::Engine as _;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};
use std::io::{self, IsTerminal, StdoutLock, Write};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As text on a terminal, as JSON anywhere else
    Auto,
    /// Tables and sentences
    Text,
    /// One JSON object a line
    Json,
}

/// Stdout, and what is known about who reads it.
pub(super) struct Output {
    stdout: io::BufWriter<StdoutLock<'static>>,
    format: Format,
    terminal: bool,
}

impl Output {
    pub(super) fn stdout(format: Format) -> Output {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Output { stdout: io::BufWriter::new(stdout.lock()), format, terminal }
    }

    /// True when answers are for programs.
    pub(super) fn is_json(&self) -> bool {
        match self.format {
            Format::Auto => !self.terminal,
            Format::Text => false,
            Format::Json => true,
        }
    }

    /// True when JSON was asked for in so many words, which is what it takes for a bare value.
    pub(super) fn is_json_by_request(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One JSON object, on a line of its own.
    pub(super) fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, object)?;
        self.stdout.write_all(b"\n")
    }

    /// One line of text.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.stdout.write_all(line.trim_end().as_bytes())?;
        self.stdout.write_all(b"\n")
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// A table with a line for each row. Columns in `numbers` are aligned to the right.
    pub(super) fn table(&mut self, header: &[&str], numbers: &[usize], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            // Two spaces between columns and none before the first.
            column.set_padding((0, 2));
            if numbers.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Sends everything on its way.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Bytes in JSON: a string where they are UTF-8, `{"base64": "…"}` where they are not.
pub(super) struct JsonBytes<'a>(pub(super) &'a [u8]);

impl Serialize for JsonBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Base64 {
            base64: String,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Base64 { base64: base64::engine::general_purpose::STANDARD.encode(self.0) }.serialize(serializer),
        }
    }
}

/// Bytes for a line of text: nothing in them can move the cursor or end the line.
pub(super) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .flat_map(|c| {
                let escaped = if c.is_control() { Some(c.escape_default()) } else { None };
                let plain = if c.is_control() { None } else { Some(c) };
                escaped.into_iter().flatten().chain(plain)
            })
            .collect(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// A word of a suggested command, quoted where a shell would read it otherwise; `placeholder` where it cannot be typed.
pub(super) fn shell_word(bytes: &[u8], placeholder: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "_./:@,+=-".contains(c);
    match std::str::from_utf8(bytes) {
        Ok(word) if !word.is_empty() && !word.starts_with('-') && word.chars().all(harmless) => word.to_owned(),
        Ok(word) if word.chars().all(|c| !c.is_control() && c != '\'') && !word.starts_with('-') => format!("'{word}'"),
        _ => placeholder.to_owned(),
    }
}

/// A number of bytes for people: `12.3 MiB`.
pub(super) fn say_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while scaled >= 1_023.95 && unit + 1 < UNITS.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_become_base64() {
        let json = |bytes: &[u8]| serde_json::to_string(&JsonBytes(bytes)).expect("it can be written");
        assert_eq!(json(b""), r#""""#);
        assert_eq!(json("gr\u{fc}n\n".as_bytes()), "\"gr\u{fc}n\\n\"");
        assert_eq!(json(b"\xff\x00"), r#"{"base64":"/wA="}"#);
    }

    #[test]
    fn text_cannot_take_over_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n\xc2\x9bc"), "a\\u{1b}[2Jb\\n\\u{9b}c");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(printable(b"\xff\x1b"), "\\xff\\x1b");
    }

    #[test]
    fn suggested_commands_can_be_typed() {
        let word = |bytes: &[u8]| shell_word(bytes, "KEY");
        assert_eq!(
            [word(b"user/1"), word(b"two words"), word(b""), word(b"it's"), word(b"\xff"), word(b"-x")],
            ["user/1", "'two words'", "''", "KEY", "KEY", "KEY"]
        );
    }

    #[test]
    fn sizes_are_said_in_the_largest_unit() {
        let said = [0, 1_023, 1_024, 12_897_484, 1_048_575, u64::MAX].map(say_bytes);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "12.3 MiB", "1.0 MiB", "16384.0 PiB"]);
    }
}
