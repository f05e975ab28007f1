//! Who may command this node, and how they are named in evidence.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use crate::http::{Caller, Peer};

/// The users whose processes may use the admin socket: root, the node's own user, and those that
/// its configuration names.
#[derive(Clone, Debug)]
pub struct Commanders {
    own: u32,
    allowed: BTreeSet<u32>,
}

impl Commanders {
    /// Root, this process's own effective user, and `allowed`.
    #[must_use]
    pub fn new(allowed: BTreeSet<u32>) -> Self {
        Self {
            own: rustix::process::geteuid().as_raw(),
            allowed,
        }
    }

    /// The caller, if they may command.
    #[must_use]
    pub fn recognise(&self, peer: &Peer) -> Option<Caller> {
        match peer {
            Peer::Local(caller) if self.may(caller.uid) => Some(*caller),
            Peer::Local(_) | Peer::Remote(_) | Peer::Operator(_) => None,
        }
    }

    fn may(&self, uid: u32) -> bool {
        uid == ROOT || uid == self.own || self.allowed.contains(&uid)
    }
}

const ROOT: u32 = 0;

/// A caller as evidence names them: `uid 1000 (ada)`. The login name is what this machine's
/// `/etc/passwd` says; a user of another source (LDAP) goes by the number alone.
#[must_use]
pub fn author(caller: Caller) -> String {
    let name = read_passwd().and_then(|passwd| login_name(&passwd, caller.uid));
    name.map_or_else(
        || format!("uid {}", caller.uid),
        |name| format!("uid {} ({name})", caller.uid),
    )
}

/// Bytes of `/etc/passwd` that are read.
const MAX_PASSWD: u64 = 1024 * 1024;

fn read_passwd() -> Option<String> {
    let mut text = String::new();
    File::open("/etc/passwd")
        .ok()?
        .take(MAX_PASSWD)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// passwd(5): `name:password:UID:…`.
fn login_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer::Local(Caller {
            uid,
            gid: 0,
            pid: None,
        })
    }

    #[test]
    fn root_the_own_user_and_named_users_may_command_and_nobody_else() {
        let commanders = Commanders {
            own: 998,
            allowed: [1000].into(),
        };
        for uid in [0, 998, 1000] {
            assert!(commanders.recognise(&peer(uid)).is_some(), "{uid}");
        }
        for uid in [1, 997, 999, 1001, u32::MAX] {
            assert!(commanders.recognise(&peer(uid)).is_none(), "{uid}");
        }
    }

    #[test]
    fn nobody_commands_over_a_network() {
        let commanders = Commanders {
            own: 0,
            allowed: BTreeSet::new(),
        };
        assert!(
            commanders
                .recognise(&Peer::Remote(([127, 0, 0, 1], 4000).into()))
                .is_none()
        );
    }

    #[test]
    fn a_login_name_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\nbroken\n";
        assert_eq!(login_name(passwd, 1000), Some("ada".to_owned()));
        assert_eq!(login_name(passwd, 100), None);
    }
}
