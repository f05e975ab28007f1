//! `[[audit.witnesses]]`: who is asked to cosign the audit logs.

use std::path::PathBuf;

use portcullis_audit::tlog::{KeyKind, NoteKey};
use portcullis_policy::TenantId;
use toml::Spanned;

use super::{Checker, Fleet, raw};
use crate::config::file_error::quoted;

/// The most witnesses that a node asks.
pub const MAX_WITNESSES: usize = 8;

/// One witness (C2SP tlog-witness).
#[derive(Clone, Debug)]
pub struct Witness {
    /// What it is called in trust policies, logs and metrics; a label.
    pub name: String,
    /// Where it is asked: `http://` or `https://`, without a slash at its end.
    pub url: String,
    /// By which its cosignatures are believed (cosignature/v1, Ed25519).
    pub key: NoteKey,
    /// The authorities in PEM that its certificate is checked with; the system's unless named.
    pub ca: Option<PathBuf>,
}

pub(super) fn check(
    checker: &mut Checker<'_>,
    written: &[Spanned<raw::RawWitness>],
    fleet: Option<&Fleet>,
) -> Vec<Witness> {
    if let Some(first) = written.first()
        && fleet.is_some_and(|fleet| !fleet.roles.control)
    {
        let message = "[[audit.witnesses]] needs the role control: a node without it keeps no audit logs that a witness could cosign";
        checker.complain::<()>(first.span(), message);
    }
    if let Some(excess) = written.get(MAX_WITNESSES) {
        let message = format!("more than {MAX_WITNESSES} witnesses");
        checker.complain::<()>(excess.span(), message);
    }
    let mut witnesses: Vec<Witness> = Vec::with_capacity(written.len());
    for raw in written {
        let Some(witness) = one(checker, raw.get_ref()) else {
            continue;
        };
        let twice = |known: &Witness| {
            known.name == witness.name || known.key.bytes() == witness.key.bytes()
        };
        if witnesses.iter().any(twice) {
            let message = format!(
                "witness {}: its name or its key is another witness's",
                quoted(&witness.name)
            );
            checker.complain::<()>(raw.span(), message);
            continue;
        }
        witnesses.push(witness);
    }
    witnesses
}

fn one(checker: &mut Checker<'_>, raw: &raw::RawWitness) -> Option<Witness> {
    let ca = match &raw.ca {
        Some(ca) => Some(checker.path("ca", ca)?),
        None => None,
    };
    let (name, url, key) = (
        name(checker, &raw.name),
        url(checker, &raw.url),
        key(checker, &raw.key),
    );
    let (name, url, key) = (name?, url?, key?);
    if ca.is_some() && !url.starts_with("https://") {
        let at = raw.ca.as_ref().map(Spanned::span).unwrap_or_default();
        return checker.complain(at, "ca is for a url that begins with https://");
    }
    Some(Witness { name, url, key, ca })
}

fn name(checker: &mut Checker<'_>, written: &Spanned<String>) -> Option<String> {
    let name = written.get_ref();
    // The trust policy calls control nodes w0, w1 and so on, and groups of signers so.
    let digits = name.strip_prefix('w').unwrap_or(name);
    let taken = digits.bytes().all(|byte| byte.is_ascii_digit())
        || ["voters", "none"].contains(&name.as_str());
    if taken || name.parse::<TenantId>().is_err() {
        return checker.complain(
            written.span(),
            format!(
                "witness {}: write a label of your choice, 1 to 63 of a-z, 0-9 and -; w0, w1 and so on, voters and none mean something else in trust policies",
                quoted(name)
            ),
        );
    }
    Some(name.clone())
}

fn url(checker: &mut Checker<'_>, written: &Spanned<String>) -> Option<String> {
    let url = written.get_ref().trim_end_matches('/');
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let usable = |rest: &str| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
            && !rest.contains(['?', '#', '@'])
    };
    if !rest.is_some_and(usable) {
        return checker.complain(
            written.span(),
            format!(
                "url {}: write http:// or https://, a host and where needed a port and a path, like \"http://witness.example:7443\"",
                quoted(written.get_ref())
            ),
        );
    }
    Some(url.to_owned())
}

fn key(checker: &mut Checker<'_>, written: &Spanned<String>) -> Option<NoteKey> {
    let problem = match NoteKey::parse(written.get_ref()) {
        Ok(key) if key.kind() == KeyKind::Cosigner => return Some(key),
        Ok(_) => "it is a log's key, not a witness's".to_owned(),
        Err(error) => error.to_string(),
    };
    checker.complain(
        written.span(),
        format!(
            "key {}: {problem}; write what the witness prints after its name: NAME+NUMBER+KEY",
            quoted(written.get_ref())
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::NodeConfig;
    use std::path::Path;

    fn key(kind: portcullis_audit::tlog::KeyKind) -> String {
        let bytes = [7; 32];
        let key = portcullis_audit::tlog::NoteKey::new("w.example", kind, bytes);
        key.unwrap().to_string()
    }

    fn read(more: &str) -> Result<NodeConfig, String> {
        let text = format!(
            "name = \"n\"\ndata = \"data\"\n[admin]\nsocket = \"s\"\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n\
             [[listener]]\naddress = \"127.0.0.1:5433\"\norigin = \"public\"\n{more}"
        );
        NodeConfig::parse(&text, Path::new("/etc/node.toml")).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            errors.join("\n")
        })
    }

    fn witness(name: &str, url: &str, key: &str) -> String {
        format!("[[audit.witnesses]]\nname = \"{name}\"\nurl = \"{url}\"\nkey = \"{key}\"\n")
    }

    #[test]
    fn a_witness_is_a_name_a_url_and_a_key() {
        let key = key(portcullis_audit::tlog::KeyKind::Cosigner);
        let text = witness("customer", "https://w.example:7443/a/", &key) + "ca = \"ca.pem\"\n";
        let config = read(&text).unwrap();
        let [one] = &config.audit.witnesses[..] else {
            panic!("one")
        };
        assert_eq!(
            (one.name.as_str(), one.url.as_str()),
            ("customer", "https://w.example:7443/a")
        );
        assert_eq!(one.key.to_string(), key);
        assert_eq!(one.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert!(read("").unwrap().audit.witnesses.is_empty());
    }

    #[test]
    fn what_is_no_witness_is_refused_with_what_to_write() {
        let good = key(portcullis_audit::tlog::KeyKind::Cosigner);
        let check = |text: &str, says: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        for name in ["w0", "w", "17", "voters", "none", "", "A", "a b"] {
            check(
                &witness(name, "http://w", &good),
                "write a label of your choice",
            );
        }
        for url in [
            "",
            "w.example",
            "ftp://w",
            "http://",
            "http:///x",
            "http://u@w",
            "http://w?x",
            "http://w#x",
            "http://w x",
        ] {
            check(&witness("c", url, &good), "write http:// or https://");
        }
        for bad in ["", "w.example", &good.replace("w.example", "other")] {
            check(&witness("c", "http://w", bad), "NAME+NUMBER+KEY");
        }
        let log = key(portcullis_audit::tlog::KeyKind::Log);
        check(&witness("c", "http://w", &log), "it is a log's key");
        let twice = witness("c", "http://w", &good) + &witness("d", "http://v", &good);
        check(&twice, "another witness's");
        check(
            &(witness("c", "http://w", &good) + "ca = \"x\"\n"),
            "https://",
        );
        check(
            &(witness("c", "http://w", &good) + "quorum = 1\n"),
            "unknown field",
        );
        let many: String = (0..9)
            .map(|n| witness(&format!("c{n}"), "http://w", &good))
            .collect();
        check(&many, "more than 8 witnesses");
        let gateway = witness("c", "http://w", &good) + "[fleet]\nroles = [\"gateway\"]\n";
        check(&gateway, "needs the role control");
    }
}
