//! `decide` allocates nothing, whatever it decides.
#![expect(unsafe_code, reason = "an allocator cannot be written without")]

mod common;

use common::{EntryWords, at, attempt, endpoint, entry, name, server_name, state, tenant};
use portcullis_policy::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting for each thread how often it was asked.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ASKED.with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, by `alloc` or `realloc` above and below.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn no_decision_allocates() {
    let mut acme = tenant("acme");
    let allow = vec![
        entry("203.0.113.0/24", "public").except(&["203.0.113.9"]),
        entry("2001:db8::/32", "public"),
        entry("198.51.100.0/24", "public").until(0),
    ];
    acme.endpoints.insert(
        name("orders"),
        endpoint("acme-orders", &["public", "network:acme-vpc"], allow),
    );
    let mut closed = endpoint("acme-closed", &["public"], vec![]);
    closed.suspended = true;
    acme.endpoints.insert(name("closed"), closed);
    acme.endpoints
        .insert(name("private"), endpoint("acme-private", &[], vec![]));
    let mut globex = tenant("globex");
    globex.suspended = true;
    globex
        .endpoints
        .insert(name("orders"), endpoint("globex-orders", &[], vec![]));
    let view = state(&[acme, globex]).view();

    let check =
        |expected: &str, origin: &str, address: &str, server: Option<&str>, replication: bool| {
            let (origin, server) = (name(origin), server.map(server_name));
            let attempt = Attempt {
                replication,
                ..attempt(&origin, address, server.as_ref())
            };
            let before = ASKED.with(Cell::get);
            let decision = decide(&view, &attempt, at(7), &mut Silent);
            let asked = ASKED.with(Cell::get) - before;
            let code = match &decision {
                Decision::Permitted(_) => "permitted",
                Decision::Denied(denial) => denial.code(),
            };
            assert_eq!(code, expected);
            assert_eq!(asked, 0, "{expected}");
        };
    let orders = Some("acme-orders");
    check("permitted", "public", "203.0.113.7", orders, false);
    check("permitted", "public", "2001:db8::1", orders, false);
    check("unknown_endpoint", "public", "203.0.113.7", None, false);
    check(
        "unknown_endpoint",
        "public",
        "203.0.113.7",
        Some("acme-order"),
        false,
    );
    check(
        "tenant_suspended",
        "public",
        "203.0.113.7",
        Some("globex-orders"),
        false,
    );
    check(
        "endpoint_suspended",
        "public",
        "203.0.113.7",
        Some("acme-closed"),
        false,
    );
    check(
        "network_mismatch",
        "network:globex-vpc",
        "203.0.113.7",
        orders,
        false,
    );
    check(
        "private_link_mismatch",
        "private-link:gcp:1",
        "203.0.113.7",
        orders,
        false,
    );
    check(
        "empty_list",
        "network:acme-vpc",
        "203.0.113.7",
        orders,
        false,
    );
    check("address_not_listed", "public", "203.0.113.9", orders, false);
    check("entry_expired", "public", "198.51.100.1", orders, false);
    check("replication_refused", "public", "203.0.113.7", orders, true);
}

#[test]
fn the_counter_counts() {
    let before = ASKED.with(Cell::get);
    let text = String::from("one");
    assert!(ASKED.with(Cell::get) > before, "{text}");
}
