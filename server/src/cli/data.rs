//! `set`, `get`, `delete`, `expire`, `scan`.

use super::output::{JsonBytes, Output, printable, shell_word};
use super::{Context, Exit, Failure, duration};
use bytes::Bytes;
use clap::Args;
use drey_client::proto::{Condition, DeleteRequest, Entry, ExpireRequest, KeyRange, PutRequest, ScanChunk};
use drey_client::{Code, Error, ReadMode, Scan};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The bucket of a command that names none.
const BUCKET_DEFAULT: &str = "default";

/// The largest value taken from stdin; the cluster's own limit is lower.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// How wide the columns of keys and values get on a terminal.
const KEY_WIDTH_MAX: usize = 40;
const VALUE_WIDTH_MAX: usize = 60;

/// What `drey set` takes.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The bucket (`default` if left out), the key, and the value; `-` reads the value from stdin
    #[arg(required = true, num_args = 2..=3, value_names = ["BUCKET", "KEY", "VALUE"], allow_negative_numbers = true)]
    words: Vec<OsString>,
    /// How long it stays: 500ms, 10s, 5m, 2h, 7d, or a number of seconds; for ever if left out, unless the bucket says otherwise
    #[arg(long, value_name = "TIME", value_parser = duration::parse_ttl_ms, allow_hyphen_values = true)]
    ttl: Option<u64>,
    /// Only if the key is not there
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only if the key was last written by the write of this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// What `drey get` takes.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The bucket (`default` if left out) and the key
    #[arg(required = true, num_args = 1..=2, value_names = ["BUCKET", "KEY"], allow_negative_numbers = true)]
    words: Vec<OsString>,
    /// Answer from the node's own copy, which may be stale
    #[arg(long)]
    local: bool,
}

/// What `drey delete` takes.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The bucket (`default` if left out) and the key
    #[arg(required = true, num_args = 1..=2, value_names = ["BUCKET", "KEY"], allow_negative_numbers = true)]
    words: Vec<OsString>,
    /// Only if the key was last written by the write of this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// What `drey expire` takes.
#[derive(Debug, Args)]
pub struct ExpireArgs {
    /// The bucket (`default` if left out), the key, and how long it stays from now on: 500ms, 10s, 5m, 2h, 7d, a number of
    /// seconds, or `never` to end that
    #[arg(required = true, num_args = 2..=3, value_names = ["BUCKET", "KEY", "TIME"], allow_negative_numbers = true)]
    words: Vec<OsString>,
}

/// What `drey scan` takes.
#[derive(Debug, Default, Args)]
pub struct ScanArgs {
    /// The bucket; `default` if left out
    bucket: Option<String>,
    /// Only keys that start so
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["start", "end"])]
    prefix: Option<OsString>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    start: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    end: Option<OsString>,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Keys without values
    #[arg(long)]
    keys_only: bool,
}

impl ScanArgs {
    /// Everything in a bucket.
    pub(super) fn all(bucket: Option<String>) -> ScanArgs {
        ScanArgs { bucket, ..ScanArgs::default() }
    }
}

/// A bucket and a key, as they were typed.
struct Place {
    bucket: String,
    key: Bytes,
}

impl Place {
    /// `[BUCKET] KEY`, and what follows them.
    fn of(words: Vec<OsString>, words_max: usize) -> Result<(Place, Option<OsString>), Failure> {
        let named = words.len() == words_max;
        let mut words = words.into_iter();
        let bucket = match named.then(|| words.next()).flatten() {
            None => BUCKET_DEFAULT.to_owned(),
            Some(bucket) => bucket.into_string().map_err(|bucket| {
                let what = format!("`{}` is no name of a bucket", printable(&bucket.into_vec()));
                Failure::usage(&what, "names of buckets are UTF-8", "drey ls")
            })?,
        };
        let key = Bytes::from(words.next().unwrap_or_default().into_vec());
        Ok((Place { bucket, key }, words.next()))
    }

    fn key_text(&self) -> String {
        printable(&self.key)
    }

    /// The words of a suggested command about this place.
    fn words(&self) -> String {
        let key = shell_word(&self.key, "KEY");
        if self.bucket == BUCKET_DEFAULT {
            key
        } else {
            format!("{} {key}", shell_word(self.bucket.as_bytes(), "BUCKET"))
        }
    }

    /// A failed call about this place, and the command that helps.
    fn failed(&self, context: &Context, verb: &str, error: &Error) -> Failure {
        let what = match error.code {
            Code::BucketNotFound => format!("bucket `{}` does not exist", self.bucket),
            _ => format!("cannot {verb} key `{}` of bucket `{}`", self.key_text(), self.bucket),
        };
        Failure::of_call(what, error, |code| match code {
            Code::BucketNotFound => {
                context.suggest(&format!("create {}", shell_word(self.bucket.as_bytes(), "BUCKET")))
            }
            code if code.outcome_is_unknown() && verb != "read" => {
                format!("{} (it may or may not have happened)", context.suggest(&format!("get {}", self.words())))
            }
            code => context.suggest_for(code),
        })
    }
}

impl Context {
    /// A command to try next, which reaches the same cluster as this one did.
    pub(super) fn suggest(&self, command: &str) -> String {
        format!("drey {command}{}", self.server_option)
    }

    /// The command to try next after an error that has nothing to do with what was asked.
    pub(super) fn suggest_for(&self, code: Code) -> String {
        match code {
            Code::Unreachable => "drey start, or name a node that is alive: --server HOST:PORT".to_owned(),
            Code::InvalidArgument => "drey help".to_owned(),
            _ => self.suggest("cluster"),
        }
    }
}

pub(super) async fn set(context: &mut Context, args: SetArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Written<'a> {
        bucket: &'a str,
        key: JsonBytes<'a>,
        version: u64,
    }
    let (place, value) = Place::of(args.words, 3)?;
    let value = value.unwrap_or_default();
    let value = if value == "-" { stdin()? } else { Bytes::from(value.into_vec()) };
    let condition = if args.if_absent { Some(Condition::absent()) } else { args.if_version.map(Condition::version_is) };
    let request = PutRequest {
        key: place.key.clone(),
        value,
        ttl_ms: args.ttl,
        // To say, if the condition is not met, what is there instead.
        return_previous: condition.is_some(),
        condition,
        ..PutRequest::default()
    };
    let answer = context.client.bucket(&place.bucket).put_with(request).await;
    let answer = answer.map_err(|error| place.failed(context, "write", &error))?;
    if !answer.applied {
        return Err(condition_failed(context, &place, answer.previous.as_ref(), "written"));
    }
    if context.output.is_json() {
        let key = JsonBytes(&place.key);
        context.output.json(&Written { bucket: &place.bucket, key, version: answer.version })?;
    } else {
        context.output.line(&format!("version {}", answer.version))?;
    }
    Ok(())
}

pub(super) async fn get(context: &mut Context, args: GetArgs) -> Result<(), Failure> {
    let (place, _) = Place::of(args.words, 2)?;
    let read = if args.local { ReadMode::Local } else { ReadMode::Linearizable };
    let answer = context.client.bucket(&place.bucket).get_with(place.key.clone(), read).await;
    let answer = answer.map_err(|error| place.failed(context, "read", &error))?;
    let Some(entry) = answer else { return Err(key_not_there(context, &place)) };
    if context.output.is_json_by_request() {
        context.output.json(&EntryLine::new(&entry, false))?;
        return Ok(());
    }
    context.output.bytes(&entry.value)?;
    if context.output.is_terminal() && !entry.value.ends_with(b"\n") {
        context.output.bytes(b"\n")?;
    }
    Ok(())
}

pub(super) async fn delete(context: &mut Context, args: DeleteArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        bucket: &'a str,
        key: JsonBytes<'a>,
        deleted: bool,
        version: u64,
    }
    let (place, _) = Place::of(args.words, 2)?;
    let condition = args.if_version.map(Condition::version_is);
    let return_previous = condition.is_some();
    let request = DeleteRequest { key: place.key.clone(), condition, return_previous, ..DeleteRequest::default() };
    let answer = context.client.bucket(&place.bucket).delete_with(request).await;
    let answer = answer.map_err(|error| place.failed(context, "delete", &error))?;
    if !answer.applied && args.if_version.is_some() {
        return Err(condition_failed(context, &place, answer.previous.as_ref(), "deleted"));
    }
    if !answer.existed {
        return Err(key_not_there(context, &place));
    }
    if context.output.is_json() {
        let key = JsonBytes(&place.key);
        context.output.json(&Deleted { bucket: &place.bucket, key, deleted: true, version: answer.version })?;
    } else {
        context.output.line(&format!("deleted `{}`", place.key_text()))?;
    }
    Ok(())
}

pub(super) async fn expire(context: &mut Context, args: ExpireArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Expires<'a> {
        bucket: &'a str,
        key: JsonBytes<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
        version: u64,
    }
    let (place, time) = Place::of(args.words, 3)?;
    let ttl_ms = time_or_never(&time.unwrap_or_default())?;
    let request = ExpireRequest { key: place.key.clone(), ttl_ms, ..ExpireRequest::default() };
    let answer = context.client.bucket(&place.bucket).expire_with(request).await;
    let answer = answer.map_err(|error| place.failed(context, "change the time to live of", &error))?;
    if !answer.existed {
        return Err(key_not_there(context, &place));
    }
    if context.output.is_json() {
        let key = JsonBytes(&place.key);
        context.output.json(&Expires { bucket: &place.bucket, key, ttl_ms, version: answer.version })?;
    } else {
        context.output.line(&format!("version {}", answer.version))?;
    }
    Ok(())
}

fn time_or_never(word: &OsStr) -> Result<Option<u64>, Failure> {
    if word == "never" {
        return Ok(None);
    }
    let parsed = word.to_str().ok_or_else(|| "it is no UTF-8".to_owned()).and_then(duration::parse_ttl_ms);
    parsed.map(Some).map_err(|why| {
        let what = format!("`{}` is no time to live", printable(word.as_bytes()));
        Failure::usage(&what, &format!("{why}; or never"), "drey expire KEY 5m")
    })
}

pub(super) async fn scan(context: &mut Context, args: ScanArgs) -> Result<(), Failure> {
    let bucket = args.bucket.unwrap_or_else(|| BUCKET_DEFAULT.to_owned());
    let bytes = |word: Option<OsString>| word.map(|word| Bytes::from(word.into_vec()));
    let range = KeyRange { start: bytes(args.start), end: bytes(args.end), prefix: bytes(args.prefix) };
    let scan = Scan::over(range).limit(args.limit).reverse(args.reverse).keys_only(args.keys_only);
    let place = Place { bucket, key: Bytes::new() };
    let failed = |context: &Context, error: &Error| match error.code {
        Code::BucketNotFound => place.failed(context, "scan", error),
        _ => {
            Failure::of_call(format!("cannot scan bucket `{}`", place.bucket), error, |code| context.suggest_for(code))
        }
    };
    let mut stream = context.client.bucket(&place.bucket).scan(scan).await.map_err(|error| failed(context, &error))?;
    let mut lines = EntryLines { keys_only: args.keys_only, key_width: None };
    loop {
        // What is here is shown before the next is waited for.
        let Some(chunk) = stream.next_chunk().await.map_err(|error| failed(context, &error))? else { break };
        lines.write(&mut context.output, &chunk)?;
        context.output.finish()?;
        if chunk.more && !context.output.is_json() {
            context.output.line("more entries follow: raise --limit, or go on from the last key")?;
        }
    }
    Ok(())
}

/// An entry in JSON.
#[derive(Serialize)]
struct EntryLine<'a> {
    key: JsonBytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<JsonBytes<'a>>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

impl<'a> EntryLine<'a> {
    fn new(entry: &'a Entry, keys_only: bool) -> EntryLine<'a> {
        EntryLine {
            key: JsonBytes(&entry.key),
            value: (!keys_only).then_some(JsonBytes(&entry.value)),
            version: entry.version,
            ttl_ms: entry.ttl_ms,
        }
    }
}

/// Entries as they come, in columns as wide as the first chunk asks for: a scan may be longer than memory.
struct EntryLines {
    keys_only: bool,
    key_width: Option<usize>,
}

impl EntryLines {
    fn write(&mut self, output: &mut Output, chunk: &ScanChunk) -> io::Result<()> {
        if output.is_json() {
            return chunk.entries.iter().try_for_each(|entry| output.json(&EntryLine::new(entry, self.keys_only)));
        }
        let keys: Vec<String> = chunk.entries.iter().map(|entry| printable(&entry.key)).collect();
        let key_width = match self.key_width {
            Some(width) => width,
            None if keys.is_empty() => return Ok(()),
            None => {
                let widest = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
                let width = widest.clamp("KEY".len(), KEY_WIDTH_MAX);
                self.key_width = Some(width);
                let value = if self.keys_only { "" } else { "VALUE" };
                output.line(&format!("{:<width$}  {:>10}  {:>8}  {value}", "KEY", "VERSION", "TTL"))?;
                width
            }
        };
        for (key, entry) in keys.iter().zip(&chunk.entries) {
            let value = match (self.keys_only, output.is_terminal()) {
                (true, _) => String::new(),
                (false, true) => shortened(&entry.value),
                (false, false) => printable(&entry.value),
            };
            let ttl = entry.ttl_ms.map_or("-".to_owned(), duration::say);
            output.line(&format!("{key:<key_width$}  {:>10}  {ttl:>8}  {value}", entry.version))?;
        }
        Ok(())
    }
}

/// As much of a value as fits on a terminal's line, and how long it really is.
fn shortened(value: &[u8]) -> String {
    // A character takes four bytes at most: no more of a large value need be looked at.
    let text = printable(&value[..value.len().min(VALUE_WIDTH_MAX * 4)]);
    if text.chars().count() <= VALUE_WIDTH_MAX && value.len() <= VALUE_WIDTH_MAX * 4 {
        return text;
    }
    let start: String = text.chars().take(VALUE_WIDTH_MAX).collect();
    format!("{start}… ({} bytes)", value.len())
}

fn key_not_there(context: &Context, place: &Place) -> Failure {
    let bucket = shell_word(place.bucket.as_bytes(), "BUCKET");
    let what = format!("key `{}` is not in bucket `{}`", place.key_text(), place.bucket);
    Failure::new(Exit::NotThere, what, "the bucket is there, the key is not", context.suggest(&format!("ls {bucket}")))
}

fn condition_failed(context: &Context, place: &Place, found: Option<&Entry>, verb: &str) -> Failure {
    let what = format!("key `{}` of bucket `{}` was not {verb}", place.key_text(), place.bucket);
    let why = match found {
        Some(entry) => format!("the condition is not met: the key is there at version {}", entry.version),
        None => "the condition is not met".to_owned(),
    };
    let next = context.suggest(&format!("get {} --output json", place.words()));
    Failure::new(Exit::ConditionFailed, what, why, next)
}

fn stdin() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut value).map_err(|error| {
        Failure::new(Exit::Refused, "cannot read the value from stdin", error.to_string(), "drey set KEY VALUE")
    })?;
    if value.len() as u64 > STDIN_BYTES_MAX {
        let what = format!("the value on stdin has more than {STDIN_BYTES_MAX} bytes");
        return Err(Failure::usage(&what, "values are small things; a cluster takes a few MiB", "drey set KEY VALUE"));
    }
    Ok(Bytes::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(words: &[&str], words_max: usize) -> (String, Bytes, Option<OsString>) {
        let words = words.iter().map(OsString::from).collect();
        let (place, rest) = Place::of(words, words_max).expect("UTF-8");
        (place.bucket, place.key, rest)
    }

    #[test]
    fn a_word_less_means_the_default_bucket() {
        assert_eq!(place(&["k"], 2), ("default".to_owned(), Bytes::from("k"), None));
        assert_eq!(place(&["b", "k"], 2), ("b".to_owned(), Bytes::from("k"), None));
        assert_eq!(place(&["k", "v"], 3), ("default".to_owned(), Bytes::from("k"), Some("v".into())));
        assert_eq!(place(&["b", "k", "v"], 3), ("b".to_owned(), Bytes::from("k"), Some("v".into())));
    }

    #[test]
    fn long_values_are_cut_on_a_terminal() {
        assert_eq!(shortened(b"short"), "short");
        let cut = shortened("\u{e4}".repeat(1_000).as_bytes());
        assert_eq!(cut, format!("{}… (2000 bytes)", "\u{e4}".repeat(60)));
    }
}
