//! The Prometheus endpoint: `GET /metrics` over plain HTTP, on a thread of its own.
//!
//! A connection serves one request and has a few seconds for everything, so that a client which sends or reads slowly
//! holds nothing but one of a few places.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, oneshot};

use super::prometheus;
use super::table::Metrics;

/// Where the metrics are.
const PATH: &str = "/metrics";
/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// Time of a connection from its acceptance to its end. Prometheus itself gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head, past which it is answered 431.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// After a failed accept: there are no file descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The open port, not yet served.
pub(crate) struct HttpServer {
    runtime: Runtime,
    listener: TcpListener,
    exporter: Exporter,
    patience: Duration,
    stop: oneshot::Receiver<()>,
}

/// Dropped, it ends the thread of its [`HttpServer`], and with it every connection.
pub(crate) struct HttpHandle {
    /// Nothing is ever sent: the other end hears that this one is gone.
    _stop: oneshot::Sender<()>,
}

/// What is served.
struct Exporter {
    metrics: Arc<Metrics>,
    /// `metricsProvider.exportJvmInfo`.
    process: bool,
}

impl HttpServer {
    /// Serves `metrics` on `listener`, those of the process too if `process`, once it [runs](Self::run).
    pub(crate) fn new(
        listener: std::net::TcpListener,
        metrics: Arc<Metrics>,
        process: bool,
    ) -> std::io::Result<(HttpServer, HttpHandle)> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop_sender, stop) = oneshot::channel();
        let exporter = Exporter { metrics, process };
        Ok((
            HttpServer { runtime, listener, exporter, patience: PATIENCE, stop },
            HttpHandle { _stop: stop_sender },
        ))
    }

    /// Serves until the handle is dropped.
    pub(crate) fn run(self) {
        let HttpServer { runtime, listener, exporter, patience, stop } = self;
        runtime.spawn(accept(listener, Arc::new(exporter), patience));
        // An error is how the end of the handle is told.
        let _ = runtime.block_on(stop);
    }
}

async fn accept(listener: TcpListener, exporter: Arc<Exporter>, patience: Duration) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let exporter = exporter.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(patience, serve(stream, peer, exporter)).await.is_err() {
                tracing::debug!(%peer, "a client of /metrics was too slow, its connection is closed");
            }
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, exporter: Arc<Exporter>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let response = exporter.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "a connection to /metrics ended early");
    }
}

impl Exporter {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "not found; the metrics are at /metrics\n");
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut rows = self.metrics.table();
        if self.process {
            rows.extend(self.metrics.process());
        }
        match prometheus::text(&rows) {
            Ok(text) => answer(StatusCode::OK, prometheus::CONTENT_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written as text");
                plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be written as text; see the log\n",
                )
            }
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A client that sends half a request, and one that sends none, are hung up on; whoever asks properly is answered
    /// meanwhile, and afterwards.
    #[test]
    fn whoever_is_too_slow_is_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut server, handle) =
            HttpServer::new(listener, Arc::new(super::super::table::tests::of_nothing()), false).unwrap();
        server.patience = Duration::from_millis(50);
        let thread = std::thread::spawn(move || server.run());
        let connect = || std::net::TcpStream::connect(address).unwrap();
        // Again, should this test itself have been too slow.
        let ask = || loop {
            let (mut client, mut text) = (connect(), String::new());
            let sent = client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            if sent.and_then(|()| client.read_to_string(&mut text)).is_ok() && !text.is_empty() {
                return assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            }
        };
        // More of them than there are places.
        let mut slow: Vec<_> = (0..MAX_CONNECTIONS + 1).map(|_| connect()).collect();
        for client in slow.iter_mut().step_by(2) {
            client.write_all(b"GET /metrics HTT").unwrap();
        }
        ask();
        for client in &mut slow {
            let mut rest = Vec::new();
            // Closed or reset; a server that waited for more would never get here.
            let _ = client.read_to_end(&mut rest);
            assert_eq!(rest, b"");
        }
        ask();
        drop(handle);
        thread.join().unwrap();
    }
}
