//! One bucket: four requests, each with a deadline.
//!
//! Nothing is overwritten blindly: a file is made where there is none, and a checkpoint is replaced only where it is still the one that
//! was read, so that of two nodes which both think they lead the slower cannot put an older one over a newer.

use std::error::Error as StdError;
use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, PutResult, RetryConfig, UpdateVersion,
};
use parking_lot::Mutex;
use portcullis_audit::tlog::MAX_BUNDLE_BYTES;
use portcullis_certs::https_client_config;
use portcullis_policy::Timestamp;

use crate::config::node::{Objects, Retention, RetentionMode};
use crate::http::SYSTEM_AUTHORITIES;
use crate::http::client::AnswerLimits;
use crate::http::objects::{Carrier, with_headers};
use crate::ledger::tiles::{LogFile, LogId};
use crate::runtime::clock::{self, Duration};
use crate::runtime::limits::OBJECTS_TIME;

/// A bucket, and where in it. Never shown: the access key is in it.
pub(super) struct Store {
    place: Objects,
    builder: AmazonS3Builder,
    bucket: AmazonS3,
    /// The same with the lock's headers, and the day up to which they lock.
    locking: Mutex<Option<(i64, Arc<AmazonS3>)>>,
}

/// A file of the store.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    /// Which one it is, for [`Store::replace`].
    pub(super) tag: Option<String>,
}

/// What became of a file that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there now, as this one.
    Made(Option<String>),
    /// There is one that was not expected.
    Exists,
}

/// A request that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// For the metric.
    pub(super) kind: &'static str,
    pub(super) says: String,
}

/// Of what the store says in an error, characters.
const SAID: usize = 1_000;
const DAY_MS: i64 = 86_400_000;
const LOCK_MODE: &str = "x-amz-object-lock-mode";
/// Which checksum the request has: some stores take nothing locked unless it is named.
const CHECKSUM: &str = "x-amz-sdk-checksum-algorithm";
const LOCK_UNTIL: &str = "x-amz-object-lock-retain-until-date";

impl Store {
    pub(super) fn open(place: &Objects) -> Result<Self, String> {
        let told = |error: &dyn std::fmt::Display| format!("[audit.objects]: {error}");
        let key = place.access_key().map_err(|error| told(&error))?;
        let authorities = place.authorities(SYSTEM_AUTHORITIES);
        let authorities = authorities.map_err(|error| told(&error))?;
        let tls = https_client_config(&authorities).map_err(|error| told(&error))?;
        let limits = AnswerLimits {
            bytes: MAX_BUNDLE_BYTES,
            time: OBJECTS_TIME,
        };
        // Rounds try again; one request is one request.
        let once = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(&place.region)
            .with_access_key_id(&key.id)
            .with_secret_access_key(key.secret.as_str())
            // A bucket with object lock takes nothing without a checksum.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(once)
            .with_http_connector(Carrier { tls, limits });
        if let Some(token) = &key.token {
            builder = builder.with_token(token.as_str());
        }
        if let Some(endpoint) = &place.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let bucket = builder.clone().build().map_err(|error| told(&error))?;
        Ok(Self {
            place: place.clone(),
            builder,
            bucket,
            locking: Mutex::new(None),
        })
    }

    /// Between two bundles that are compared.
    pub(super) fn reread(&self) -> Duration {
        self.place.reread
    }

    /// Makes a file where there is none of that name. One that never changes is locked, if the store is to.
    pub(super) async fn create(
        &self,
        log: &LogId,
        file: LogFile,
        bytes: Vec<u8>,
    ) -> Result<Put, Failed> {
        let final_one = matches!(file, LogFile::Tile(tile) if !tile.is_partial());
        let (path, bytes) = (self.path(log, file), PutPayload::from(bytes));
        let put = match self.place.retention.filter(|_| final_one) {
            Some(retention) => {
                let locking = self.locking(retention, clock::now())?;
                locking.put_opts(&path, bytes, PutMode::Create.into()).await
            }
            None => {
                let put = self.bucket.put_opts(&path, bytes, PutMode::Create.into());
                put.await
            }
        };
        outcome(put)
    }

    /// Writes a file over the one that was read.
    pub(super) async fn replace(
        &self,
        log: &LogId,
        file: LogFile,
        bytes: Vec<u8>,
        tag: String,
    ) -> Result<Put, Failed> {
        let mode = PutMode::Update(UpdateVersion {
            e_tag: Some(tag),
            version: None,
        });
        let path = self.path(log, file);
        let put = self.bucket.put_opts(&path, bytes.into(), mode.into());
        outcome(put.await)
    }

    /// A file; nothing if there is none.
    pub(super) async fn get(&self, log: &LogId, file: LogFile) -> Result<Option<Got>, Failed> {
        let got = match self.bucket.get(&self.path(log, file)).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let tag = got.meta.e_tag.clone();
        let bytes = got.bytes().await.map_err(|error| failed(&error))?;
        Ok(Some(Got {
            bytes: bytes.into(),
            tag,
        }))
    }

    /// The headers have a date in them: made anew each day.
    fn locking(&self, retention: Retention, now: Timestamp) -> Result<Arc<AmazonS3>, Failed> {
        let until = until(retention, now);
        let mut locking = self.locking.lock();
        if let Some((made, bucket)) = &*locking
            && *made == until
        {
            return Ok(Arc::clone(bucket));
        }
        let (mode, date) = (mode(retention), date(until));
        let headers = [
            (LOCK_MODE, mode),
            (LOCK_UNTIL, date.as_str()),
            (CHECKSUM, "SHA256"),
        ];
        let builder = self.builder.clone();
        let builder = builder.with_client_options(with_headers(headers));
        let bucket = Arc::new(builder.build().map_err(|error| failed(&error))?);
        *locking = Some((until, Arc::clone(&bucket)));
        Ok(bucket)
    }

    fn path(&self, log: &LogId, file: LogFile) -> Path {
        Path::from(format!("{}/{log}/{file}", self.place.prefix))
    }
}

/// The midnight after so many full days, in days since 1970.
fn until(retention: Retention, now: Timestamp) -> i64 {
    let today = now.as_millis().div_euclid(DAY_MS);
    today
        .saturating_add(i64::from(retention.days))
        .saturating_add(1)
}

fn mode(retention: Retention) -> &'static str {
    match retention.mode {
        RetentionMode::Compliance => "COMPLIANCE",
        RetentionMode::Governance => "GOVERNANCE",
    }
}

fn date(until: i64) -> String {
    let until = Timestamp::from_millis(until.saturating_mul(DAY_MS)).to_string();
    // The store's dates have no fraction of a second.
    until.replace(".000Z", "Z")
}

fn outcome(put: Result<PutResult, Error>) -> Result<Put, Failed> {
    match put {
        Ok(put) => Ok(Put::Made(put.e_tag)),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Exists),
        Err(error) => Err(failed(&error)),
    }
}

/// What the store says is a stranger's text: cut, and without control characters.
fn failed(error: &Error) -> Failed {
    let refused = matches!(
        error,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
    );
    let mut kind = if refused { "refused" } else { "answer" };
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            kind = if matches!(http.kind(), HttpErrorKind::Connect) {
                "connect"
            } else if matches!(http.kind(), HttpErrorKind::Timeout) {
                "time"
            } else {
                "broken"
            };
        }
        source = cause.source();
    }
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    let says = error.to_string().chars().take(SAID).map(plain).collect();
    Failed { kind, says }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_for_at_least_the_days_that_were_asked_for() {
        let retention = Retention {
            days: 30,
            mode: RetentionMode::Compliance,
        };
        let told = |now: &str| date(until(retention, now.parse().unwrap()));
        assert_eq!(told("2027-01-01T00:00:00Z"), "2027-02-01T00:00:00Z");
        assert_eq!(told("2027-01-01T23:59:59Z"), "2027-02-01T00:00:00Z");
        assert_eq!(told("2027-01-02T00:00:00Z"), "2027-02-02T00:00:00Z");
    }
}
