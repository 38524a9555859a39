//! A command line that cannot be parsed: clap's words, ended as all errors here are, by what to try.

use std::io::{IsTerminal, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, Error};

use super::{Cli, Exit};

/// How clap begins its own hint.
const HINT: &str = "For more information, try";

/// Says what is wrong with the command line, or answers it when help or the version was asked for.
pub fn refuse_line(error: &Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // That nobody may be reading there is no reason to panic.
        drop(error.print());
        return Exit::Done;
    }
    let rendered = error.render();
    let text = if std::io::stderr().is_terminal() { rendered.ansi().to_string() } else { rendered.to_string() };
    let text = match text.split_once(HINT) {
        Some((said, _)) => format!(
            "{}\n  try: {}\n",
            said.trim_end(),
            help(std::env::args_os().map(|word| word.to_string_lossy().into_owned()))
        ),
        // Help itself, in the place of a command that is missing.
        None => text,
    };
    drop(std::io::stderr().write_all(text.as_bytes()));
    Exit::Usage
}

/// The help of the command that was typed, as far as there is one.
fn help(words: impl Iterator<Item = String>) -> String {
    let known = Cli::command();
    let command = words.skip(1).find(|word| known.find_subcommand(word).is_some());
    command.map_or_else(|| "drey --help".to_owned(), |command| format!("drey {command} --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_the_command_is_suggested() {
        let help = |line: &str| help(line.split(' ').map(str::to_owned));
        assert_eq!(help("drey --output json set k"), "drey set --help");
        assert_eq!(help("drey sett k v"), "drey --help");
        assert_eq!(help("drey"), "drey --help");
    }
}
