//! The body of the fuzz target `prefixes`: what policy calls an address, a prefix, a set or a name, against a naive
//! reading of the same. It takes any bytes, of which the first says what is asked, and panics where the two differ.

use portcullis_policy::{
    Address, AddressSet, NetworkId, Origin, Prefix, PrefixError, PrivateLinkId, Reference,
    ServerName, Timestamp,
};
use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub(crate) fn prefixes(data: &[u8]) {
    let Some((what, rest)) = data.split_first() else {
        return;
    };
    match (what % 3, std::str::from_utf8(rest)) {
        (0, Ok(text)) => prefix(text),
        (1, Ok(text)) => words(text),
        (2, _) => sets(rest),
        _ => {}
    }
}

fn prefix(text: &str) {
    let parsed = Prefix::parse(text);
    let told = parsed
        .as_ref()
        .ok()
        .map(|it| (it.first().ip(), it.length()));
    assert_eq!(told, naive_prefix(text), "{text:?}: {parsed:?}");
    match parsed {
        Ok(prefix) => {
            assert_eq!(Prefix::parse(&prefix.to_string()), Ok(prefix));
            assert!(prefix.contains(prefix.first()) && prefix.contains(prefix.last()));
            assert!(prefix.covers(&prefix));
            let set = AddressSet::of([prefix]);
            assert_eq!(set.prefixes().collect::<Vec<_>>(), [prefix]);
        }
        Err(error) => {
            assert!(error.to_string().len() <= 1024, "{error}");
            if let PrefixError::Spelling { canonical, .. } = error {
                assert!(Prefix::parse(&canonical).is_ok(), "{text:?}: {canonical}");
            }
        }
    }
    let plain: Option<IpAddr> = text.parse().ok();
    let address = text.parse().ok().map(Address::ip);
    assert_eq!(address, plain.map(|ip| ip.to_canonical()));
}

/// One prefix, one spelling: the standard library's for the address, the shortest for the length.
fn naive_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let ip: IpAddr = address.parse().ok()?;
    let bits = bits(ip);
    let length = match text.contains('/') {
        true => (1..=bits.len()).find(|number| number.to_string() == length)?,
        false => bits.len(),
    };
    if ip.to_string() != address || bits[length..].contains(&true) {
        return None;
    }
    if let IpAddr::V6(v6) = ip {
        match v6.segments() {
            [0, 0, 0, 0, 0, 0xffff, ..] => return None,
            [0, 0, 0, 0, 0, 0, 0, 0] if length < 96 => {}
            [0, 0, 0, 0, 0, 0, 0, 1] => {}
            [0, 0, 0, 0, 0, 0, ..] => return None,
            _ => {}
        }
    }
    Some((ip, u8::try_from(length).ok()?))
}

fn bits(ip: IpAddr) -> Vec<bool> {
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let bits = octets
        .iter()
        .flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1));
    bits.collect()
}

/// Whatever is understood is written so that it is understood again.
fn words(text: &str) {
    again::<Origin>(text);
    again::<NetworkId>(text);
    again::<PrivateLinkId>(text);
    again::<Reference>(text);
    again::<Timestamp>(text);
    again::<ServerName>(text);
    let name = ServerName::parse(text);
    for twin in [text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
        assert_eq!(ServerName::parse(&twin).ok(), name.clone().ok(), "{text:?}");
    }
    if let Ok(name) = name {
        let name = name.as_str();
        assert!(name.len() <= 253 && name.parse::<IpAddr>().is_err());
        for label in name.split('.') {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            assert!((1..=63).contains(&label.len()) && label.bytes().all(plain));
            assert!(!label.starts_with('-') && !label.ends_with('-'));
        }
    }
}

fn again<T>(text: &str)
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => assert!(
            matches!(value.to_string().parse::<T>(), Ok(same) if same == value),
            "{text:?} is {value:?}, which is not {value}"
        ),
        Err(error) => assert!(error.to_string().len() <= 1024, "{error}"),
    }
}

/// Two sets of prefixes, of six bytes each: the algebra of sets against looking into each prefix.
fn sets(data: &[u8]) {
    let drawn: Vec<Prefix> = data.chunks_exact(6).take(64).filter_map(draw).collect();
    let (left, right) = drawn.split_at(drawn.len() / 2);
    let (a, b) = (
        AddressSet::of(left.iter().copied()),
        AddressSet::of(right.iter().copied()),
    );
    let both = a.union(&b);
    let shared = a.intersect(&b);
    let rest = a.subtract(&b);
    let probes = drawn.iter().flat_map(around);
    for probe in probes {
        let (in_a, in_b) = (naive_contains(left, probe), naive_contains(right, probe));
        assert_eq!(a.contains(probe), in_a, "{probe}");
        assert_eq!(b.contains(probe), in_b, "{probe}");
        assert_eq!(both.contains(probe), in_a || in_b, "{probe}");
        assert_eq!(shared.contains(probe), in_a && in_b, "{probe}");
        assert_eq!(rest.contains(probe), in_a && !in_b, "{probe}");
    }
    assert_eq!(AddressSet::union_of([rest.clone(), shared.clone()]), a);
    assert_eq!(both, b.union(&a));
    assert_eq!(shared, b.intersect(&a));
    assert!(rest.intersect(&b).is_empty());
    for set in [a, b, both, shared, rest] {
        assert_eq!(AddressSet::of(set.prefixes()), set);
        assert_eq!(
            AddressSet::everything().subtract(&AddressSet::everything().subtract(&set)),
            set
        );
        let ranges: Vec<_> = set.ranges().collect();
        assert!(ranges.is_sorted_by(|one, next| one.end() < next.start()));
    }
}

/// Family and length, where in the address the other four bytes stand, and these.
fn draw(bytes: &[u8]) -> Option<Prefix> {
    let &[length, place, a, b, c, d] = bytes else {
        return None;
    };
    let number = u32::from_be_bytes([a, b, c, d]);
    let keep = |bits: u128, width: u8| {
        let free = u32::from(width - length % (width + 1));
        bits.checked_shr(free).and_then(|it| it.checked_shl(free))
    };
    let (ip, length) = match place & 1 {
        0 => {
            let kept = keep(u128::from(number), 32).unwrap_or(0);
            (
                IpAddr::from(Ipv4Addr::from(u32::try_from(kept).ok()?)),
                length % 33,
            )
        }
        _ => {
            let shifted = u128::from(number) << (u32::from(place >> 1) % 97);
            let kept = keep(shifted, 128).unwrap_or(0);
            (IpAddr::from(Ipv6Addr::from(kept)), length % 129)
        }
    };
    let prefix = Prefix::new(Address::from(ip), length).ok()?;
    (prefix.first().ip() == ip).then_some(prefix)
}

/// The edges of a prefix and the addresses just beyond them.
fn around(prefix: &Prefix) -> [Address; 4] {
    let step = |ip: IpAddr, up: bool| match (ip, up) {
        (IpAddr::V4(v4), true) => IpAddr::from(Ipv4Addr::from(u32::from(v4).wrapping_add(1))),
        (IpAddr::V4(v4), false) => IpAddr::from(Ipv4Addr::from(u32::from(v4).wrapping_sub(1))),
        (IpAddr::V6(v6), true) => IpAddr::from(Ipv6Addr::from(u128::from(v6).wrapping_add(1))),
        (IpAddr::V6(v6), false) => IpAddr::from(Ipv6Addr::from(u128::from(v6).wrapping_sub(1))),
    };
    let (first, last) = (prefix.first(), prefix.last());
    [
        first,
        last,
        Address::from(step(first.ip(), false)),
        Address::from(step(last.ip(), true)),
    ]
}

fn naive_contains(prefixes: &[Prefix], address: Address) -> bool {
    let wanted = bits(address.ip());
    prefixes.iter().any(|prefix| {
        let fixed = bits(prefix.first().ip());
        let length = usize::from(prefix.length());
        fixed.len() == wanted.len() && fixed[..length] == wanted[..length]
    })
}
