//! Names within names, as they are typed: an endpoint of a tenant, a cluster of one.

use std::fmt;
use std::str::FromStr;

use portcullis_policy::{ClusterId, EndpointId, TenantId};

/// `TENANT/ENDPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPath {
    /// The tenant.
    pub tenant: TenantId,
    /// Its endpoint.
    pub endpoint: EndpointId,
}

impl FromStr for EndpointPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (tenant, endpoint) = text
            .split_once('/')
            .ok_or(PathError::Shape("TENANT/ENDPOINT, like acme/orders"))?;
        Ok(Self {
            tenant: part(tenant)?,
            endpoint: part(endpoint)?,
        })
    }
}

/// `TENANT` or `TENANT/CLUSTER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPath {
    /// The tenant.
    pub tenant: TenantId,
    /// One of its clusters, or all of them.
    pub cluster: Option<ClusterId>,
}

impl FromStr for ClusterPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        match text.split_once('/') {
            None => Ok(Self {
                tenant: part(text)?,
                cluster: None,
            }),
            Some((tenant, cluster)) => Ok(Self {
                tenant: part(tenant)?,
                cluster: Some(part(cluster)?),
            }),
        }
    }
}

/// The text is not a path of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It has another shape than this one.
    Shape(&'static str),
    /// A name in it is not a name.
    Name(String),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(shape) => write!(f, "write {shape}"),
            Self::Name(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for PathError {}

fn part<T>(text: &str) -> Result<T, PathError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| PathError::Name(error.to_string()))
}
