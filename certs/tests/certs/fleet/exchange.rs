//! One authority in the place of another: who is believed meanwhile, by whom, and for how long.

use portcullis_certs::fleet::{
    Believable, Caller, FleetAuthority, FleetTrust, FleetTrustError, Joining, NotRenewed,
    api_client_config, api_server_config, mesh_client_config, mesh_server_config,
};
use portcullis_certs::generate_key;

use super::{FLEET, OTHER_FLEET, fleet, node, node_and_key, operator, refused, shake, week};
use crate::support::LONG;

struct Exchange {
    before: FleetAuthority,
    after: FleetAuthority,
    trust: FleetTrust,
}

fn exchange() -> Exchange {
    let before = fleet(FLEET);
    let (after, link) = before.succeed(generate_key().unwrap(), LONG).unwrap();
    Exchange {
        trust: FleetTrust::from_pem(before.authority_pem()).unwrap(),
        before,
        after: after.with_link(&link),
    }
}

impl Exchange {
    /// Believes in one that issues, and in others.
    fn believe(
        &self,
        issuing: &FleetAuthority,
        other: Option<&FleetAuthority>,
        retired: Option<&FleetAuthority>,
    ) {
        let der = |authority: &FleetAuthority| authority.trust().der();
        let (issuing, other, retired) = (der(issuing), other.map(der), retired.map(der));
        let news = self.trust.believe(&Believable {
            issuing: &issuing,
            other: other.as_deref(),
            retired: retired.as_deref(),
        });
        assert_eq!(news, Ok(true));
    }
}

#[test]
fn nodes_of_both_authorities_know_each_other_until_the_old_one_is_done_with() {
    let exchange = exchange();
    let Exchange {
        before,
        after,
        trust,
    } = &exchange;
    let (old, new) = (node(before, 1), node(after, 2));
    // Made once: what is believed changes under them.
    let server = |identity| mesh_server_config(identity, trust, Joining::NotOffered).unwrap();
    let client = |identity, expected| mesh_client_config(identity, trust, expected).unwrap();
    let (to_old, to_new) = (client(&new, 1), client(&old, 2));
    let (at_old, at_new) = (server(&old), server(&new));
    refused(&shake(&to_new, &at_new), "BadSignature");

    exchange.believe(before, Some(after), None);
    for (client, server, caller) in [(&to_new, &at_new, 1), (&to_old, &at_old, 2)] {
        let done = shake(client, server);
        assert!(
            done.succeeded(),
            "{:?} {:?}",
            done.client_error,
            done.server_error
        );
        let Ok(Caller::Node { node, .. }) = super::mesh::caller(&done) else {
            panic!("nobody");
        };
        assert_eq!(node, caller);
    }
    exchange.believe(after, Some(before), None);
    assert!(shake(&to_new, &at_new).succeeded() && shake(&to_old, &at_old).succeeded());
    // A retired one vouches for no node, in either direction.
    exchange.believe(after, None, Some(before));
    refused(&shake(&to_new, &at_new), "BadSignature");
    refused(&shake(&to_old, &at_old), "BadSignature");
}

#[test]
fn operators_with_a_certificate_of_before_are_known_and_find_to_the_new_authority() {
    let exchange = exchange();
    let (before, after) = (&exchange.before, &exchange.after);
    let alice = operator(before, "alice");
    let theirs = FleetTrust::from_pem(before.authority_pem()).unwrap();
    let client = api_client_config(&alice, &theirs).unwrap();
    exchange.believe(after, None, Some(before));
    let server = api_server_config(&node(after, 1), &exchange.trust).unwrap();
    assert!(shake(&client, &server).succeeded());
    // Without what leads from one to the other, an authority of the same name is a stranger's.
    let stranger = fleet(FLEET);
    let pretending = api_server_config(&node(&stranger, 1), &exchange.trust).unwrap();
    refused(&shake(&client, &pretending), "BadSignature");
    // Nor does a link that the stranger signed help.
    let (next, link) = stranger.succeed(generate_key().unwrap(), LONG).unwrap();
    let pretending = node(&next.with_link(&link), 1);
    let pretending = api_server_config(&pretending, &exchange.trust).unwrap();
    refused(&shake(&client, &pretending), "BadSignature");
    // Between nodes no link is followed: the state says whom they believe.
    let mesh = mesh_client_config(&node(before, 2), &theirs, 1).unwrap();
    let both = FleetTrust::from_pem(before.authority_pem()).unwrap();
    let der = after.trust().der();
    let old = before.trust().der();
    let believable = Believable {
        issuing: &der,
        other: Some(&old),
        retired: None,
    };
    assert_eq!(both.believe(&believable), Ok(true));
    assert_eq!(both.believe(&believable), Ok(false));
    let server = mesh_server_config(&node(after, 1), &both, Joining::NotOffered).unwrap();
    refused(&shake(&mesh, &server), "BadSignature");
    exchange.believe(after, None, None);
    let server = api_server_config(&node(after, 1), &exchange.trust).unwrap();
    refused(&shake(&client, &server), "BadSignature");
}

/// The new one may end before the old one: it is wanted for who issued it.
#[test]
fn a_node_takes_a_certificate_of_the_new_authority_in_the_place_of_one_that_lasts() {
    let exchange = exchange();
    let (before, after) = (&exchange.before, &exchange.after);
    let (shown, public) = node_and_key(before, 7, week());
    let at = super::now();
    let chain = after.issue_node(7, &public, week()).unwrap();
    let unknown = shown.renewed(&chain, &exchange.trust, at).unwrap_err();
    assert!(matches!(unknown, NotRenewed::NotIssued(_)), "{unknown}");
    exchange.believe(after, Some(before), None);
    assert_eq!(
        shown.issuer(&exchange.trust, at),
        Some(before.trust().fingerprint())
    );
    let renewed = shown.renewed(&chain, &exchange.trust, at).unwrap();
    assert_eq!(renewed.issuer(), after.trust().fingerprint());
    shown.show(renewed);
    assert_eq!(
        shown.issuer(&exchange.trust, at),
        Some(after.trust().fingerprint())
    );
    // And back, as one who changed their mind does.
    exchange.believe(before, Some(after), None);
    let chain = before.issue_node(7, &public, week()).unwrap();
    shown.show(shown.renewed(&chain, &exchange.trust, at).unwrap());
    assert_eq!(
        shown.issuer(&exchange.trust, at),
        Some(before.trust().fingerprint())
    );
}

#[test]
fn what_is_believed_is_of_this_fleet_and_read_again_as_it_was_written() {
    let exchange = exchange();
    let (before, after) = (&exchange.before, &exchange.after);
    let other = fleet(OTHER_FLEET).trust().der();
    let refused = exchange.trust.believe(&Believable {
        issuing: &other,
        other: None,
        retired: None,
    });
    assert_eq!(refused, Err(FleetTrustError::NoFleet));
    assert_eq!(exchange.trust.fingerprint(), before.trust().fingerprint());
    exchange.believe(after, Some(before), None);
    let again = FleetTrust::from_pem(&exchange.trust.to_pem()).unwrap();
    assert_eq!(again.fingerprint(), after.trust().fingerprint());
    assert!(again.believes(before.trust().fingerprint()));
    assert!(
        FleetTrust::from_pem(&format!("{}{}", again.to_pem(), before.authority_pem())).is_err()
    );
    let key = FleetAuthority::from_der(&after.trust().der(), before.key_pem());
    assert!(key.is_err(), "the key of another");
}
