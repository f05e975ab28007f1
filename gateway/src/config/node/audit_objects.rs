//! `[audit.objects]` of `node.toml`: the object store that has the audit logs, too.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::identity_files::owned_alone;
use super::{Checker, raw};
use crate::config::file_error::{FileError, quoted};
use crate::config::files;

/// `[audit.objects]`: a bucket of an S3-compatible object store.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The bucket.
    pub bucket: String,
    /// What the names of all objects begin with, without slashes around it; may be empty.
    pub prefix: String,
    /// `https://HOST[:PORT]`; that of AWS in the region unless named.
    pub endpoint: Option<String>,
    /// The region that signatures are for.
    pub region: String,
    /// The file with the access key.
    pub credentials: PathBuf,
    /// The authorities in PEM that the store's certificate is checked with; the system's unless named.
    pub ca: Option<PathBuf>,
    /// How long full tiles and bundles cannot be removed; not locked unless named.
    pub retention: Option<Retention>,
    /// Between two bundles that are read again and compared.
    pub reread: Duration,
}

/// The store's object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At least so many.
    pub days: u32,
    /// Who may lift it.
    pub mode: RetentionMode,
}

/// Who may remove a file before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMode {
    /// Nobody, whoever owns the bucket.
    Compliance,
    /// Whoever has the permission for just that.
    Governance,
}

/// An access key of an object store; its secret is wiped when dropped, and never shown.
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// What requests are signed with.
    pub secret: Zeroizing<String>,
    /// Of a key that lives for some hours.
    pub token: Option<Zeroizing<String>>,
}

/// The largest file with an access key, and with authorities, in bytes.
const MAX_CREDENTIALS_BYTES: u64 = 16 * 1024;
const MAX_AUTHORITIES_BYTES: u64 = 1 << 20;
/// The longest prefix: an object's name has 1024 bytes at most, and a log's file needs 130.
const MAX_PREFIX: usize = 512;
/// The longest retention in days: 100 years, as the store has it.
const MAX_RETAIN_DAYS: u32 = 36_500;
/// Between two bundles that are compared, in seconds: unless named, and at most.
const REREAD: u32 = 60;
const MAX_REREAD: u32 = 86_400;

impl Objects {
    /// Reads the access key: lines `aws_access_key_id = …`, `aws_secret_access_key = …` and, if there is one,
    /// `aws_session_token = …`, as the tools of AWS write them. Other profiles than `[default]` are not read.
    ///
    /// # Errors
    /// With the file and the line; no part of the file's content is in it.
    pub fn access_key(&self) -> Result<AccessKey, FileError> {
        let whole = |problem| FileError::whole(self.credentials.display(), problem);
        read_access_key(&self.credentials).map_err(whole)
    }

    /// Reads the authorities; `system` where none are named.
    ///
    /// # Errors
    /// With the file.
    pub fn authorities(&self, system: &str) -> Result<String, FileError> {
        let path = self.ca.as_deref().unwrap_or(Path::new(system));
        let text = files::read_text(path, MAX_AUTHORITIES_BYTES);
        text.map_err(|problem| FileError::whole(path.display(), problem))
    }
}

fn read_access_key(path: &Path) -> Result<AccessKey, String> {
    let (file, metadata) = files::open(path)?;
    owned_alone("an access key", metadata.mode(), metadata.uid())?;
    let text = Zeroizing::new(files::read(file, MAX_CREDENTIALS_BYTES)?);
    parse_access_key(&text)
}

fn parse_access_key(text: &str) -> Result<AccessKey, String> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || line == "[default]" {
            continue;
        }
        if line.starts_with('[') {
            return Err(format!(
                "line {number}: the only profile that is read is [default]"
            ));
        }
        let (key, value) = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(_, value)| !value.is_empty() && value.bytes().all(|it| it.is_ascii_graphic()))
            .ok_or_else(|| format!("line {number}: write KEY = VALUE"))?;
        let place = match key {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => {
                return Err(format!(
                    "line {number}: the keys are aws_access_key_id, aws_secret_access_key and aws_session_token"
                ));
            }
        };
        if place.replace(Zeroizing::new(value.to_owned())).is_some() {
            return Err(format!("line {number}: {key} stands there twice"));
        }
    }
    Ok(AccessKey {
        id: id.ok_or("has no aws_access_key_id")?.to_string(),
        secret: secret.ok_or("has no aws_secret_access_key")?,
        token,
    })
}

pub(super) fn check(checker: &mut Checker<'_>, raw: &raw::RawObjects) -> Option<Objects> {
    let place = parse_url(raw.url.get_ref());
    if place.is_none() {
        let text = quoted(raw.url.get_ref());
        let message = format!(
            "audit.objects.url {text}: write \"s3://BUCKET\" or \"s3://BUCKET/PREFIX\", of a-z, A-Z, 0-9, '-', '_', '.' and '/'"
        );
        checker.complain::<()>(raw.url.span(), message);
    }
    let mut endpoint = None;
    if let Some(written) = &raw.endpoint {
        let text = written.get_ref().trim_end_matches('/');
        let host = text.strip_prefix("https://");
        let usable = |host: &str| {
            let graphic = host.bytes().all(|byte| byte.is_ascii_graphic());
            !host.is_empty() && graphic && !host.contains(['/', '@', '?', '#'])
        };
        if !host.is_some_and(usable) {
            let text = quoted(written.get_ref());
            let message = format!(
                "audit.objects.endpoint {text}: write \"https://HOST\" or \"https://HOST:PORT\""
            );
            checker.complain::<()>(written.span(), message);
        }
        endpoint = Some(text.to_owned());
    }
    let region = raw.region.get_ref();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if region.is_empty() || region.len() > 63 || !region.bytes().all(known) {
        let message = format!(
            "audit.objects.region {}: write one like \"eu-central-1\"",
            quoted(region)
        );
        checker.complain::<()>(raw.region.span(), message);
    }
    let credentials = checker.path("audit.objects.credentials", &raw.credentials);
    let ca = match &raw.ca {
        Some(ca) => Some(checker.path("audit.objects.ca", ca)?),
        None => None,
    };
    let retention = check_retention(checker, raw);
    let reread = match &raw.reread_seconds {
        Some(seconds) if !(1..=MAX_REREAD).contains(seconds.get_ref()) => {
            let message = format!("audit.objects.reread-seconds: write 1 to {MAX_REREAD}");
            checker.complain(seconds.span(), message)?
        }
        Some(seconds) => *seconds.get_ref(),
        None => REREAD,
    };
    let (bucket, prefix) = place?;
    Some(Objects {
        bucket,
        prefix,
        endpoint,
        region: region.clone(),
        credentials: credentials?,
        ca,
        retention: retention?,
        reread: Duration::from_secs(reread.into()),
    })
}

/// The outer `None` is a mistake that was recorded.
#[expect(clippy::option_option, reason = "nothing may be named, or wrong")]
fn check_retention(checker: &mut Checker<'_>, raw: &raw::RawObjects) -> Option<Option<Retention>> {
    let mode = match &raw.retain_mode {
        Some(mode) => match mode.get_ref().as_str() {
            "compliance" => Some(RetentionMode::Compliance),
            "governance" => Some(RetentionMode::Governance),
            other => {
                let message = format!(
                    "audit.objects.retain-mode {}: write \"compliance\" or \"governance\"",
                    quoted(other)
                );
                return checker.complain(mode.span(), message);
            }
        },
        None => None,
    };
    match (&raw.retain_days, mode) {
        (None, None) => Some(None),
        (Some(days), Some(mode)) if (1..=MAX_RETAIN_DAYS).contains(days.get_ref()) => {
            let days = *days.get_ref();
            Some(Some(Retention { days, mode }))
        }
        (Some(days), Some(_)) => checker.complain(
            days.span(),
            format!("audit.objects.retain-days: write 1 to {MAX_RETAIN_DAYS}"),
        ),
        (Some(days), None) => checker.complain(
            days.span(),
            "audit.objects.retain-days needs retain-mode: \"compliance\" (nobody can lift it) or \"governance\"",
        ),
        (None, Some(_)) => checker.complain(
            raw.url.span(),
            "audit.objects.retain-mode needs retain-days",
        ),
    }
}

/// Bucket and prefix.
fn parse_url(text: &str) -> Option<(String, String)> {
    let rest = text.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let of_bucket =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(of_bucket) {
        return None;
    }
    let of_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(of_part);
    let usable = prefix.is_empty() || (prefix.len() <= MAX_PREFIX && prefix.split('/').all(part));
    usable.then(|| (bucket.to_owned(), prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_a_prefix() {
        let place = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(parse_url("s3://logs-1"), place("logs-1", ""));
        assert_eq!(parse_url("s3://logs-1/"), place("logs-1", ""));
        assert_eq!(parse_url("s3://logs-1/a/b/"), place("logs-1", "a/b"));
        for wrong in [
            "",
            "logs",
            "s3://",
            "s3://Logs",
            "s3://logs//a",
            "s3://logs/a/../b",
            "s3://logs/a b",
            "https://logs/a",
        ] {
            assert_eq!(parse_url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_access_key_is_read_and_a_mistake_is_told_by_its_line_without_the_secret() {
        let key = parse_access_key(
            "[default]\n# ours\naws_access_key_id=AKIA\naws_secret_access_key = s/+=\n",
        );
        let key = key.ok().unwrap();
        assert_eq!((key.id.as_str(), key.secret.as_str()), ("AKIA", "s/+="));
        assert!(key.token.is_none());
        for (text, told) in [
            ("aws_access_key_id = a\n", "aws_secret_access_key"),
            ("[other]\n", "line 1"),
            ("aws_access_key_id = a\nhidden\n", "line 2"),
            (
                "aws_access_key_id = a\naws_access_key_id = hidden\n",
                "line 2",
            ),
        ] {
            let error = parse_access_key(text).err().unwrap();
            assert!(error.contains(told) && !error.contains("hidden"), "{error}");
        }
    }
}
