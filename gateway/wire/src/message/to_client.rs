//! What a server says to a client while a session begins. Each function returns a whole message.

use super::backend::TransactionStatus;
use super::message;
use crate::Complaint;
use crate::bytes::push_c_string;
use crate::limits::{MAX_CANCEL_KEY, MIN_CANCEL_KEY};

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    authentication(0, &[])
}

/// AuthenticationCleartextPassword: over TLS only, for tokens.
pub fn authentication_cleartext() -> Vec<u8> {
    authentication(3, &[])
}

/// AuthenticationSASL with these mechanisms, best first. Names must be free of NULs, as [`crate::scram`]'s are.
pub fn authentication_sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut list = Vec::new();
    for mechanism in mechanisms {
        list.extend(mechanism.bytes().filter(|&byte| byte != 0));
        list.push(0);
    }
    list.push(0);
    authentication(10, &list)
}

/// AuthenticationSASLContinue with the mechanism's own message.
pub fn sasl_continue(data: &[u8]) -> Vec<u8> {
    authentication(11, data)
}

/// AuthenticationSASLFinal with the mechanism's own message.
pub fn sasl_final(data: &[u8]) -> Vec<u8> {
    authentication(12, data)
}

/// ParameterStatus. The value is bytes, because a server sends it in the client's encoding.
///
/// # Errors
/// [`Complaint::Unencodable`] for a NUL in either.
pub fn parameter_status(name: &str, value: impl AsRef<[u8]>) -> Result<Vec<u8>, Complaint> {
    let mut body = Vec::new();
    push_c_string(&mut body, name.as_bytes())
        .and_then(|()| push_c_string(&mut body, value.as_ref()))
        .ok_or(Complaint::Unencodable("a NUL in a parameter status"))?;
    Ok(message(b'S', |out| out.append(&mut body)))
}

/// BackendKeyData. The secret has exactly 4 bytes in protocol 3.0, up to 256 in 3.2.
///
/// # Errors
/// [`Complaint::CancelLength`] unless the secret has 4 to 256 bytes.
pub fn backend_key_data(pid: u32, secret: &[u8]) -> Result<Vec<u8>, Complaint> {
    if !(MIN_CANCEL_KEY..=MAX_CANCEL_KEY).contains(&secret.len()) {
        return Err(Complaint::CancelLength {
            secret: Some(secret.len()),
        });
    }
    Ok(message(b'K', |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(secret);
    }))
}

/// ReadyForQuery.
pub fn ready_for_query(status: TransactionStatus) -> Vec<u8> {
    message(b'Z', |out| out.push(status.to_byte()))
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    })
}
