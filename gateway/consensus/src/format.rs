//! A tenant's document as bytes, as files of layout 1 hold it: one byte for the format, then the
//! document in postcard.
//!
//! Every format ever written stays readable. `testdata/` keeps bytes of each; a change of the
//! document's types that alters what these bytes mean needs a new number and a reader for the old.

use portcullis_policy::Tenant;

/// The format that is written today.
const CURRENT: u8 = 1;

/// The bytes of a document in this format.
#[cfg(test)]
pub(crate) fn encode(tenant: &Tenant) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(tenant, vec![CURRENT])
}

/// Reads a document in any format that was ever written.
pub(crate) fn decode(bytes: &[u8]) -> Result<Tenant, DecodeError> {
    match bytes.split_first() {
        Some((&CURRENT, body)) => match postcard::take_from_bytes(body) {
            Ok((tenant, [])) => Ok(tenant),
            Ok(_) => Err(DecodeError::Malformed("bytes after its end".to_owned())),
            Err(error) => Err(DecodeError::Malformed(error.to_string())),
        },
        Some((&format, _)) if format > CURRENT => Err(DecodeError::Newer(format)),
        Some((format, _)) => Err(DecodeError::Malformed(format!("format {format}"))),
        None => Err(DecodeError::Malformed("no bytes".to_owned())),
    }
}

/// Why bytes are not a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// A format that only a later version knows.
    Newer(u8),
    /// Not a document in the format that it claims.
    Malformed(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `NAME.v1.bin` must decode to `NAME.json`, for ever.
    #[test]
    fn documents_written_in_format_1_are_read_as_they_were_meant() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for name in ["empty", "everything"] {
            let json = std::fs::read(directory.join(format!("{name}.json"))).unwrap();
            let expected: Tenant = serde_json::from_slice(&json).unwrap();
            let path = directory.join(format!("{name}.v1.bin"));
            if std::env::var_os("BLESS").is_some() && !path.exists() {
                std::fs::write(&path, encode(&expected).unwrap()).unwrap();
            }
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(decode(&bytes), Ok(expected), "{name}");
        }
    }

    #[test]
    fn what_is_written_today_is_what_format_1_was() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for name in ["empty", "everything"] {
            let bytes = std::fs::read(directory.join(format!("{name}.v1.bin"))).unwrap();
            assert_eq!(bytes, encode(&decode(&bytes).unwrap()).unwrap(), "{name}");
        }
    }

    #[test]
    fn other_formats_and_broken_bytes_are_told_apart_and_never_panic() {
        let bytes =
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/everything.v1.bin"))
                .unwrap();
        let with_first = |first: u8| {
            let mut bytes = bytes.clone();
            bytes[0] = first;
            bytes
        };
        assert_eq!(decode(&with_first(2)), Err(DecodeError::Newer(2)));
        assert!(matches!(
            decode(&with_first(0)),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(decode(&[]), Err(DecodeError::Malformed(_))));
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(decode(&longer), Err(DecodeError::Malformed(_))));
        for end in 1..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 1..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let _ = decode(&flipped);
        }
    }
}
