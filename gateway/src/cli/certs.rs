//! `certs`: what certificates there are, and exchanging the fleet's authority for another.

use clap::{Args, Subcommand};
use tokio::time::sleep;

use super::args::NodeArgs;
use super::ask::{Failure, Node, Said};
use super::exit::Exit;
use super::output::{complain, printable};
use crate::api::certificates::{AuthorityReply, CertificatesReply, RotateRequest};
use crate::api::operator_types::ChangedReply;
use crate::runtime::clock::{self, Duration};

/// Commands about certificates.
#[derive(Subcommand, Clone, Debug)]
pub enum CertsCommand {
    /// Show the authorities and the certificates that a node shows: for whom, from which authority, until when
    List(ListArgs),
    /// Exchange the fleet's authority for a new one, without closing a connection, or take that back
    Rotate(RotateArgs),
}

/// `certs list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `certs rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// Go back to the authority that was: possible until the new one has taken its place
    #[arg(long)]
    pub roll_back: bool,
    /// Seconds to wait for every node to follow; the exchange goes on without anybody who waits
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub wait: u64,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

const LIST: &str = "/v1/certificates";
const ROTATE: &str = "/v1/certificates/authority";
/// Between two looks how far it is.
const LOOK: Duration = Duration::from_millis(500);
const SETTLED: &str = "settled";

/// Shows them.
pub(super) async fn list(args: ListArgs) -> Exit {
    let node = Node::of(&args.node);
    match node.get::<CertificatesReply>(LIST).await {
        Ok(said) => {
            node.print(&said, shown);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Begins, and waits for every node.
pub(super) async fn rotate(args: RotateArgs) -> Exit {
    let node = Node::of(&args.node);
    let asked = RotateRequest {
        roll_back: args.roll_back,
    };
    if let Err(failure) = node.post_once::<_, ChangedReply>(ROTATE, &asked).await {
        return node.fail(&failure);
    }
    let deadline = clock::instant() + Duration::from_secs(args.wait);
    let mut waiting = String::new();
    loop {
        let said = match look(&node).await {
            Ok(said) => said,
            Err(failure) => return node.fail(&failure),
        };
        let authority = said.value.authorities.first();
        if authority.is_none_or(|it| it.phase == SETTLED) {
            node.print(&said, shown);
            return Exit::Done;
        }
        let now = authority.map(progress).unwrap_or_default();
        if now != waiting {
            complain(&printable(&now));
            waiting = now;
        }
        if clock::instant() >= deadline {
            node.print(&said, shown);
            complain(
                "not every node has followed; the exchange goes on by itself once they can: see `portcullis certs list`, or take it back with `portcullis certs rotate --roll-back`",
            );
            return Exit::Unfinished;
        }
        sleep(LOOK).await;
    }
}

async fn look(node: &Node) -> Result<Said<CertificatesReply>, Failure> {
    node.get(LIST).await
}

fn progress(authority: &AuthorityReply) -> String {
    let waits: Vec<&str> = authority
        .waits_for
        .iter()
        .map(|it| it.node.as_str())
        .collect();
    match waits.is_empty() {
        true => authority.phase.clone(),
        false => format!("{}: waits for {}", authority.phase, waits.join(", ")),
    }
}

fn shown(reply: &CertificatesReply) -> String {
    let mut lines = Vec::new();
    for authority in &reply.authorities {
        let short = short(&authority.sha256);
        lines.push(format!(
            "authority {short} ({}), until {}: {}",
            authority.purpose, authority.until, authority.phase
        ));
        if let Some(next) = &authority.next {
            let issues = if authority.next_issues {
                ", issues now"
            } else {
                ""
            };
            lines.push(format!(
                "  next: {}, until {}{issues}",
                self::short(&next.sha256),
                next.until
            ));
        }
        for waits in &authority.waits_for {
            let problem = waits.problem.as_ref().map(|it| format!(": {it}"));
            let problem = problem.unwrap_or_default();
            lines.push(format!("  waits for {}{problem}", waits.node));
        }
    }
    for certificate in &reply.certificates {
        let from = certificate.authority.as_ref();
        let from = from.map(|it| format!(", from {}", short(it)));
        lines.push(format!(
            "{} {}, until {}{}",
            certificate.purpose,
            certificate.name,
            certificate.until,
            from.unwrap_or_default()
        ));
    }
    printable(&lines.join("\n"))
}

/// As much of a hash as tells two authorities apart.
fn short(sha256: &str) -> &str {
    sha256.get(..16).unwrap_or(sha256)
}
