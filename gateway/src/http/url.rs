//! URLs that are asked.

use super::client::ClientError;

/// `https://host[:port][/path][?query]`, nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpsUrl<'a> {
    pub(super) authority: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) target: &'a str,
}

impl<'a> HttpsUrl<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, ClientError> {
        let rest = url
            .strip_prefix("https://")
            .ok_or(ClientError::Url("it does not begin with https://"))?;
        Self::after_scheme(url, rest, HTTPS_PORT)
    }

    pub(super) fn after_scheme(url: &str, rest: &'a str, port: u16) -> Result<Self, ClientError> {
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(ClientError::Url(
                "it contains a fragment, a space or a character outside of ASCII",
            ));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest
            .split_at_checked(end)
            .ok_or(ClientError::Url("it has no host"))?;
        if authority.contains('@') {
            return Err(ClientError::Url("it carries credentials"));
        }
        if target.starts_with('?') {
            return Err(ClientError::Url("its query has no path before it"));
        }
        let (host, port) = split_port(authority, port)?;
        let target = if target.is_empty() { "/" } else { target };
        Ok(Self {
            authority,
            host,
            port,
            target,
        })
    }
}

const HTTPS_PORT: u16 = 443;

pub(super) const HTTP_PORT: u16 = 80;

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), ClientError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or(ClientError::Url("its IPv6 address has no end"))?;
            (
                host,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').unwrap_or_default())
                },
            )
        }
        None => authority
            .split_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(ClientError::Url("it has no host"));
    }
    let port = port
        .map_or(Ok(default), str::parse)
        .map_err(|_| ClientError::Url("its port is not a number"))?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_https_url_is_taken_apart() {
        let check = |url, authority, host, port, target| {
            assert_eq!(
                HttpsUrl::parse(url).unwrap(),
                HttpsUrl {
                    authority,
                    host,
                    port,
                    target
                },
                "{url}"
            );
        };
        check(
            "https://idp.example/keys?v=1",
            "idp.example",
            "idp.example",
            443,
            "/keys?v=1",
        );
        check(
            "https://idp.example:8443",
            "idp.example:8443",
            "idp.example",
            8443,
            "/",
        );
        check("https://[::1]:8443/k", "[::1]:8443", "::1", 8443, "/k");
        check("https://[::1]", "[::1]", "::1", 443, "/");
    }

    #[test]
    fn any_other_url_is_refused() {
        for url in [
            "http://idp.example/",
            "https://",
            "https:///keys",
            "https://user@idp.example/",
            "https://idp.example/#k",
            "https://idp.example/ k",
            "https://idp.example:port/",
            "https://idp.example?k",
            "https://[::1/",
            "https://[::1]x/",
            "file:///etc/passwd",
        ] {
            assert!(
                matches!(HttpsUrl::parse(url), Err(ClientError::Url(_))),
                "{url}"
            );
        }
    }
}
