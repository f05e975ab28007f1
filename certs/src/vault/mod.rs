//! Keys at rest and between nodes: never in the clear, and bound to the name under which they are kept.
//!
//! A [`SealingKey`] seals what lies on a disk; a [`Recipient`] is given what travels. Randomness for what is sealed is an argument; only
//! a [`Recipient`], whose keys live for one exchange, draws its own, because HPKE's interface leaves no other way.

mod seal;
mod transit;

pub use seal::{NotOpened, PassphraseCost, SALT_BYTES, SealError, SealingKey};
pub use transit::{MAX_WRAPPED, NotWrapped, Recipient, wrap};
