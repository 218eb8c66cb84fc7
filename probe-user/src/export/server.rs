//! The metrics endpoint: `GET /metrics`, in the form that the scraper asks for, and nothing else.
//!
//! Bounded in every way: connections, their time, the size of a request. It serves what it was last given
//! ([`Latest`]) and never waits for the source, nor the source for it. HTTP and TLS are hyper's and rustls's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use probe_model::metric::Family;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::openmetrics::{self, Dialect};
use super::protobuf;

/// Connections at one time. Another one is told to come back.
const MOST_CONNECTIONS: usize = 32;
/// For a request to come whole, and for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of a request's head.
const LONGEST_REQUEST: usize = 8 << 10;

/// What is served: the metrics as they were last.
#[derive(Clone, Default)]
pub struct Latest(Arc<RwLock<Arc<Vec<Family>>>>);

impl Latest {
    /// Serve these from now on.
    pub fn set(&self, families: Vec<Family>) {
        // Nothing panics while it holds the lock.
        if let Ok(mut latest) = self.0.write() {
            *latest = Arc::new(families);
        }
    }

    fn get(&self) -> Arc<Vec<Family>> {
        self.0.read().map(|latest| Arc::clone(&latest)).unwrap_or_default()
    }
}

/// Where and how to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port.
    pub listen: SocketAddr,
    /// What a scraper must know: `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Certificates and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What can go wrong before the first request.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot read {path}: {why}")]
    Pem { path: String, why: String },
    #[error("cannot serve TLS with this certificate and key: {0}")]
    Tls(#[from] rustls::Error),
}

/// An endpoint that listens.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
    latest: Latest,
}

impl Server {
    /// Listen. Inside a tokio runtime.
    pub async fn listen(config: &Config, latest: Latest) -> Result<Self, ServeError> {
        let tls = config.tls.as_ref().map(|(certificates, key)| acceptor(certificates, key)).transpose()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServeError::Listen { address: config.listen, source })?;
        Ok(Self { listener, tls, token: config.token.as_deref().map(Arc::from), latest })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answer, for ever.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // No descriptors left, most likely: connections that end give some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (latest, token, tls) = (self.latest.clone(), self.token.clone(), self.tls.clone());
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tokio::spawn(tokio::time::timeout(PATIENCE, turn_away(stream, tls.is_some())));
                continue;
            };
            tokio::spawn(async move {
                let _place = place;
                // What goes wrong with one connection is that client's to notice.
                let _ = tokio::time::timeout(2 * PATIENCE, async {
                    match tls {
                        None => converse(stream, latest, token).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, latest, token).await;
                            }
                        }
                    }
                })
                .await;
            });
        }
    }
}

async fn turn_away(mut stream: TcpStream, is_tls: bool) {
    if !is_tls {
        let busy = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(busy).await;
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    latest: Latest,
    token: Option<Arc<str>>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &latest, token.as_deref());
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn respond<B>(request: &Request<B>, latest: &Latest, token: Option<&str>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if token.is_some_and(|token| !is_known(request.headers(), token)) {
        let mut response = plain(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        response.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
        return response;
    }
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let families = latest.get();
    let (kind, body) = match wanted(request.headers()) {
        Form::Protobuf => (protobuf::CONTENT_TYPE, protobuf::encode(&families)),
        Form::OpenMetrics => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            openmetrics::text(&families, Dialect::OpenMetrics).into_bytes(),
        ),
        Form::Prometheus => (
            "text/plain; version=0.0.4; charset=utf-8",
            openmetrics::text(&families, Dialect::Prometheus).into_bytes(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// Whether the request knows the token; it takes as long when it does not.
fn is_known(headers: &HeaderMap, token: &str) -> bool {
    let said = headers
        .get(AUTHORIZATION)
        .map(hyper::header::HeaderValue::as_bytes)
        .and_then(|value| value.strip_prefix(b"Bearer "));
    let said = said.unwrap_or_default();
    let differing = said.iter().zip(token.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    differing == 0 && said.len() == token.len()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    OpenMetrics,
    Prometheus,
}

/// What the scraper likes best of what there is (RFC 9110, 12.5.1).
fn wanted(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = (0.0, Form::Prometheus);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<&str> = parts.collect();
        let has = |wanted: &str| parameters.iter().any(|parameter| parameter.eq_ignore_ascii_case(wanted));
        let form = match kind.as_str() {
            "application/vnd.google.protobuf"
                if has("proto=io.prometheus.client.MetricFamily") && has("encoding=delimited") =>
            {
                Form::Protobuf
            }
            "application/openmetrics-text" if !has("version=0.0.1") => Form::OpenMetrics,
            "text/plain" | "*/*" => Form::Prometheus,
            _ => continue,
        };
        let weight = parameters.iter().find_map(|parameter| parameter.strip_prefix("q="));
        let weight: f64 = weight.map_or(Some(1.0), |weight| weight.parse().ok()).unwrap_or(0.0);
        if weight > best.0 {
            best = (weight, form);
        }
    }
    best.1
}

fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| ServeError::Pem {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(certificates, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        [(ACCEPT, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_scraper_gets_what_it_likes_best() {
        let proto =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        assert_eq!(wanted(&HeaderMap::new()), Form::Prometheus);
        assert_eq!(wanted(&accept("*/*")), Form::Prometheus);
        // What Prometheus 2.53 sends, with native histograms and without.
        let with = format!(
            "{proto},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
        );
        assert_eq!(wanted(&accept(&with)), Form::Protobuf);
        let without =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(wanted(&accept(without)), Form::OpenMetrics);
        assert_eq!(wanted(&accept("application/vnd.google.protobuf, text/plain;q=0.1")), Form::Prometheus);
        assert_eq!(wanted(&accept("image/png;q=x")), Form::Prometheus);
    }

    #[test]
    fn only_metrics_and_only_for_who_may() {
        let ask = |method: Method, path: &str, token: Option<&str>| {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.body(()).unwrap();
            let open = respond(&request, &Latest::default(), None).status().as_u16();
            (open, respond(&request, &Latest::default(), Some("secret")).status().as_u16())
        };
        assert_eq!(ask(Method::GET, "/metrics", None), (200, 401));
        assert_eq!(ask(Method::GET, "/metrics", Some("Bearer secret")), (200, 200));
        assert_eq!(ask(Method::HEAD, "/metrics", Some("Bearer secret")), (200, 200));
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "Bearer Secret"] {
            assert_eq!(ask(Method::GET, "/metrics", Some(wrong)).1, 401, "{wrong}");
        }
        assert_eq!(ask(Method::GET, "/", Some("Bearer secret")), (404, 404));
        assert_eq!(ask(Method::POST, "/metrics", Some("Bearer secret")), (405, 405));
    }
}
