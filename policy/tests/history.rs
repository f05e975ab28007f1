//! Histories of random commands: a view that grew is the view built from scratch, and a refusal leaves no trace.

mod common;

use common::random::{cases, tenants};
use common::{Proposed, at, check_refused, command, name, tenant};
use portcullis_policy::*;
use proptest::prelude::*;

/// Commands in a row: documents to put, by their tenants.
fn history() -> impl Strategy<Value = Vec<Vec<Tenant>>> {
    proptest::collection::vec(tenants(), 1..5)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_view_that_grew_is_the_view_built_from_scratch(history in history(), without in any::<bool>()) {
        let mut grown = State::default();
        for tenants in &history {
            grown.propose(&command(tenants, &[]), at(0)).unwrap();
        }
        if without {
            grown.propose(&command(&[], &["globex"]), at(0)).unwrap();
        }
        let rebuilt = State::restore(grown.snapshot()).unwrap();
        prop_assert_eq!(&grown, &rebuilt);
        prop_assert_eq!(grown.view(), rebuilt.view());
    }

    #[test]
    fn one_by_one_is_all_at_once(tenants in tenants(), history in history()) {
        let mut together = State::default();
        for tenants in &history {
            together.propose(&command(tenants, &[]), at(0)).unwrap();
        }
        let mut apart = together.clone();
        together.propose(&command(&tenants, &[]), at(1)).unwrap();
        for tenant in tenants {
            apart.propose(&command(&[tenant], &[]), at(1)).unwrap();
        }
        let documents = |state: &State| -> Vec<Tenant> {
            state.view().tenants().map(|tenant| tenant.document()).collect()
        };
        prop_assert_eq!(documents(&together), documents(&apart));
        prop_assert!(difference(&together.view(), &apart.view(), at(1)).is_empty());
        prop_assert_eq!(together.weight(), apart.weight());
    }

    #[test]
    fn a_refused_command_leaves_no_trace(tenants in tenants(), history in history()) {
        let mut state = State::default();
        for tenants in &history {
            state.propose(&command(tenants, &[]), at(0)).unwrap();
        }
        let mut thief = tenant("initech");
        thief.networks.insert(name("acme-vpc"));
        let mut put = tenants;
        put.push(thief);
        check_refused(&state, &command(&put, &[]), "network_claimed", "acme-vpc");
    }
}
