//! The protocol in text: each file of `testdata` shows one behaviour, commands followed by what they lead to.
//!
//! `UPDATE=1 cargo test -p drey-core --test text` writes what happens into the files; read the difference before you
//! commit it. `ONLY=name` runs one file.

// What core may not do, its tests may.
#![allow(clippy::disallowed_methods)]

mod cluster;

use std::fs;
use std::path::{Path, PathBuf};

use cluster::script::Script;

const OUTCOME: &str = "----";

#[test]
fn each_behaviour_is_as_its_file_says() {
    let only = std::env::var("ONLY").ok();
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    let files = files(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata"));
    assert!(files.len() >= 25, "only {} files", files.len());
    for file in files {
        let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let expected = fs::read_to_string(&file).expect("a text file");
        let found = run(&expected);
        if found == expected {
            continue;
        }
        if update {
            fs::write(&file, found).expect("the file can be written");
        } else {
            wrong.push(format!("{name}:\n{}", difference(&expected, &found)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// The text with the outcomes as they are.
fn run(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    let mut outcome = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == OUTCOME {
            out += &format!("{OUTCOME}\n{outcome}\n");
            outcome.clear();
            // What was expected, up to the empty line behind it.
            for expected in lines.by_ref() {
                if expected.is_empty() {
                    break;
                }
            }
            continue;
        }
        out += &format!("{line}\n");
        if !line.is_empty() && !line.starts_with('#') {
            let happened = script.run(line);
            if happened != "ok\n" {
                outcome += &happened;
            }
            // The last command of a block is followed by its outcome.
            if lines.clone().next().is_none_or(|next| next == OUTCOME) && outcome.is_empty() {
                outcome += "ok\n";
            }
        }
    }
    out
}

fn difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut at = 1;
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return "only the end differs".into(),
            (a, b) if a == b => at += 1,
            (a, b) => {
                let rest: Vec<&str> = found.take(20).collect();
                return format!("line {at}\n  expected {a:?}\n  found    {b:?}\n  then\n    {}", rest.join("\n    "));
            }
        }
    }
}
