//! What `[[listener]]` may say.

use super::tests::*;

#[test]
fn a_listener_says_how_its_clients_come() {
    let at =
        |line: usize, column: usize, message: &str| format!("{}:{column}: {message}", line + 7);
    for (listener, expected) in [
        (
            "address = \"0.0.0.0\"\norigin = \"public\"",
            at(
                1,
                11,
                "address \"0.0.0.0\": write an IP address and a port, like \"192.0.2.1:5433\" or \"[2001:db8::1]:5433\"",
            ),
        ),
        (
            "address = \"[::ffff:10.0.0.5]:1\"\norigin = \"public\"",
            at(
                1,
                11,
                "address \"[::ffff:10.0.0.5]:1\": write the IPv4 address 10.0.0.5 itself",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"Public\"",
            at(
                2,
                10,
                "origin \"Public\": write \"public\", \"network:ID\" or \"private-links\"",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"private-link:gcp:1\"",
            at(
                2,
                10,
                "origin \"private-link:gcp:1\": write \"public\", \"network:ID\" or \"private-links\"",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"",
            at(0, 1, "missing field `origin`"),
        ),
        (
            "address = \"0.0.0.0:1\"\norigin = \"network:a\"",
            at(
                1,
                11,
                "address 0.0.0.0:1: whoever reaches any address of this machine would count as coming from network a; write the address that stands in that network, or `network-namespace` or `interface`",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"network:a\"\nnetwork-namespace = \"a\"",
            at(
                3,
                21,
                "a listener elsewhere needs the privileged dialer; write [dialer] with `socket`",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"network:a\"\nnetwork-namespace = \"../a\"",
            at(
                3,
                21,
                "network-namespace \"../a\": write its name as `ip netns list` shows it",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"network:a\"\ninterface = \"much-too-long-0\\u0000\"",
            at(
                3,
                13,
                "interface \"much-too-long-0\\0\": write its name as `ip link` shows it",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"network:a\"\ninterface = \"a\"\nnetwork-namespace = \"a\"",
            at(
                3,
                13,
                "write either `network-namespace` or `interface`, not both",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\nproxy-protocol = true",
            at(
                3,
                18,
                "proxy-protocol needs `trusted`: the addresses of the load balancers whose header is believed",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\ntrusted = [\"10.9.0.1\"]",
            at(
                3,
                11,
                "`trusted` has no meaning without `proxy-protocol = true`",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\nproxy-protocol = true\ntrusted = []",
            at(
                4,
                11,
                "trusted is empty: every connection would be dropped; write the load balancers' addresses",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\nproxy-protocol = true\ntrusted = [\"10.9.0.1/24\"]",
            at(
                4,
                12,
                "trusted: 10.9.0.1/24 has bits set beyond its length; 10.9.0.0/24 contains it",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\nproxy-protocol = true\ntrusted = [\"0.0.0.0/0\"]",
            at(
                4,
                12,
                "trusted: this prefix is every IPv4 address; if that is meant, say \"anywhere\"",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\ncloud = \"aws\"",
            at(3, 9, "`cloud` belongs to origin \"private-links\" only"),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"private-links\"\ntrusted = [\"10.9.0.1\"]",
            at(
                2,
                10,
                "private-links needs `cloud`: \"aws\", \"azure\" or \"gcp\"",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"private-links\"\ncloud = \"ibm\"\ntrusted = [\"10.9.0.1\"]",
            at(3, 9, "cloud \"ibm\": write \"aws\", \"azure\" or \"gcp\""),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"private-links\"\ncloud = \"gcp\"",
            at(
                0,
                1,
                "private-links needs `trusted`: the addresses of the load balancer whose header is believed",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"private-links\"\ncloud = \"gcp\"\ntrusted = [\"10.9.0.1\"]\nproxy-protocol = false",
            at(
                5,
                18,
                "private links are told apart by their PROXY v2 header; leave `proxy-protocol` out",
            ),
        ),
        (
            "address = \"10.0.0.5:1\"\norigin = \"public\"\nproxy_protocol = true",
            at(
                3,
                1,
                "unknown field `proxy_protocol`, expected one of `address`, `origin`, `network-namespace`, `interface`, `cloud`, `proxy-protocol`, `trusted`",
            ),
        ),
    ] {
        check(&with("", listener), &expected);
    }
}

#[test]
fn one_address_is_one_door() {
    let two = format!("{PUBLIC}\n[[listener]]\n{PUBLIC}");
    check(
        &with("", &two),
        "11:11: address 0.0.0.0:5433 is already another listener's; a listener is one door",
    );
    // Port 0 is another port each time.
    let free = "address = \"127.0.0.1:0\"\norigin = \"public\"";
    assert!(parse(&with("", &format!("{free}\n[[listener]]\n{free}"))).is_ok());
}
