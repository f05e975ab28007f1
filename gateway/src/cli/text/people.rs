//! Operators, and what needs two people, in words.

use std::path::Path;

use super::change::difference;
use super::table::table;
use crate::api::operator_types::{
    ChangedReply, OperatorsReply, PendingChange, PendingReply, Rails, Waiting,
};

/// What waits, and what the second person runs.
pub(in crate::cli) fn waits(pending: &PendingChange) -> String {
    let PendingChange {
        id,
        digest,
        expires,
    } = pending;
    format!(
        "nothing is changed yet: this needs a second person, until {expires}\nnext: another operator runs `portcullis pending` and `portcullis approve {id} --digest {digest}`\n"
    )
}

/// A change that was made, or waits.
pub(in crate::cli) fn changed(reply: &ChangedReply) -> String {
    match &reply.pending {
        Some(pending) => waits(pending),
        None => format!("done; revision {}\n", reply.revision),
    }
}

/// An operator who was made.
pub(in crate::cli) fn added(name: &str, reply: &ChangedReply, out: Option<&Path>) -> String {
    if let Some(pending) = &reply.pending {
        let mut text = waits(pending);
        text.push_str("then run this command again for the certificate\n");
        return text;
    }
    let until = reply.until.as_deref().unwrap_or_default();
    match (&reply.certificate, out) {
        (None, _) => changed(reply),
        (Some(chain), None) => chain.clone(),
        (Some(_), Some(directory)) => format!(
            "{name} is known by the key and certificate in {0}, until {until}\nnext: portcullis status --node HOST:PORT --identity {0}\n",
            directory.display()
        ),
    }
}

/// Everybody, one to a line.
pub(in crate::cli) fn operators(reply: &OperatorsReply) -> String {
    if reply.operators.is_empty() {
        return "no operators: the fleet is commanded on its nodes' own machines only\n".to_owned();
    }
    let mut rows = vec![["operator", "roles", "tenants"].map(str::to_owned).to_vec()];
    rows.extend(
        reply
            .operators
            .iter()
            .map(|one| vec![one.name.clone(), one.roles.join(","), one.tenants.join(",")]),
    );
    table(&rows)
}

/// What waits, each with what it would change.
pub(in crate::cli) fn pending(reply: &PendingReply) -> String {
    if reply.pending.is_empty() {
        return "nothing waits for a second person\n".to_owned();
    }
    reply.pending.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(waiting: &Waiting) -> String {
    let PendingChange {
        id,
        digest,
        expires,
    } = &waiting.change;
    let mut out = format!(
        "{id}  {} by {}, until {expires}\n",
        waiting.kind, waiting.author
    );
    match (&waiting.refused, &waiting.difference, &*waiting.kind) {
        (Some(refused), _, _) => {
            out.push_str(&format!("as things stand it would be refused: {refused}\n"));
        }
        (None, Some(reachability), "apply") => difference(&mut out, reachability),
        (None, _, _) => out.push_str(&format!("{}\n", waiting.command)),
    }
    out.push_str(&format!("portcullis approve {id} --digest {digest}\n"));
    out
}

/// What needs two people.
pub(in crate::cli) fn rails(rails: &Rails) -> String {
    let people = |two| if two { "two people" } else { "one person" };
    format!(
        "an entry for everyone      {}\na change of operators      {}\na change of these          {}\n",
        people(rails.anywhere),
        people(rails.operators),
        people(rails.guard_rails)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_says_what_the_second_person_runs() {
        let pending = PendingChange {
            id: 812,
            digest: "5e88".to_owned(),
            expires: "2027-01-02T08:00:00Z".to_owned(),
        };
        let text = waits(&pending);
        assert!(text.starts_with("nothing is changed yet"), "{text}");
        assert!(
            text.contains("portcullis approve 812 --digest 5e88"),
            "{text}"
        );
        let reply = ChangedReply {
            revision: 811,
            pending: Some(pending),
            certificate: None,
            authority: None,
            until: None,
        };
        assert!(added("paul", &reply, None).contains("run this command again"));
    }
}
