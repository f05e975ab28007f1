//! `audit keep`, `audit hold`, `audit release`: for how long the logs are kept, as the fleet decided it.

use crate::api::keeping::{HeldFor, KeepingReply, KeepingRequest, Kept};
use crate::api::operator_types::ChangedReply;
use crate::cli::ask::{Failure, Node, Said};
use crate::cli::exit::Exit;
use crate::cli::keeping_args::{HoldArgs, KeepArgs, KeptFor, ReleaseArgs};
use crate::cli::operator::changed;

const PATH: &str = "/v1/audit/keeping";

/// Shows what is set, or sets what is named.
pub(in crate::cli) async fn keep(args: KeepArgs) -> Exit {
    let node = Node::of(&args.node);
    if args.entries.is_none() && args.personal.is_none() {
        return match node.get::<KeepingReply>(PATH).await {
            Ok(said) => {
                node.print(&said, shown);
                Exit::Done
            }
            Err(failure) => node.fail(&failure),
        };
    }
    let set = set(&node, |kept| {
        if let Some(KeptFor(seconds)) = args.entries {
            kept.entries = seconds;
        }
        if let Some(KeptFor(seconds)) = args.personal {
            kept.personal = seconds;
        }
        Ok(())
    });
    changed(&node, set.await)
}

/// A hold more.
pub(in crate::cli) async fn hold(args: HoldArgs) -> Exit {
    let node = Node::of(&args.node);
    let set = set(&node, |kept| {
        kept.holds.push(HeldFor {
            name: args.name.to_string(),
            tenant: args.tenant.as_ref().map(ToString::to_string),
            reason: args.reason.clone(),
        });
        Ok(())
    });
    changed(&node, set.await)
}

/// A hold less.
pub(in crate::cli) async fn release(args: ReleaseArgs) -> Exit {
    let node = Node::of(&args.node);
    let name = args.name.to_string();
    let set = set(&node, |kept| {
        let before = kept.holds.len();
        kept.holds.retain(|hold| hold.name != name);
        match kept.holds.len() == before {
            true => Err(format!(
                "there is no legal hold {name}: `portcullis audit keep` lists them"
            )),
            false => Ok(()),
        }
    });
    changed(&node, set.await)
}

/// Changes what is set now, and nothing that somebody else set meanwhile.
async fn set(
    node: &Node,
    change: impl FnOnce(&mut Kept) -> Result<(), String>,
) -> Result<Said<ChangedReply>, Failure> {
    let KeepingReply { mut kept, digest } = node.get::<KeepingReply>(PATH).await?.value;
    change(&mut kept).map_err(Failure::Local)?;
    let replaces = Some(digest);
    node.post(PATH, &KeepingRequest { kept, replaces }).await
}

fn shown(reply: &KeepingReply) -> String {
    let Kept {
        entries,
        personal,
        holds,
    } = &reply.kept;
    let mut text = format!(
        "entries                {}\nwhat opens persons     {}\n",
        KeptFor(*entries).text(),
        KeptFor(*personal).text()
    );
    for HeldFor {
        name,
        tenant,
        reason,
    } in holds
    {
        let log = tenant.as_deref().unwrap_or("all logs");
        text.push_str(&format!("hold {name} ({log}): {reason}\n"));
    }
    text
}
