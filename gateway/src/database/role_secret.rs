//! What a database says of a role, and whether one can sign in with it.

use std::fmt;

use portcullis_policy::Timestamp;
use tokio_postgres::Row;
use zeroize::Zeroizing;

/// What a database knows of a role. The verifier is wiped from memory when it is dropped, and
/// `Debug` hides it.
pub struct RoleSecret {
    secret: Secret,
    /// The moment from which on its password no longer counts (`VALID UNTIL`).
    pub valid_until: Option<Timestamp>,
    /// Whether it has `LOGIN`.
    pub can_login: bool,
}

enum Secret {
    Scram(Zeroizing<String>),
    Withheld(Withheld),
}

impl RoleSecret {
    /// The SCRAM verifier if one can sign in with it at `at`.
    ///
    /// # Errors
    /// [`Unusable`]; the client must then see the same exchange as for an unknown role.
    pub fn usable(&self, at: Timestamp) -> Result<&str, Unusable> {
        let verifier = match &self.secret {
            Secret::Scram(verifier) => verifier.as_str(),
            Secret::Withheld(why) => return Err(Unusable::Withheld(*why)),
        };
        if !self.can_login {
            return Err(Unusable::CannotLogIn);
        }
        match self.valid_until {
            Some(until) if until <= at => Err(Unusable::Expired(until)),
            Some(_) | None => Ok(verifier),
        }
    }

    /// The SCRAM verifier, usable or not; `None` if the database withheld it.
    #[must_use]
    pub fn verifier(&self) -> Option<&str> {
        match &self.secret {
            Secret::Scram(verifier) => Some(verifier),
            Secret::Withheld(_) => None,
        }
    }

    /// Why the database gave no verifier, if it gave none.
    #[must_use]
    pub fn withheld(&self) -> Option<Withheld> {
        match &self.secret {
            Secret::Scram(_) => None,
            Secret::Withheld(why) => Some(*why),
        }
    }

    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let verifier: Option<String> = row.try_get(0)?;
        let valid_until: Option<i64> = row.try_get(1)?;
        let withheld: Option<&str> = row.try_get(3)?;
        Ok(Self {
            secret: match (verifier, withheld) {
                (Some(verifier), None) => Secret::Scram(Zeroizing::new(verifier)),
                (_, why) => Secret::Withheld(Withheld::parse(why.unwrap_or_default())),
            },
            valid_until: valid_until.map(Timestamp::from_millis),
            can_login: row.try_get(2)?,
        })
    }
}

impl fmt::Debug for RoleSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleSecret")
            .field("withheld", &self.withheld())
            .field("valid_until", &self.valid_until)
            .field("can_login", &self.can_login)
            .finish_non_exhaustive()
    }
}

/// Why nobody signs in as a role that exists. Its reason is a stable word for audit events; no
/// client is ever told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It has no `LOGIN`.
    CannotLogIn,
    /// Its `VALID UNTIL` has come.
    Expired(Timestamp),
    /// `setup.sql`'s function does not give its verifier out.
    Withheld(Withheld),
}

impl Unusable {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CannotLogIn | Self::Withheld(Withheld::CannotLogIn) => "role_cannot_log_in",
            Self::Expired(_) => "role_expired",
            Self::Withheld(Withheld::Superuser) => "role_is_superuser",
            Self::Withheld(Withheld::Replication) => "role_may_replicate",
            Self::Withheld(Withheld::Reserved) => "role_is_reserved",
            Self::Withheld(Withheld::NoPassword) => "role_has_no_password",
            Self::Withheld(Withheld::NotScram) => "role_password_not_scram",
            Self::Withheld(Withheld::Other) => "role_withheld",
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotLogIn => f.write_str("the role has no LOGIN"),
            Self::Expired(until) => write!(f, "the role's password was valid until {until}"),
            Self::Withheld(why) => why.fmt(f),
        }
    }
}

/// Why a database gives out no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// A superuser does not come through this door.
    Superuser,
    /// A role with `REPLICATION` that is not a member of `portcullis_replication`.
    Replication,
    /// A system role, or our own.
    Reserved,
    /// It has no `LOGIN`.
    CannotLogIn,
    /// It has no password.
    NoPassword,
    /// Its password is stored as md5.
    NotScram,
    /// A reason that this version does not know.
    Other,
}

impl Withheld {
    fn parse(word: &str) -> Self {
        match word {
            "superuser" => Self::Superuser,
            "replication" => Self::Replication,
            "reserved" => Self::Reserved,
            "cannot_log_in" => Self::CannotLogIn,
            "no_password" => Self::NoPassword,
            "not_scram" => Self::NotScram,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superuser => "superusers do not sign in through the gateway",
            Self::Replication => {
                "the role has REPLICATION; GRANT portcullis_replication TO it if it shall sign in \
                 through the gateway"
            }
            Self::Reserved => "the role is reserved",
            Self::CannotLogIn => "the role has no LOGIN",
            Self::NoPassword => "the role has no password",
            Self::NotScram => {
                "the role's password is not stored for SCRAM; set password_encryption = \
                 'scram-sha-256' and set the password again"
            }
            Self::Other => "the database withholds the role's verifier",
        })
    }
}

#[cfg(test)]
impl RoleSecret {
    pub(super) fn scram(verifier: &str, valid_until: Option<Timestamp>) -> Self {
        let secret = Secret::Scram(Zeroizing::new(verifier.to_owned()));
        Self {
            secret,
            valid_until,
            can_login: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_valid_until_its_moment_and_not_at_it() {
        let secret = RoleSecret::scram("v", Some(Timestamp::from_millis(1_000)));
        assert_eq!(secret.usable(Timestamp::from_millis(999)), Ok("v"));
        let expired = secret.usable(Timestamp::from_millis(1_000)).unwrap_err();
        assert_eq!(expired.reason(), "role_expired");
    }

    #[test]
    fn debug_output_has_no_verifier_in_it() {
        assert!(
            !format!(
                "{:?}",
                RoleSecret::scram("SCRAM-SHA-256$4096:c2FsdA==$x:y", None)
            )
            .contains("SCRAM")
        );
    }
}
