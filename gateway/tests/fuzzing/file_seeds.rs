//! Policy and node files. Those of `testdata/` are replayed where they lie; here is what they do not say.

use crate::replay::Seeds;

pub(crate) fn policies() -> Seeds {
    let good = include_str!("../../testdata/policy-good/acme.yaml");
    let small = "tenant: acme\nnetworks: [acme-vpc]\nclusters:\n  db: {engine: postgresql, backends: [\"192.0.2.7:5432\"], tls: unencrypted-and-unverified}\nendpoints:\n  app:\n    cluster: db\n    names: [app.example]\n    authentication: scram\n    doors: [public]\n    allow:\n      - {prefix: 203.0.113.0/24, origin: public, except: [203.0.113.9]}\n";
    let with = |old: &str, new: &str| {
        assert!(small.contains(old));
        small.replacen(old, new, 1).into_bytes()
    };
    vec![
        ("everything", good.as_bytes().to_vec()),
        ("small", small.into()),
        ("crlf", small.replace('\n', "\r\n").into_bytes()),
        ("no-last-newline", small.trim_end().into()),
        (
            "two-tenants",
            [
                small,
                &small
                    .replace("acme", "globex")
                    .replace("app.example", "b.example"),
            ]
            .join("\0")
            .into_bytes(),
        ),
        (
            "two-claim-one-name",
            [small, &small.replace("acme", "globex")]
                .join("\0")
                .into_bytes(),
        ),
        ("one-tenant-twice", [small, small].join("\0").into_bytes()),
        ("nothing", b"".to_vec()),
        ("only-a-comment", b"# nobody\n".to_vec()),
        ("quoted", with("tenant: acme", "'tenant': \"\\x61cme\"")),
        (
            "note-that-looks-odd",
            with(
                "origin: public,",
                "origin: public, note: \"- a: {b}\\n# c \\u2028\",",
            ),
        ),
        (
            "note-folded",
            with(
                "      - {prefix: 203.0.113.0/24, origin: public, except: [203.0.113.9]}",
                "      - prefix: 203.0.113.0/24\n        origin: public\n        note: >-\n          two\n          lines\n        expires: 2027-01-01T00:00:00Z",
            ),
        ),
        (
            "entry-mapped",
            with("203.0.113.0/24", "\"::ffff:203.0.113.0/120\""),
        ),
        ("entry-everyone", with("203.0.113.0/24", "0.0.0.0/0")),
        ("relay", with("scram", "relay")),
        (
            "authorities-of-a-file",
            with(
                "scram",
                "{certificate: {authorities-file: ca/acme-clients.pem, map: [{name: \"cn:a\", role: b}]}}",
            ),
        ),
        (
            "authorities-outside",
            with(
                "scram",
                "{certificate: {authorities-file: ../ca.pem, map: [{name: \"cn:a\", role: b}]}}",
            ),
        ),
        (
            "keys-of-a-file",
            with(
                "scram",
                "{token: {issuer: \"https://id.example\", audience: a, keys-file: keys/acme.json, claim: sub, map: [{value: x, role: y}]}}",
            ),
        ),
        (
            "deep",
            [&b"tenant: acme\nnetworks: "[..], &[b'['; 40]].concat(),
        ),
        (
            "wide-characters",
            with("acme-vpc", "äöü, \u{1f512}, \u{202e}"),
        ),
        ("tab", with("  app:", "\tapp:")),
        (
            "directive",
            [b"%YAML 1.2\n---\n", small.as_bytes()].concat(),
        ),
        ("two-documents", [small, small].join("---\n").into_bytes()),
        (
            "limits",
            [
                small,
                "limits: {connections: 4294967295, new-connections-per-second: 1}\n",
            ]
            .concat()
            .into_bytes(),
        ),
    ]
}

pub(crate) fn nodes() -> Seeds {
    let small = "name = \"gw1\"\ndata = \"/var/lib/portcullis\"\n[admin]\nsocket = \"/run/portcullis/admin.sock\"\n[[certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n[[listener]]\naddress = \"0.0.0.0:5433\"\norigin = \"public\"\n";
    let with = |old: &str, new: &str| {
        assert!(small.contains(old));
        small.replacen(old, new, 1).into_bytes()
    };
    let and = |more: &str| [small, more].concat().into_bytes();
    vec![
        ("small", small.into()),
        ("crlf", small.replace('\n', "\r\n").into_bytes()),
        ("everything", [
            "workers = 2\npolicy = \"policy\"\n", small,
            "[metrics]\nlisten = \"127.0.0.1:9187\"\n[dialer]\nsocket = \"dialer.sock\"\n[[database-client]]\ntenant = \"acme\"\nchain = \"acme.pem\"\nkey = \"acme.key\"\n[[listener]]\naddress = \"0.0.0.0:5433\"\norigin = \"network:acme-vpc\"\nnetwork-namespace = \"acme\"\n[[listener]]\naddress = \"[::]:5433\"\norigin = \"network:globex/vpc\"\ninterface = \"eth7\"\n[[listener]]\naddress = \"0.0.0.0:5434\"\norigin = \"private-links\"\ncloud = \"aws\"\ntrusted = [\"10.9.0.0/24\"]\n[[listener]]\naddress = \"192.0.2.1:5435\"\norigin = \"public\"\nproxy-protocol = true\ntrusted = [\"10.9.0.0/24\", \"2001:db8::/64\"]\n",
        ].concat().into_bytes()),
        ("nothing", b"".to_vec()),
        ("unknown-key", and("colour = \"green\"\n")),
        ("key-twice", and("address = \"0.0.0.0:1\"\n")),
        ("uids", with("[[certificate]]", "allowed-uids = [0, 4294967295]\n[[certificate]]")),
        ("uid-too-large", with("[[certificate]]", "allowed-uids = [4294967296]\n[[certificate]]")),
        ("socket-too-long", with("admin.sock", &"s".repeat(120))),
        ("address-without-port", with("0.0.0.0:5433", "0.0.0.0")),
        ("address-mapped", with("0.0.0.0:5433", "[::ffff:10.0.0.1]:5433")),
        ("address-twice", and("[[listener]]\naddress = \"0.0.0.0:5433\"\norigin = \"public\"\n")),
        ("origin-unknown", with("\"public\"", "\"anywhere\"")),
        ("inline-table", with("[admin]\nsocket = \"/run/portcullis/admin.sock\"", "admin = {socket = \"a.sock\"}")),
        ("multi-line-string", with("\"gw1\"", "\"\"\"\ngw1\"\"\"")),
        ("escape", with("\"gw1\"", "\"\\u0067w1\"")),
        ("trusted-everyone", and("proxy-protocol = true\ntrusted = [\"0.0.0.0/0\"]\n")),
        ("number-for-a-name", with("\"gw1\"", "1e3")),
        ("deep", [b"x = ", [b'['; 200].as_slice()].concat()),
    ]
}
