//! `portcullis dialer`: the privileged process, in the foreground.

use std::process::ExitCode;

use super::args::DialerArgs;
use super::exit::Exit;
use super::logging::log_as_json;
use super::output::complain;
use crate::runtime::dialer::server::{Allowed, Options, serve};

/// Serves until it is stopped.
pub(super) fn run(args: DialerArgs) -> ExitCode {
    log_as_json();
    let allowed = if args.allow_any {
        Allowed::Any
    } else {
        Allowed::Only(args.allow.into_iter().collect())
    };
    let options = Options {
        socket: args.socket,
        allowed_uids: args.allow_uid.into_iter().collect(),
        allowed,
        namespaces: args.namespaces,
    };
    match serve(options) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            complain(&format!("error: {error}{cause}"));
            Exit::Error.into()
        }
    }
}
