//! What the certificates crate promises, by real handshakes, real signatures and openssl's word.

// The one binary is a test through and through; the attribute tells clippy that its helpers are, too.
#[cfg(test)]
mod authority;
#[cfg(test)]
mod binding;
#[cfg(test)]
mod client;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod hello;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod names;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod token;
#[cfg(test)]
mod vault;
