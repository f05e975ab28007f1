//! How an attempt arrived: never an address alone, because two tenants may both use 10.0.0.0/16.

use crate::id::{NameError, NameProblem, NetworkId};
use crate::text::serde_as_text;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A door, as we established it from the listener (and, for private links, from a trusted load balancer's typed id).
/// Text: `public`, `network:ID`, `private-link:CLOUD:ID`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The internet.
    Public,
    /// A peered network: a tenant's VPC.
    Network(NetworkId),
    /// A tenant's one-way attachment, named by the cloud's typed id.
    PrivateLink(PrivateLinkId),
}

impl FromStr for Origin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "public" {
            Ok(Self::Public)
        } else if let Some(id) = text.strip_prefix("network:") {
            NetworkId::parse(id).map(Self::Network)
        } else if let Some(id) = text.strip_prefix("private-link:") {
            id.parse().map(Self::PrivateLink)
        } else {
            Err(NameError::new(
                "an origin (public, network:ID or private-link:CLOUD:ID)",
                text,
                NameProblem::Kind,
            ))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Network(id) => write!(f, "network:{id}"),
            Self::PrivateLink(id) => write!(f, "private-link:{id}"),
        }
    }
}

serde_as_text!(
    Origin,
    "an origin: public, network:ID or private-link:CLOUD:ID"
);

/// A private link's id, typed by its cloud, so that "123" of one never equals "123" of another.
/// Text: `aws:vpce-08d2bf15fac5001c9`, `azure:123`, `gcp:123`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrivateLinkId {
    /// A VPC endpoint (PROXY v2 TLV 0xEA, subtype 1).
    Aws(AwsEndpointId),
    /// A link identifier (PROXY v2 TLV 0xEE, subtype 1).
    Azure(u32),
    /// A Private Service Connect connection id (PROXY v2 TLV 0xE0).
    Gcp(u64),
}

impl PrivateLinkId {
    /// An AWS VPC endpoint by its id: 1 to 64 letters, digits and hyphens, compared exactly.
    ///
    /// # Errors
    /// [`NameError`] when the text is no such id.
    pub fn aws(id: &str) -> Result<Self, NameError> {
        AwsEndpointId::parse(id).map(Self::Aws)
    }

    /// The cloud that gave the id.
    #[must_use]
    pub fn cloud(&self) -> Cloud {
        match self {
            Self::Aws(_) => Cloud::Aws,
            Self::Azure(_) => Cloud::Azure,
            Self::Gcp(_) => Cloud::Gcp,
        }
    }
}

impl FromStr for PrivateLinkId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |problem| {
            NameError::new(
                "a private link id (aws:ID, azure:NUMBER or gcp:NUMBER)",
                text,
                problem,
            )
        };
        let Some((cloud, id)) = text.split_once(':') else {
            return Err(fail(NameProblem::Kind));
        };
        match cloud.parse() {
            Ok(Cloud::Aws) => Self::aws(id),
            Ok(Cloud::Azure) => plain_number(id)
                .map(Self::Azure)
                .ok_or_else(|| fail(NameProblem::Number)),
            Ok(Cloud::Gcp) => plain_number(id)
                .map(Self::Gcp)
                .ok_or_else(|| fail(NameProblem::Number)),
            Err(_) => Err(fail(NameProblem::Kind)),
        }
    }
}

impl fmt::Display for PrivateLinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws(id) => write!(f, "aws:{id}"),
            Self::Azure(id) => write!(f, "azure:{id}"),
            Self::Gcp(id) => write!(f, "gcp:{id}"),
        }
    }
}

serde_as_text!(
    PrivateLinkId,
    "a private link id: aws:ID, azure:NUMBER or gcp:NUMBER"
);

/// The id of an AWS VPC endpoint. Only [`PrivateLinkId::aws`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AwsEndpointId(Arc<str>);

impl AwsEndpointId {
    fn parse(id: &str) -> Result<Self, NameError> {
        const MAX_AWS_ID: usize = 64;
        let fail = |problem| NameError::new("an AWS VPC endpoint id", id, problem);
        if id.is_empty() {
            return Err(fail(NameProblem::Empty));
        }
        if id.len() > MAX_AWS_ID {
            return Err(fail(NameProblem::TooLong(MAX_AWS_ID)));
        }
        match id.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            Some(stranger) => Err(fail(NameProblem::Character(stranger))),
            None => Ok(Self(Arc::from(id))),
        }
    }

    /// The id as AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AwsEndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The clouds whose private links are understood. Text: `aws`, `azure`, `gcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cloud {
    /// Amazon Web Services.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Cloud.
    Gcp,
}

impl FromStr for Cloud {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "aws" => Ok(Self::Aws),
            "azure" => Ok(Self::Azure),
            "gcp" => Ok(Self::Gcp),
            _ => Err(NameError::new(
                "a cloud (aws, azure or gcp)",
                text,
                NameProblem::Kind,
            )),
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
        })
    }
}

serde_as_text!(Cloud, "a cloud: aws, azure or gcp");

/// A decimal number in its only spelling: no sign, no leading zero.
fn plain_number<N: FromStr + ToString>(text: &str) -> Option<N> {
    text.parse::<N>()
        .ok()
        .filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_survive_their_text() {
        for text in [
            "public",
            "network:acme-vpc",
            "network:aws/vpc-0a1b",
            "private-link:aws:vpce-08d2bf15fac5001c9",
            "private-link:azure:0",
            "private-link:azure:4294967295",
            "private-link:gcp:18446744073709551615",
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn origins_have_one_spelling() {
        for bad in [
            "",
            "Public",
            " public",
            "any",
            "network",
            "network:",
            "network:Acme",
            "private-link:",
            "private-link:vpce-1",
            "private-link:aws:",
            "private-link:aws:vpce/1",
            "private-link:azure:+1",
            "private-link:azure:01",
            "private-link:azure:4294967296",
            "private-link:gcp:-1",
            "private-link:ibm:1",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
        let long = "v".repeat(65);
        assert!(PrivateLinkId::aws(&long).is_err());
    }

    #[test]
    fn the_same_number_in_two_clouds_is_two_links() {
        let azure: PrivateLinkId = "azure:123".parse().unwrap();
        let gcp: PrivateLinkId = "gcp:123".parse().unwrap();
        let aws: PrivateLinkId = "aws:123".parse().unwrap();
        assert!(azure != gcp && gcp != aws && aws != azure);
    }
}
