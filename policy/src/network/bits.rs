//! The two sizes of address, as numbers.

use super::Address;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An unsigned number as wide as an address of one family.
pub(crate) trait Bits: Copy + Ord + std::fmt::Debug {
    /// The lowest address.
    const MIN: Self;
    /// The highest address.
    const MAX: Self;
    /// Bits in an address.
    const WIDTH: u8;

    /// The address one higher, if there is one.
    fn above(self) -> Option<Self>;
    /// The address one lower, if there is one.
    fn below(self) -> Option<Self>;
    /// The number, in the wider of the two sizes.
    fn wide(self) -> u128;
    /// How many low bits are zero: [`Bits::WIDTH`] for the lowest address.
    fn trailing_zeros(self) -> u8;
    /// The last address of a block that begins here and has this many free low bits (at most [`Bits::WIDTH`]).
    fn end_of_block(self, free: u8) -> Self;
    /// As an address.
    fn address(self) -> Address;
}

macro_rules! bits {
    ($type:ty, $address:expr) => {
        impl Bits for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;
            // 32 or 128.
            const WIDTH: u8 = <$type>::BITS as u8;

            fn above(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn below(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn wide(self) -> u128 {
                self.into()
            }
            fn trailing_zeros(self) -> u8 {
                u8::try_from(<$type>::trailing_zeros(self)).unwrap_or(Self::WIDTH)
            }
            fn end_of_block(self, free: u8) -> Self {
                let kept = u32::from(Self::WIDTH.saturating_sub(free));
                self | Self::MAX.checked_shr(kept).unwrap_or(0)
            }
            fn address(self) -> Address {
                $address(self)
            }
        }
    };
}

bits!(u32, |bits| Address::from(Ipv4Addr::from_bits(bits)));
// The edges of a set talk about the whole space, the mapped block too: an edge must not jump to another family.
bits!(u128, |bits| {
    Address::unfolded(Ipv6Addr::from_bits(bits))
});
