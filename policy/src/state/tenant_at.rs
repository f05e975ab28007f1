//! A tenant as it travels and as it is written down.

use crate::id::Revision;
use crate::revocations::Revocations;
use crate::tenant::Tenant;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A tenant's document, when it last changed, and what is revoked of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAt {
    /// The revision at which the document last changed.
    pub revision: Revision,
    /// The document.
    pub document: Tenant,
    /// The certificates of its clients that no longer count.
    pub revoked: Revocations,
}

/// As people and tools see it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    revision: Revision,
    document: Tenant,
    #[serde(default, skip_serializing_if = "Revocations::is_empty")]
    revoked: Revocations,
}

/// What stands in the place of the revision, which never comes so far, where something is revoked: then all three parts follow. Where
/// nothing is, the bytes are those that were always written. A version that does not know this refuses the bytes;
/// [`Command::required_level`](crate::Command::required_level) keeps them from it.
const WITH_REVOKED: u64 = u64::MAX;

impl Serialize for TenantAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            revision,
            document,
            revoked,
        } = self;
        if serializer.is_human_readable() {
            let written = Written {
                revision: *revision,
                document: document.clone(),
                revoked: revoked.clone(),
            };
            return written.serialize(serializer);
        }
        if revoked.is_empty() {
            return (revision, document).serialize(serializer);
        }
        let mut parts = serializer.serialize_tuple(4)?;
        parts.serialize_element(&WITH_REVOKED)?;
        parts.serialize_element(revision)?;
        parts.serialize_element(document)?;
        parts.serialize_element(revoked)?;
        parts.end()
    }
}

impl<'de> Deserialize<'de> for TenantAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_tuple(4, Parts);
        }
        let Written {
            revision,
            document,
            revoked,
        } = Written::deserialize(deserializer)?;
        Ok(Self {
            revision,
            document,
            revoked,
        })
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = TenantAt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tenant at a revision")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<TenantAt, A::Error> {
        let first: u64 = next(&mut parts)?;
        if first != WITH_REVOKED {
            return Ok(TenantAt {
                revision: Revision::new(first),
                document: next(&mut parts)?,
                revoked: Revocations::default(),
            });
        }
        let (revision, document) = (next(&mut parts)?, next(&mut parts)?);
        let revoked: Revocations = next(&mut parts)?;
        // What has one meaning has one spelling.
        match revoked.is_empty() {
            true => Err(de::Error::custom("nothing is revoked where it is said so")),
            false => Ok(TenantAt {
                revision,
                document,
                revoked,
            }),
        }
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(parts: &mut A) -> Result<T, A::Error> {
    let part = parts.next_element()?;
    part.ok_or_else(|| de::Error::custom("a part is missing"))
}
