//! From method and path to an action: an exact match on a path in normal form.
//!
//! A path has one spelling. No percent-encoding, no empty, `.` or `..` segment, no trailing slash:
//! what cannot be spelled twice cannot be mistaken by a rule in front of us for something else.

use std::collections::BTreeMap;

use super::limits::{MAX_BODY, MAX_PATH, REQUEST_TIME};
use super::message::Method;
use crate::runtime::clock::Duration;

/// The routes of one listener.
#[derive(Clone, Debug)]
pub struct Router<A> {
    routes: Vec<Route<A>>,
}

impl<A: Copy> Router<A> {
    /// A router over these routes. The first that matches wins.
    #[must_use]
    pub const fn new(routes: Vec<Route<A>>) -> Self {
        Self { routes }
    }

    /// Every method and path, with the action that it leads to, in order.
    pub fn paths(&self) -> impl Iterator<Item = (Method, &'static str, A)> {
        let routes = self.routes.iter();
        routes.map(|route| (route.method, route.pattern, route.action))
    }

    /// The route for a request.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, method: &str, path: &str, query: Option<&str>) -> Result<Found<A>, Miss> {
        let segments = segments(path).ok_or(Miss::NotNormal)?;
        let query = parse_query(query.unwrap_or_default()).ok_or(Miss::NotNormal)?;
        let mut allow = Vec::new();
        for route in &self.routes {
            let Some(captured) = capture(route.pattern, &segments) else {
                continue;
            };
            if Method::of(method) == Some(route.method) {
                return Ok(Found {
                    action: route.action,
                    captured,
                    query,
                    body_limit: route.body_limit,
                    time_limit: route.time_limit,
                });
            }
            allow.push(route.method);
        }
        if allow.is_empty() {
            Err(Miss::NoSuchPath)
        } else {
            Err(Miss::WrongMethod { allow })
        }
    }
}

/// One method on one path, and what it may cost.
#[derive(Clone, Debug)]
pub struct Route<A> {
    method: Method,
    pattern: &'static str,
    action: A,
    body_limit: usize,
    time_limit: Duration,
}

impl<A> Route<A> {
    /// A GET: its body must be empty. `pattern` is the path, with `{}` for a segment to capture.
    #[must_use]
    pub const fn get(pattern: &'static str, action: A) -> Self {
        Self {
            method: Method::Get,
            pattern,
            action,
            body_limit: 0,
            time_limit: REQUEST_TIME,
        }
    }

    /// A POST with the ordinary limits.
    #[must_use]
    pub const fn post(pattern: &'static str, action: A) -> Self {
        Self {
            method: Method::Post,
            pattern,
            action,
            body_limit: MAX_BODY,
            time_limit: REQUEST_TIME,
        }
    }

    /// The same route with another limit on its body (bytes) and on its time.
    #[must_use]
    pub const fn within(mut self, body_limit: usize, time_limit: Duration) -> Self {
        self.body_limit = body_limit;
        self.time_limit = time_limit;
        self
    }
}

/// A route found for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<A> {
    /// What to do.
    pub action: A,
    /// The segments that stood where the pattern says `{}`.
    pub captured: Vec<String>,
    /// The query, each name at most once.
    pub query: BTreeMap<String, String>,
    /// Bytes that the body may have.
    pub body_limit: usize,
    /// Time that the whole request may take.
    pub time_limit: Duration,
}

/// Why no route was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path or the query is not in normal form.
    NotNormal,
    /// No route has this path.
    NoSuchPath,
    /// The path exists, with other methods.
    WrongMethod {
        /// Those methods.
        allow: Vec<Method>,
    },
}

/// The segments of a path in normal form.
fn segments(path: &str) -> Option<Vec<&str>> {
    if path.len() > MAX_PATH {
        return None;
    }
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let normal = |segment: &&str| !matches!(*segment, "" | "." | "..") && is_plain(segment);
    // The root is a path, too: one whose only segment is empty.
    if path == "/" {
        return Some(segments);
    }
    segments.iter().all(normal).then_some(segments)
}

fn parse_query(query: &str) -> Option<BTreeMap<String, String>> {
    if query.len() > MAX_PATH {
        return None;
    }
    let mut pairs = BTreeMap::new();
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let plain = !name.is_empty() && is_plain(name) && value.split('/').all(is_plain);
        if !plain || pairs.insert(name.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    Some(pairs)
}

/// Characters that mean themselves in a path or query (RFC 3986 "unreserved", and `:`); in a query's value `/` does, too.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':')
    })
}

fn capture(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let pattern: Vec<&str> = pattern.strip_prefix('/')?.split('/').collect();
    if pattern.len() != segments.len() {
        return None;
    }
    let mut captured = Vec::new();
    for (wanted, given) in pattern.iter().zip(segments) {
        if *wanted == "{}" && !given.is_empty() {
            captured.push((*given).to_owned());
        } else if wanted != given {
            return None;
        }
    }
    Some(captured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        List,
        Make,
        One,
    }

    fn find(method: &str, path: &str) -> Result<(Action, Vec<String>), Miss> {
        let router = Router::new(vec![
            Route::get("/v1/things", Action::List),
            Route::post("/v1/things", Action::Make),
            Route::get("/v1/things/{}", Action::One),
            Route::get("/", Action::List),
        ]);
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        router
            .find(method, path, query)
            .map(|found| (found.action, found.captured))
    }

    #[test]
    fn the_same_path_leads_to_different_actions_by_method() {
        assert_eq!(find("GET", "/v1/things"), Ok((Action::List, vec![])));
        assert_eq!(find("POST", "/v1/things"), Ok((Action::Make, vec![])));
    }

    #[test]
    fn the_root_is_a_path_that_captures_nothing() {
        assert_eq!(find("GET", "/"), Ok((Action::List, vec![])));
        let router = Router::new(vec![Route::get("/{}", Action::One)]);
        assert_eq!(router.find("GET", "/", None), Err(Miss::NoSuchPath));
    }

    #[test]
    fn a_segment_is_captured_as_it_stands() {
        assert_eq!(
            find("GET", "/v1/things/PC-1234"),
            Ok((Action::One, vec!["PC-1234".to_owned()]))
        );
    }

    #[test]
    fn another_method_on_a_known_path_is_told_which_ones_exist() {
        assert_eq!(
            find("DELETE", "/v1/things"),
            Err(Miss::WrongMethod {
                allow: vec![Method::Get, Method::Post]
            })
        );
        assert_eq!(
            find("get", "/v1/things"),
            Err(Miss::WrongMethod {
                allow: vec![Method::Get, Method::Post]
            })
        );
        assert_eq!(
            find("HEAD", "/v1/things/a"),
            Err(Miss::WrongMethod {
                allow: vec![Method::Get]
            })
        );
    }

    #[test]
    fn a_path_that_could_be_spelled_otherwise_is_not_in_normal_form() {
        for path in [
            "",
            "v1/things",
            "/v1//things",
            "/v1/things/",
            "/v1/./things",
            "/v1/../v1/things",
            "/v1/%74hings",
            "/v1/things/a;b",
        ] {
            assert_eq!(find("GET", path), Err(Miss::NotNormal), "{path}");
        }
        let long = format!("/{}", "a".repeat(MAX_PATH));
        assert_eq!(find("GET", &long), Err(Miss::NotNormal));
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        assert_eq!(find("GET", "/v1/other"), Err(Miss::NoSuchPath));
        assert_eq!(find("GET", "/v1/things/a/b"), Err(Miss::NoSuchPath));
        assert_eq!(find("GET", "/V1/things"), Err(Miss::NoSuchPath));
    }

    #[test]
    fn a_query_names_each_thing_once_and_plainly() {
        assert!(find("GET", "/v1/things?at=2027-01-01T00:00:00Z&tenant=acme").is_ok());
        assert!(find("GET", "/v1/things?path=tenants/acme").is_ok());
        assert!(find("GET", "/v1/things?").is_ok());
        for query in ["a=1&a=2", "a", "=1", "a=%31", "a=1+2", "a=1&", "&a=1"] {
            assert_eq!(
                find("GET", &format!("/v1/things?{query}")),
                Err(Miss::NotNormal),
                "{query}"
            );
        }
    }
}
