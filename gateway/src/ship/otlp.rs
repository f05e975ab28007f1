//! OTLP logs over HTTP, in its JSON encoding (<https://opentelemetry.io/docs/specs/otlp>).

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use portcullis_certs::https_client_config;
use serde_json::{Value, json};
use tokio_rustls::rustls::ClientConfig;
use zeroize::Zeroizing;

use super::limits::{SHIP_BATCH, SHIP_OTLP_ANSWER, SHIP_OTLP_TIME};
use super::ocsf::{Severity, severity};
use super::{Failed, Item, Sink, Taken};
use crate::config::node::{OtlpTarget, read_secret};
use crate::http::SYSTEM_AUTHORITIES;
use crate::http::client::{AnswerLimits, post_any};
use crate::runtime::clock;

/// A receiver of OTLP logs.
#[derive(Debug)]
pub struct Otlp {
    target: OtlpTarget,
    node: String,
    /// Read at the first batch.
    tls: Option<Arc<ClientConfig>>,
    /// Entries in one request: fewer once the receiver found one too large.
    most: usize,
    /// What was taken of a batch whose rest failed: at most one batch.
    begun: Begun,
}

/// The part of a batch that a receiver has answered for, until all of it is.
#[derive(Debug, Default)]
struct Begun {
    /// Which entries are not sent again when the batch is,
    uids: HashSet<String>,
    /// and what is still to be told of them.
    taken: Taken,
}

impl Begun {
    fn add(&mut self, items: &[Item], taken: Taken) {
        self.uids.extend(items.iter().map(Item::uid));
        if let Some((rejected, why)) = taken.rejected {
            let before = self
                .taken
                .rejected
                .as_ref()
                .map_or(0, |(before, _)| *before);
            self.taken.rejected = Some((before.saturating_add(rejected), why));
        }
    }

    /// What of a batch is still to be sent.
    fn rest(&mut self, items: &[Item]) -> Vec<Item> {
        // What is not in the batch is behind the cursor by now.
        let here: HashSet<String> = items.iter().map(Item::uid).collect();
        self.uids.retain(|uid| here.contains(uid));
        let left = |item: &&Item| !self.uids.contains(&item.uid());
        items.iter().filter(left).cloned().collect()
    }
}

impl Otlp {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(target: OtlpTarget, node: String) -> Self {
        if target.url.starts_with("http://") {
            tracing::warn!(
                url = place(&target.url),
                "entries of the audit logs are sent without encryption: [audit.otlp] has an http:// URL"
            );
        }
        Self {
            target,
            node,
            tls: None,
            most: SHIP_BATCH,
            begun: Begun::default(),
        }
    }

    async fn trust(&mut self) -> Result<Option<Arc<ClientConfig>>, Failed> {
        if self.target.url.starts_with("http://") {
            return Ok(None);
        }
        if self.tls.is_none() {
            let file = self.target.ca.as_deref();
            let file = file.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
            let text = tokio::fs::read_to_string(file).await;
            let config = text
                .map_err(|error| error.to_string())
                .and_then(|text| https_client_config(&text).map_err(|error| error.to_string()));
            self.tls =
                Some(config.map_err(|why| Failed::new(format!("{}: {why}", file.display())))?);
        }
        Ok(self.tls.clone())
    }

    async fn token(&self) -> Result<Option<Zeroizing<String>>, Failed> {
        let Some(file) = self.target.token.clone() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || read_secret(&file, "a token"));
        let token = read.await.map_err(Failed::new)?;
        token.map(Some).map_err(Failed::new)
    }

    async fn post(&mut self, items: &[Item]) -> Result<Taken, Failed> {
        let url = self.target.url.clone();
        let place = place(&url);
        let tls = self.trust().await?;
        let body = request(items, &self.node, clock::now().as_millis());
        let limits = AnswerLimits {
            bytes: SHIP_OTLP_ANSWER,
            time: SHIP_OTLP_TIME,
        };
        let token = self.token().await?;
        let token = token.as_ref().map(|token| token.trim());
        let answer = post_any(&url, tls, body.to_string().into_bytes(), token, limits);
        let answer = answer.await.map_err(|error| {
            // The certificate's authority may have been replaced.
            self.tls = None;
            let source = std::error::Error::source(&error);
            let cause = source.map(|cause| format!(": {cause}")).unwrap_or_default();
            Failed::new(format!("{place}: {error}{cause}"))
        })?;
        match answer.status {
            200 => {
                let taken = taken(&answer.body, items.len(), token);
                return taken.map_err(|why| Failed::new(format!("{place}: {why}")));
            }
            // Too much at once, most often for a proxy in between.
            413 if items.len() > 1 => self.most = items.len().div_ceil(2),
            _ => {}
        }
        // Whatever else is answered, nothing is passed over: what will not be taken is held back until somebody has seen to it.
        let said = told(&String::from_utf8_lossy(&answer.body), token);
        let first = items.first().map(Item::uid).unwrap_or_default();
        let why = format!(
            "{place}: answered with status {} to {} entries from {first} on: {said}",
            answer.status,
            items.len()
        );
        Err(Failed {
            why,
            after: answer.retry_after,
        })
    }
}

/// A URL as it is told: what comes behind a question mark may be secret.
fn place(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

impl Sink for Otlp {
    const NAME: &'static str = "otlp";

    async fn send(&mut self, items: Arc<[Item]>) -> Result<Taken, Failed> {
        let rest = self.begun.rest(&items);
        for items in rest.chunks(self.most) {
            let taken = self.post(items).await?;
            self.begun.add(items, taken);
        }
        Ok(std::mem::take(&mut self.begun).taken)
    }
}

/// Characters of an answer that are told.
const SAID: usize = 200;

/// What a receiver says, as it is told: without the token, since some say what they were shown, and without control characters.
fn told(said: &str, token: Option<&str>) -> String {
    let plain: String = said.chars().filter(|it| !it.is_control()).collect();
    let hidden = match token.filter(|token| !token.is_empty()) {
        Some(token) => plain.replace(token, "TOKEN"),
        None => plain,
    };
    hidden.chars().take(SAID).collect()
}

/// An `ExportLogsServiceRequest`.
fn request(items: &[Item], node: &str, now_ms: i64) -> Value {
    let records: Vec<Value> = items.iter().map(|item| record(item, now_ms)).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": [
            text("service.name", "portcullis"),
            text("service.instance.id", node),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeLogs": [{
            "scope": {"name": "portcullis.audit"},
            "logRecords": records,
        }],
    }]})
}

fn record(item: &Item, now_ms: i64) -> Value {
    let event = &item.event;
    let (number, name) = match severity(&event.kind) {
        Severity::Informational => (9, "INFO"),
        Severity::Medium => (13, "WARN"),
        Severity::High => (17, "ERROR"),
    };
    let mut attributes = vec![
        text("log.record.uid", &item.uid()),
        text("portcullis.log", &item.origin),
        number_of("portcullis.index", item.first),
        text("portcullis.node", &event.node),
    ];
    if item.is_gap() {
        attributes.push(number_of("portcullis.last", item.last));
    }
    if let Some(tenant) = &event.tenant {
        attributes.push(text("portcullis.tenant", tenant));
    }
    if let Some(reference) = &event.reference {
        attributes.push(text("portcullis.reference", reference));
    }
    json!({
        "timeUnixNano": nanoseconds(event.at_ms),
        "observedTimeUnixNano": nanoseconds(now_ms),
        "severityNumber": number,
        "severityText": name,
        "eventName": &*event.kind,
        // As it stands in the log, so that it can be proved.
        "body": {"stringValue": item.line},
        "attributes": attributes,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Numbers of 64 bits are text in this encoding.
fn number_of(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

/// They count from 1970 on.
fn nanoseconds(at_ms: i64) -> String {
    let milliseconds = u64::try_from(at_ms).unwrap_or_default();
    milliseconds.saturating_mul(1_000_000).to_string()
}

/// What a receiver that answered 200 has taken of so many entries. Whoever answers 200 to everything, such as a proxy's sign-in page, has taken nothing.
fn taken(body: &[u8], sent: usize, token: Option<&str>) -> Result<Taken, String> {
    if body.trim_ascii().is_empty() {
        return Ok(Taken::default());
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let Value::Object(answer) = answer else {
        return Err("answered with status 200, but not as an OTLP receiver does".to_owned());
    };
    let Some(partial) = answer.get("partialSuccess") else {
        return Ok(Taken::default());
    };
    let rejected = match partial.get("rejectedLogRecords") {
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(Value::Number(number)) => number.as_u64(),
        Some(_) => None,
        None => Some(0),
    };
    let rejected: u64 =
        rejected.ok_or("answered with a number of rejected entries that is none")?;
    if usize::try_from(rejected).map_or(true, |rejected| rejected > sent) {
        return Err(format!(
            "says that it rejected {rejected} entries of {sent} that it was sent"
        ));
    }
    let message = partial.get("errorMessage").and_then(Value::as_str);
    let message = told(message.unwrap_or_default(), token);
    if rejected == 0 && !message.is_empty() {
        tracing::warn!(
            message,
            "what an OTLP receiver says of entries that it took"
        );
    }
    Ok(Taken {
        rejected: (rejected > 0).then_some((rejected, message)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::{Event, kinds};

    #[test]
    fn a_request_is_what_the_json_encoding_says() {
        let mut event = Event::new(1_700_000_000_123, kinds::POLICY_REJECTED, "n1").with("a", "\n");
        event.tenant = Some("acme".to_owned());
        let line = event.line();
        let item = Item::entry("fleet", "portcullis/7f3a", 1 << 60, line.as_bytes()).unwrap();
        let request = request(&[item], "n2", 5);
        let record = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1700000000123000000");
        assert_eq!(record["observedTimeUnixNano"], "5000000");
        assert_eq!(
            (&record["severityNumber"], &record["severityText"]),
            (&13.into(), &"WARN".into())
        );
        assert_eq!(record["body"]["stringValue"], line);
        let index = &record["attributes"][2];
        assert_eq!(index["key"], "portcullis.index");
        assert_eq!(index["value"]["intValue"], "1152921504606846976");
    }

    #[test]
    fn an_answer_of_200_counts_only_as_far_as_it_says() {
        let check = |body: &str, rejected: Option<(u64, String)>| {
            assert_eq!(
                taken(body.as_bytes(), 3, None).unwrap().rejected,
                rejected,
                "{body}"
            );
        };
        check("", None);
        check("{}", None);
        check(r#"{"partialSuccess":{}}"#, None);
        check(
            r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow"}}"#,
            None,
        );
        let three = Some((3, "old".to_owned()));
        check(
            r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"old"}}"#,
            three.clone(),
        );
        check(
            r#"{"partialSuccess":{"rejectedLogRecords":3,"errorMessage":"old"}}"#,
            three,
        );
        for body in [
            "<html>",
            "[]",
            r#"{"partialSuccess":{"rejectedLogRecords":-1}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":4}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":"18446744073709551615"}}"#,
        ] {
            assert!(taken(body.as_bytes(), 3, None).is_err(), "{body}");
        }
    }

    #[tokio::test]
    async fn what_was_rejected_before_a_failure_is_told_and_not_sent_again() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
        let receiver = tokio::spawn(async move {
            let rejects = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"old"}}"#;
            let mut heard = Vec::new();
            for (status, body) in [("200 OK", rejects), ("503 Away", ""), ("200 OK", "{}")] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut said = Vec::new();
                // The entries end the request.
                while !said.ends_with(b"]}") {
                    assert!(stream.read_buf(&mut said).await.unwrap() > 0);
                }
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let said = String::from_utf8_lossy(&said).into_owned();
                heard.push(["\"l:1\"", "\"l:2\""].map(|uid| said.contains(uid)));
            }
            heard
        });
        let line = Event::new(1, kinds::POLICY_REJECTED, "n1").line();
        let item = |index| Item::entry("fleet", "l", index, line.as_bytes()).unwrap();
        let items: Arc<[Item]> = Arc::new([item(1), item(2)]);
        let (ca, token) = (None, None);
        let mut sink = Otlp::new(OtlpTarget { url, ca, token }, "n1".to_owned());
        sink.most = 1;
        assert!(sink.send(Arc::clone(&items)).await.is_err());
        let taken = sink.send(items).await.unwrap();
        assert_eq!(taken.rejected, Some((1, "old".to_owned())));
        let heard = receiver.await.unwrap();
        assert_eq!(heard, [[true, false], [false, true], [false, true]]);
    }

    #[test]
    fn a_receiver_that_echoes_the_token_does_not_bring_it_into_the_log() {
        // Also where a control character parts it, which is left out.
        for echo in ["Bearer s3cret\u{1b}[31m", "Bearer s3\u{7}cret[31m"] {
            let body = json!({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": echo}});
            let taken = taken(body.to_string().as_bytes(), 1, Some("s3cret")).unwrap();
            let said = "Bearer TOKEN[31m".to_owned();
            assert_eq!(taken.rejected, Some((1, said)), "{echo:?}");
        }
    }
}
