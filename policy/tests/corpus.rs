//! Replays the committed corpus of the fuzz target `prefixes`.

#[cfg(test)]
#[path = "fuzzing/prefixes.rs"]
mod prefixes;
#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use crate::prefixes::prefixes;
    use crate::replay::{Case, Seeds, replay, replay_cut};

    #[test]
    fn every_committed_input_passes_its_target() {
        replay(&[case()]);
    }

    #[test]
    fn every_seed_cut_anywhere_passes_its_target() {
        replay_cut(&[case()]);
    }

    fn case() -> Case {
        Case {
            name: "prefixes",
            target: prefixes,
            seeds: seeds(),
        }
    }

    fn seeds() -> Seeds {
        let prefix = |text: &str| [b"0", text.as_bytes()].concat();
        let word = |text: &str| [b"1", text.as_bytes()].concat();
        let sets = |prefixes: &[[u8; 6]]| [b"2", prefixes.concat().as_slice()].concat();
        vec![
            ("ipv4", prefix("203.0.113.0/24")),
            ("ipv4-bare", prefix("203.0.113.9")),
            ("ipv4-half", prefix("128.0.0.0/1")),
            ("ipv6", prefix("2001:db8::/32")),
            ("ipv6-bare", prefix("2001:db8::1")),
            ("ipv6-wide", prefix("::/1")),
            ("ipv6-loopback", prefix("::1/128")),
            ("translated", prefix("64:ff9b::/96")),
            ("host-bits", prefix("203.0.113.9/24")),
            ("everyone", prefix("0.0.0.0/0")),
            ("mapped", prefix("::ffff:10.0.0.0/104")),
            ("mapped-block", prefix("::ffff:0:0/96")),
            ("mapped-short", prefix("::ffff:10.0.0.0/8")),
            ("compatible", prefix("::10.0.0.1/128")),
            ("octal", prefix("010.0.0.0/8")),
            ("hexadecimal", prefix("0xa.0.0.0/8")),
            ("short-ipv4", prefix("10.1/16")),
            ("length-08", prefix("10.0.0.0/08")),
            ("length-plus", prefix("10.0.0.0/+8")),
            ("length-mask", prefix("10.0.0.0/255.0.0.0")),
            ("length-twice", prefix("10.0.0.0/8/8")),
            ("zone", prefix("fe80::1%eth0")),
            ("upper-case", prefix("2001:DB8::/32")),
            ("long-form", prefix("2001:0db8:0:0:0:0:0:0/32")),
            ("not-ascii", prefix("1١.0.0.0/8")),
            ("server-name", word("Acme-Orders.DB.Example.NET")),
            ("server-name-dot", word("acme.example.net.")),
            ("server-name-address", word("127.0.0.1")),
            ("server-name-nul", word("acme.net\0")),
            ("server-name-wildcard", word("*.db.example")),
            ("origin-network", word("network:acme/vpc")),
            ("link-aws", word("aws:vpce-08d2bf15fac5001c9")),
            ("link-azure", word("azure:4294967295")),
            ("link-gcp", word("gcp:18446744073709551615")),
            ("link-leading-zero", word("gcp:0456")),
            ("moment", word("2026-11-22T19:47:00.123Z")),
            (
                "halves-are-everything",
                sets(&[[1, 0, 0, 0, 0, 0], [1, 0, 128, 0, 0, 0]]),
            ),
            ("a-hole", sets(&[[8, 0, 10, 0, 0, 0], [24, 0, 10, 1, 2, 0]])),
            (
                "both-families",
                sets(&[
                    [32, 193, 0x20, 1, 0x0d, 0xb8],
                    [8, 0, 10, 0, 0, 0],
                    [48, 193, 0x20, 1, 0x0d, 0xb8],
                    [32, 0, 10, 255, 255, 255],
                ]),
            ),
            (
                "neighbours",
                sets(&[
                    [25, 0, 192, 0, 2, 0],
                    [25, 0, 192, 0, 2, 128],
                    [24, 0, 192, 0, 3, 0],
                    [32, 0, 192, 0, 2, 255],
                ]),
            ),
            (
                "edges-of-the-space",
                sets(&[
                    [32, 0, 255, 255, 255, 255],
                    [32, 0, 0, 0, 0, 0],
                    [128, 193, 255, 255, 255, 255],
                    [32, 193, 255, 255, 255, 255],
                ]),
            ),
        ]
    }
}
