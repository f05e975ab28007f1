//! The HTTP of an object store's client: its requests over our own engine and our own TLS.
//!
//! One connection a request, as everywhere in this room; a deadline and a largest answer for each.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::client::{AnswerLimits, ClientError, connect_tls, read_body, with_sources};
use super::limits::HTTPS_CONNECT_TIME;
use super::url::HttpsUrl;

/// Carries the requests of an object store's client.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Whom it believes to be the store.
    pub tls: Arc<ClientConfig>,
    /// What one answer may cost.
    pub limits: AnswerLimits,
}

/// Options by which every request carries these headers, under its signature. One whose value no header can have is left out.
#[must_use]
pub fn with_headers<const N: usize>(headers: [(&'static str, &str); N]) -> ClientOptions {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(name, value);
        }
    }
    ClientOptions::new().with_default_headers(map)
}

impl HttpConnector for Carrier {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Carrier {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = timeout(self.limits.time, self.ask(request)).await;
        let answered = answered.unwrap_or(Err(ClientError::TimeOver(self.limits.time)));
        answered.map_err(|error| HttpError::new(kind(&error), error))
    }
}

impl Carrier {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, ClientError> {
        let (mut parts, body) = request.into_parts();
        let text = parts.uri.to_string();
        let url = HttpsUrl::parse(&text)?;
        let unusable = || ClientError::Url("its path or host cannot be put in a request");
        parts.uri = url.target.parse().map_err(|_| unusable())?;
        let host = HeaderValue::from_str(url.authority).map_err(|_| unusable())?;
        parts.headers.insert(HOST, host);
        let close = HeaderValue::from_static("close");
        parts.headers.insert(CONNECTION, close);
        let stream = timeout(HTTPS_CONNECT_TIME, connect_tls(&url, Arc::clone(&self.tls)))
            .await
            .map_err(|_| ClientError::TimeOver(HTTPS_CONNECT_TIME))??;
        let broke = |error: hyper::Error| ClientError::Exchange(with_sources(&error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, HttpRequestBody>(TokioIo::new(stream))
                .await
                .map_err(broke)?;
        // Aborted when this function ends, however it ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::from_parts(parts, body);
        let (parts, body) = sender
            .send_request(request)
            .await
            .map_err(broke)?
            .into_parts();
        let body = Bytes::from(read_body(body, self.limits.bytes).await?);
        let body = HttpResponseBody::new(http_body_util::Full::new(body).map_err(|it| match it {}));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// What the store's client may do about it.
fn kind(error: &ClientError) -> HttpErrorKind {
    match error {
        ClientError::Connect(_) | ClientError::Tls(_) => HttpErrorKind::Connect,
        ClientError::Exchange(_) => HttpErrorKind::Interrupted,
        ClientError::TimeOver(_) => HttpErrorKind::Timeout,
        ClientError::Url(_) | ClientError::TooLarge(_) | ClientError::Status(_) => {
            HttpErrorKind::Unknown
        }
    }
}
