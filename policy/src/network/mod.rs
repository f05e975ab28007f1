//! Addresses, prefixes and exact sets of them, and the compiled form of an allow list.
//!
//! Absent: any notion of time zones, names or routes; an address is a number of one of two families and nothing else.
//! Which door an attempt came through is not an address either: see [`Origin`](crate::Origin).

mod address;
mod bits;
mod count;
mod lists;
mod prefix;
mod ranges;
mod segments;
mod set;

pub use address::{Address, AddressError, Family};
pub use count::Count;
pub use prefix::{Prefix, PrefixError};
pub use set::AddressSet;

pub(crate) use bits::Bits;
pub(crate) use lists::{AllowList, AllowLists, Found, entry_addresses};
pub(crate) use ranges::Ranges;
pub(crate) use segments::Until;
