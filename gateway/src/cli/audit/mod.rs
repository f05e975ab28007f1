//! `audit verify`, `audit prove`, `audit check`: the audit log's files, without any node. `audit trust`,
//! `audit fetch` and `audit open` ask one: whom to believe, for the files, and for what opens commitments in them. `audit
//! search` asks the index.

mod export;
mod fetch;
mod keeping;
mod open;
mod past;
mod prove;
mod search;
mod trust;
mod verify;
mod web;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use portcullis_audit::tlog::{MAX_POLICY_BYTES, TrustPolicy};

pub(super) use self::export::export;
pub(super) use self::fetch::fetch;
pub(super) use self::keeping::{hold, keep, release};
pub(super) use self::open::open;
pub(super) use self::past::reach;
pub(super) use self::prove::{check, prove};
pub(super) use self::search::search;
pub(super) use self::trust::trust;
pub(super) use self::verify::verify;
use self::web::Web;
use super::audit_args::WhereArgs;
use super::exit::Exit;
use super::output::{complain, printable};
use crate::ledger::inspect::{Directory, Source};

/// What reads the files of the place that was named.
async fn source(args: &WhereArgs) -> Result<Box<dyn Source + Send>, String> {
    let text = args.place.to_string_lossy();
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Box::new(Web::new(&text, args.ca.as_deref()).await?));
    }
    if text.contains("://") {
        return Err(format!(
            "{text}: a URL begins with http:// or https://; anything else is a directory"
        ));
    }
    match std::fs::metadata(&args.place) {
        Ok(found) if found.is_dir() => Ok(Box::new(Directory(args.place.clone()))),
        Ok(_) => Err(format!("{text}: it is no directory")),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

/// Does what waits for files on a thread that may wait.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| format!("it broke: {error}"))
}

pub(super) fn trusted(file: &Path) -> Result<TrustPolicy, String> {
    let parse = || {
        let bytes = read(file, MAX_POLICY_BYTES)?;
        let text =
            String::from_utf8(bytes).map_err(|_| format!("{}: it is not UTF-8", file.display()))?;
        TrustPolicy::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
    };
    parse().map_err(|problem: String| {
        format!(
            "{problem}\nnext: --trust names a trust policy, which must not come from where the logs do: `portcullis audit trust` prints it on a control node"
        )
    })
}

/// A file that was named on the command line.
fn read(file: &Path, limit: usize) -> Result<Vec<u8>, String> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes));
    let read = read.and_then(|_| match bytes.len() > limit {
        true => Err(io::Error::other(format!("it is longer than {limit} bytes"))),
        false => Ok(()),
    });
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(bytes)
}

pub(super) fn failed(problem: &str) -> Exit {
    complain(&printable(&format!("error: {problem}")));
    Exit::Error
}
