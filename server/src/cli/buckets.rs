//! `create`, `drop`, `ls`.

use super::data::{self, ScanArgs};
use super::duration;
use super::output::{say_bytes, shell_word};
use super::{Context, Exit, Failure};
use clap::Args;
use drey_client::proto::{Bucket, CreateBucketRequest};
use drey_client::{Code, Error};
use serde::Serialize;

/// What `drey create` takes.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The new bucket's name
    bucket: String,
    /// How long entries stay that are written without a time to live of their own: 500ms, 10s, 5m, 2h, 7d, or seconds
    #[arg(long, value_name = "TIME", value_parser = duration::parse_ttl_ms, allow_hyphen_values = true)]
    ttl: Option<u64>,
    /// How much it may hold, keys and values together, about: 512KiB, 10GiB, or bytes
    #[arg(long, value_name = "BYTES", value_parser = super::size::parse)]
    max_bytes: Option<u64>,
    /// Do nothing if it is there already
    #[arg(long)]
    if_not_exists: bool,
}

/// What `drey drop` takes.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// The bucket's name
    bucket: String,
}

/// What `drey ls` takes.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The bucket whose entries to list; all buckets are listed without it
    bucket: Option<String>,
    /// List entries, those of the bucket `default` if none is named
    #[arg(short = 'd', long)]
    data: bool,
}

/// A bucket in JSON.
#[derive(Serialize)]
struct BucketLine<'a> {
    name: &'a str,
    group: u32,
    keys_estimate: u64,
    bytes_estimate: u64,
    created_ms: u64,
    created_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
}

impl<'a> From<&'a Bucket> for BucketLine<'a> {
    fn from(bucket: &'a Bucket) -> BucketLine<'a> {
        BucketLine {
            name: &bucket.name,
            group: bucket.group,
            keys_estimate: bucket.keys_estimate,
            bytes_estimate: bucket.bytes_estimate,
            created_ms: bucket.created_ms,
            created_version: bucket.created_version,
            default_ttl_ms: bucket.default_ttl_ms,
            max_bytes: bucket.max_bytes,
            created: None,
        }
    }
}

pub(super) async fn create(context: &mut Context, args: &CreateArgs) -> Result<(), Failure> {
    let request = CreateBucketRequest {
        name: args.bucket.clone(),
        default_ttl_ms: args.ttl,
        max_bytes: args.max_bytes,
        if_not_exists: args.if_not_exists,
        ..CreateBucketRequest::default()
    };
    let (bucket, created) =
        context.client.create_bucket_with(request).await.map_err(|error| {
            failed(context, &format!("cannot create bucket `{}`", args.bucket), &args.bucket, &error)
        })?;
    if context.output.is_json() {
        context.output.json(&BucketLine { created: Some(created), ..BucketLine::from(&bucket) })?;
    } else if created {
        context.output.line(&format!("created bucket `{}` in group {}", bucket.name, bucket.group))?;
    } else {
        context.output.line(&format!("bucket `{}` is there already", bucket.name))?;
    }
    Ok(())
}

pub(super) async fn drop(context: &mut Context, args: &DropArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Dropped<'a> {
        name: &'a str,
        dropped: bool,
    }
    let existed = context
        .client
        .drop_bucket(&args.bucket)
        .await
        .map_err(|error| failed(context, &format!("cannot drop bucket `{}`", args.bucket), &args.bucket, &error))?;
    if !existed {
        let what = format!("bucket `{}` does not exist", args.bucket);
        return Err(Failure::new(Exit::NotThere, what, "nothing was dropped", context.suggest("ls")));
    }
    if context.output.is_json() {
        context.output.json(&Dropped { name: &args.bucket, dropped: true })?;
    } else {
        context.output.line(&format!("dropped bucket `{}`", args.bucket))?;
    }
    Ok(())
}

pub(super) async fn ls(context: &mut Context, args: LsArgs) -> Result<(), Failure> {
    if args.data || args.bucket.is_some() {
        return data::scan(context, ScanArgs::all(args.bucket)).await;
    }
    let mut buckets = context
        .client
        .list_buckets("")
        .await
        .map_err(|error| failed(context, "cannot list the buckets", "", &error))?;
    buckets.sort_by(|left, right| left.name.cmp(&right.name));
    if context.output.is_json() {
        for bucket in &buckets {
            context.output.json(&BucketLine::from(bucket))?;
        }
        return Ok(());
    }
    let row = |bucket: &Bucket| {
        vec![
            bucket.name.clone(),
            bucket.group.to_string(),
            format!("~{}", bucket.keys_estimate),
            format!("~{}", say_bytes(bucket.bytes_estimate)),
            bucket.max_bytes.map_or("-".to_owned(), say_bytes),
            bucket.default_ttl_ms.map_or("-".to_owned(), duration::say),
        ]
    };
    let rows = buckets.iter().map(row).collect();
    context.output.table(&["BUCKET", "GROUP", "KEYS", "SIZE", "MAX", "TTL"], &[1, 2, 3, 4, 5], rows)?;
    Ok(())
}

/// A failed call about buckets, and the command that helps.
fn failed(context: &Context, what: &str, bucket: &str, error: &Error) -> Failure {
    let bucket = shell_word(bucket.as_bytes(), "BUCKET");
    Failure::of_call(what, error, |code| match code {
        Code::BucketExists => context.suggest(&format!("ls {bucket}")),
        Code::BucketNotFound => context.suggest("ls"),
        Code::InvalidArgument => "drey create --help".to_owned(),
        code if code.outcome_is_unknown() => context.suggest("ls"),
        code => context.suggest_for(code),
    })
}
