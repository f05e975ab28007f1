//! The bodies of the fuzz targets `policy_files` and `node_file`: what people write, and what is said about mistakes.

use std::path::Path;

use portcullis_policy::TenantId;

use crate::config::FileError;
use crate::config::node::{MAX_LISTENERS, NodeConfig};
use crate::config::policy_files::{MAX_POLICY_ERRORS, PolicyFiles, parse, render};

/// Files of two tenants, divided by a NUL (which neither may contain), with what they refer to beside them.
pub(crate) fn policy_files(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let attached = ATTACHED.iter().filter(|(path, _)| text.contains(path));
    let files = text
        .split('\0')
        .take(2)
        .map(|text| (file_name(text), text.to_owned()))
        .chain(attached.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())))
        .collect();
    let files = PolicyFiles { files };
    let tenants = match parse(&files) {
        Ok(tenants) => tenants,
        Err(errors) => {
            return told(&errors, MAX_POLICY_ERRORS, |name| {
                files.files.get(name).map(String::as_str)
            });
        }
    };
    let rendered = PolicyFiles {
        files: tenants
            .iter()
            .map(|tenant| (format!("{}.yaml", tenant.id), render(tenant)))
            .collect(),
    };
    for tenant in &tenants {
        assert_eq!(tenant.validate(), Ok(()));
    }
    match parse(&rendered) {
        Ok(again) => assert_eq!(again, tenants),
        Err(errors) => panic!("{}\n{:?}", errors[0], rendered.files),
    }
}

/// The name that the file must have by what stands behind its first `tenant:`, if that can be one.
fn file_name(text: &str) -> String {
    let id = text
        .split_once("tenant: ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .filter(|word| word.parse::<TenantId>().is_ok());
    format!("{}.yaml", id.unwrap_or("acme"))
}

/// A node's file.
pub(crate) fn node_file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let path = Path::new("/etc/portcullis/node.toml");
    match NodeConfig::parse(text, path) {
        Ok(config) => {
            assert!((1..=MAX_LISTENERS).contains(&config.listeners.len()));
            assert!(!config.certificates.is_empty());
            assert!(config.data.is_absolute() && config.admin.socket.is_absolute());
        }
        Err(errors) => told(&errors, MAX_POLICY_ERRORS, |name| {
            (Path::new(name) == path).then_some(text)
        }),
    }
}

/// Every mistake says where it stands, in text that can be shown.
fn told<'t>(errors: &[FileError], most: usize, text: impl Fn(&str) -> Option<&'t str>) {
    assert!((1..=most).contains(&errors.len()));
    for error in errors {
        assert!(!error.message.is_empty());
        let shown = error.to_string();
        assert!(shown.len() <= MAX_SHOWN, "{} bytes: {shown}", shown.len());
        assert!(
            !shown.replace('\n', "").chars().any(char::is_control),
            "{shown:?}"
        );
        let (Some(line), Some(column)) = (error.line, error.column) else {
            assert_eq!((error.line, error.column), (None, None));
            continue;
        };
        let text = text(&error.file).expect("the error's file is one of those read");
        let in_line = text.split('\n').nth(line - 1).map(|it| it.chars().count());
        // One past the end: what is missing there.
        assert!(
            in_line.is_some_and(|width| (1..=width + 1).contains(&column)),
            "{shown}"
        );
    }
}

/// A message, and a line of the file around the mistake.
const MAX_SHOWN: usize = 16 * 1024;

/// What tenants' files can refer to.
const ATTACHED: [(&str, &str); 4] = [
    ("ca/acme-db.pem", PEM),
    ("ca/acme-clients.pem", PEM),
    ("attached/ca.pem", PEM),
    ("keys/acme.json", KEYS),
];
const PEM: &str = include_str!("../../testdata/policy-good/ca/acme-db.pem");
const KEYS: &str = include_str!("../../testdata/policy-good/keys/acme.json");
