//! `revoke`, `revocations`.

use std::path::Path;

use portcullis_certs::{Validity, first_certificate, serial_number};
use portcullis_policy::{Serial, Timestamp};

use super::ask::{Failure, Node};
use super::exit::Exit;
use super::policy::{applied, request_id};
use super::revoke_args::{RevocationsArgs, RevokeArgs};
use super::text::table::table;
use crate::api::revocations::{RevocationsReply, RevokeRequest, Wish};
use crate::api::types::ApplyReply;

/// Revokes a certificate, or takes that back.
pub(super) async fn revoke(args: RevokeArgs) -> Exit {
    let node = Node::of(&args.node);
    let said = match request(args) {
        Ok(request) => {
            node.post_once::<_, ApplyReply>("/v1/revocations", &request)
                .await
        }
        Err(failure) => Err(failure),
    };
    applied(&node, said, true)
}

fn request(args: RevokeArgs) -> Result<RevokeRequest, Failure> {
    let named = match (args.serial, &args.certificate) {
        (Some(serial), _) => Some((serial, None)),
        (None, Some(file)) => Some(read(file).map_err(Failure::Local)?),
        (None, None) => None,
    };
    let (serial, until) =
        named.ok_or_else(|| Failure::Local("name a serial number or a certificate".to_owned()))?;
    let wanted = match args.why {
        Some(reason) => Wish::Revoke {
            reason,
            until: until.map(|until| until.to_string()),
        },
        None => Wish::TakeBack,
    };
    Ok(RevokeRequest {
        tenant: args.tenant.to_string(),
        serial: serial.to_string(),
        wanted,
        request: Some(request_id()),
    })
}

/// The serial number of the certificate in a file, and when it ends.
fn read(file: &Path) -> Result<(Serial, Option<Timestamp>), String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let leaf = first_certificate(&text).map_err(|error| format!("{name}: {error}"))?;
    let serial = serial_number(&leaf).and_then(|bytes| Serial::of(&bytes));
    let serial =
        serial.ok_or_else(|| format!("{name}: its serial number is longer than any may be"))?;
    // The last second of the period is still good.
    let end = |it: Validity| it.not_after.saturating_add(1).saturating_mul(1000);
    let until = Validity::of(&leaf).map(|it| Timestamp::from_millis(end(it)));
    Ok((serial, until))
}

/// Lists them.
pub(super) async fn revocations(args: RevocationsArgs) -> Exit {
    let node = Node::of(&args.node);
    let target = match &args.tenant {
        Some(tenant) => format!("/v1/revocations?tenant={tenant}"),
        None => "/v1/revocations".to_owned(),
    };
    match node.get::<RevocationsReply>(&target).await {
        Ok(said) => {
            node.print(&said, listed);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

fn listed(reply: &RevocationsReply) -> String {
    if reply.revoked.is_empty() {
        return format!("nothing is revoked at revision {}\n", reply.revision);
    }
    let head = ["tenant", "serial", "revoked", "by", "ends", "why"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(reply.revoked.iter().map(|one| {
        vec![
            one.tenant.clone(),
            one.serial.clone(),
            one.at.clone(),
            one.author.clone(),
            one.until.clone().unwrap_or_else(|| "unknown".to_owned()),
            one.reason.clone(),
        ]
    }));
    table(&rows)
}
