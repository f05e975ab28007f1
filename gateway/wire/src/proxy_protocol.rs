//! The PROXY protocol header, version 2: what a trusted load balancer says about the client behind it.
//!
//! Version 1 is not spoken. Only a listener that requires the header, and only for a trusted peer, comes here; an
//! absent identity is reported as absent and never guessed. Source: haproxy's `proxy-protocol.txt` section 2.2, and for
//! the private link TLVs the documentation of AWS (0xEA), Azure (0xEE) and Google Cloud (0xE0).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bytes::Reader;
use crate::limits::{MAX_AWS_LINK, MAX_PROXY_HEADER, MAX_PROXY_UNIQUE_ID};
use crate::{Complaint, Step};

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The load balancer speaks for itself (a health check). It is nobody's client: close quietly, never treat the
    /// balancer's address as a client's.
    Local,
    /// A client stands behind the load balancer.
    Proxied {
        /// The client. IPv4-mapped IPv6 is folded to IPv4.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
        /// The private link it came by, read only from the TLV of the cloud that the listener names.
        link: Option<LinkTlv>,
    },
}

/// Whose private link TLV a listener believes. Clouds share the vendor range, so another's type proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudTlv {
    /// 0xEA, subtype 1: VPC endpoint id.
    Aws,
    /// 0xEE, subtype 1: LINKID, little-endian.
    Azure,
    /// 0xE0: pscConnectionId, big-endian, no subtype.
    Gcp,
}

/// A private link's id, typed by its cloud so that equal digits of two clouds are never equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTlv {
    /// Such as `vpce-08d2bf15fac5001c9`: letters, digits and hyphens, 1 to 64.
    Aws(String),
    /// LINKID.
    Azure(u32),
    /// pscConnectionId.
    Gcp(u64),
}

/// Reads one header from the beginning of `bytes`. `Need` never leads past the header's end, so a caller that reads
/// exactly what is needed leaves the client's own bytes where they are.
///
/// # Errors
/// Another version or no header at all, more than [`MAX_PROXY_HEADER`] bytes, a layout that overruns, a TLV given
/// twice, a wrong checksum, or a family that names no TCP client (UNSPEC, UDP, UNIX).
pub fn read(bytes: &[u8], cloud: Option<CloudTlv>) -> Result<Step<ProxyHeader>, Complaint> {
    check_signature(bytes)?;
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Step::Need(FIXED - bytes.len()));
    };
    let mut reader = Reader::new(fixed.get(SIGNATURE.len()..).unwrap_or_default());
    let (Some(version_command), Some(family), Some(len)) = (reader.u8(), reader.u8(), reader.u16())
    else {
        return Ok(Step::Need(FIXED));
    };
    let command = Command::parse(version_command)?;
    let length = FIXED + usize::from(len);
    if length > MAX_PROXY_HEADER {
        return Err(Complaint::ProxyLength { length });
    }
    let Some((header, _)) = bytes.split_at_checked(length) else {
        return Ok(Step::Need(length - bytes.len()));
    };
    let proxy_header = match command {
        // The block behind a LOCAL header must be skipped, whatever it holds.
        Command::Local => ProxyHeader::Local,
        Command::Proxy => proxied(header, family, cloud)?,
    };
    Ok(Step::Done(proxy_header, length))
}

/// The first twelve bytes.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Complains at the first byte that is not the signature's, but waits for as many as tell version 1 apart.
fn check_signature(bytes: &[u8]) -> Result<(), Complaint> {
    const VERSION_1: &[u8] = b"PROXY";
    let seen = bytes.get(..SIGNATURE.len()).unwrap_or(bytes);
    if SIGNATURE.starts_with(seen) {
        return Ok(());
    }
    if seen.starts_with(VERSION_1) {
        return Err(Complaint::ProxyVersion);
    }
    if VERSION_1.starts_with(seen) {
        return Ok(());
    }
    Err(Complaint::ProxyMissing)
}

enum Command {
    Local,
    Proxy,
}

impl Command {
    fn parse(byte: u8) -> Result<Self, Complaint> {
        match (byte >> 4, byte & 0x0F) {
            (2, 0) => Ok(Self::Local),
            (2, 1) => Ok(Self::Proxy),
            (2, _) => Err(Complaint::ProxyMalformed("an unknown command")),
            (_, _) => Err(Complaint::ProxyVersion),
        }
    }
}

fn proxied(header: &[u8], family: u8, cloud: Option<CloudTlv>) -> Result<ProxyHeader, Complaint> {
    let mut reader = Reader::new(header.get(FIXED..).unwrap_or_default());
    let addresses = match family {
        0x11 => tcp4(&mut reader),
        0x21 => tcp6(&mut reader),
        // The specification says to ignore the addresses of these, and nothing else says who the client is.
        0x00 => return Err(Complaint::ProxyUnusable("family UNSPEC")),
        0x12 | 0x22 => return Err(Complaint::ProxyUnusable("UDP")),
        0x31 | 0x32 => return Err(Complaint::ProxyUnusable("a UNIX socket")),
        _ => return Err(Complaint::ProxyMalformed("an unknown address family")),
    };
    let (source, destination) =
        addresses.ok_or(Complaint::ProxyMalformed("no room for the addresses"))?;
    let link = tlvs(header, reader, cloud)?;
    if source.ip().is_unspecified() {
        return Err(Complaint::ProxyUnusable("an unspecified source address"));
    }
    Ok(ProxyHeader::Proxied {
        source,
        destination,
        link,
    })
}

fn tcp4(reader: &mut Reader<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let source = Ipv4Addr::from(reader.array::<4>()?);
    let destination = Ipv4Addr::from(reader.array::<4>()?);
    Some((
        SocketAddr::new(IpAddr::V4(source), reader.u16()?),
        SocketAddr::new(IpAddr::V4(destination), reader.u16()?),
    ))
}

fn tcp6(reader: &mut Reader<'_>) -> Option<(SocketAddr, SocketAddr)> {
    // Folded here, before anything can match the mapped form against a list of IPv6 prefixes.
    let source = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
    let destination = Ipv6Addr::from(reader.array::<16>()?).to_canonical();
    Some((
        SocketAddr::new(source, reader.u16()?),
        SocketAddr::new(destination, reader.u16()?),
    ))
}

/// Walks the TLVs: lengths exact, no type twice, checksum right where there is one; returns the link of `cloud`.
fn tlvs(
    header: &[u8],
    mut reader: Reader<'_>,
    cloud: Option<CloudTlv>,
) -> Result<Option<LinkTlv>, Complaint> {
    let mut seen = [false; 256];
    let mut link = None;
    while let Some(kind) = reader.u8() {
        let value = reader
            .u16()
            .and_then(|len| reader.take(usize::from(len)))
            .ok_or(Complaint::ProxyMalformed("a TLV that overruns the header"))?;
        let repeated = seen
            .get_mut(usize::from(kind))
            .is_some_and(|seen| std::mem::replace(seen, true));
        if repeated && kind != TLV_NOOP {
            return Err(Complaint::ProxyDuplicate { kind });
        }
        match (kind, cloud) {
            (TLV_CRC32C, _) => {
                let from_end = reader.rest().len() + value.len();
                check_crc(header, header.len().saturating_sub(from_end), value)?;
            }
            (TLV_UNIQUE_ID, _) if value.len() > MAX_PROXY_UNIQUE_ID => {
                return Err(Complaint::ProxyMalformed(
                    "a unique id of more than 128 bytes",
                ));
            }
            (TLV_AWS, Some(CloudTlv::Aws)) => link = Some(aws(value)?),
            (TLV_AZURE, Some(CloudTlv::Azure)) => link = Some(azure(value)?),
            (TLV_GCP, Some(CloudTlv::Gcp)) => link = Some(gcp(value)?),
            (_, _) => {}
        }
    }
    Ok(link)
}

const TLV_CRC32C: u8 = 0x03;
const TLV_NOOP: u8 = 0x04;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_GCP: u8 = 0xE0;
const TLV_AWS: u8 = 0xEA;
const TLV_AZURE: u8 = 0xEE;

fn aws(value: &[u8]) -> Result<LinkTlv, Complaint> {
    let id = match value.split_first() {
        Some((1, id)) => id,
        Some(_) | None => return Err(Complaint::ProxyMalformed("an AWS TLV of another subtype")),
    };
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    std::str::from_utf8(id)
        .ok()
        .filter(|_| (1..=MAX_AWS_LINK).contains(&id.len()) && id.iter().all(fits))
        .map(|id| LinkTlv::Aws(id.to_owned()))
        .ok_or(Complaint::ProxyMalformed("an impossible AWS endpoint id"))
}

fn azure(value: &[u8]) -> Result<LinkTlv, Complaint> {
    match value {
        [1, a, b, c, d] => Ok(LinkTlv::Azure(u32::from_le_bytes([*a, *b, *c, *d]))),
        _ => Err(Complaint::ProxyMalformed("an impossible Azure link id")),
    }
}

fn gcp(value: &[u8]) -> Result<LinkTlv, Complaint> {
    <[u8; 8]>::try_from(value)
        .map(|id| LinkTlv::Gcp(u64::from_be_bytes(id)))
        .map_err(|_| Complaint::ProxyMalformed("an impossible Google Cloud connection id"))
}

/// The checksum is over the whole header with its own four bytes as zeros. `at` is where they stand.
fn check_crc(header: &[u8], at: usize, value: &[u8]) -> Result<(), Complaint> {
    let Ok(announced) = <[u8; 4]>::try_from(value) else {
        return Err(Complaint::ProxyMalformed("a CRC32C that is not four bytes"));
    };
    let before = header.get(..at).unwrap_or_default();
    let after = header.get(at + announced.len()..).unwrap_or_default();
    let crc = [before, &[0; 4], after].into_iter().fold(!0, crc32c);
    if !crc == u32::from_be_bytes(announced) {
        Ok(())
    } else {
        Err(Complaint::ProxyChecksum)
    }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: headers are short, and rare next to the handshakes that follow them.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REVERSED: u32 = 0x82F6_3B78;
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL_REVERSED & (crc & 1).wrapping_neg())
        })
    })
}
