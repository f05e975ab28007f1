//! What the codecs accept, what they refuse and for which reason, and what they must never do.

#[cfg(test)]
mod boundary;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod error;
#[cfg(test)]
mod first;
#[cfg(test)]
mod message;
#[cfg(test)]
mod negotiate;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod proxy_protocol;
#[cfg(test)]
mod scram_client;
#[cfg(test)]
mod scram_server;
#[cfg(test)]
mod scram_verifier;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod truncation;
