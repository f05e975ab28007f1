//! What we say to a server when we sign in to it. Each function returns a whole message.

use zeroize::Zeroizing;

use super::message;
use crate::Complaint;

/// PasswordMessage. The buffer is wiped when dropped.
///
/// # Errors
/// [`Complaint::Unencodable`] for a NUL in the password: the server would see a shorter one.
pub fn password(password: &str) -> Result<Zeroizing<Vec<u8>>, Complaint> {
    if password.contains('\0') {
        return Err(Complaint::Unencodable("a NUL in a password"));
    }
    Ok(Zeroizing::new(message(b'p', |out| {
        // Growing would leave a copy behind.
        out.reserve_exact(password.len() + 1);
        out.extend_from_slice(password.as_bytes());
        out.push(0);
    })))
}

/// SASLInitialResponse with the mechanism's first message. `mechanism` is one of ours, free of NULs.
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Vec<u8> {
    // SASL messages of ours are a few hundred bytes.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    message(b'p', |out| {
        out.extend(mechanism.bytes().filter(|&byte| byte != 0));
        out.push(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
    })
}

/// SASLResponse with the mechanism's own message.
pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    message(b'p', |out| out.extend_from_slice(data))
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', |_| {})
}
