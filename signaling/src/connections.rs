//! Bounds on TCP connections, one count for all listeners: how many, and how slowly a client may ask.
//!
//! Without them, one device that opens connections and says little keeps a school out. A connection holds its
//! place until it is closed, as a WebSocket too. One too many is closed at once: its client tries again.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::metrics::Metrics;

/// How many connections, and how patient we are with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections at a time.
    pub connections: usize,
    /// A client has this long for its TLS handshake, and again for the head of each request; an idle connection
    /// is closed after it.
    pub head: Duration,
    /// A request must be read and answered within this time. WebSockets, and an answer that is on its way, are not
    /// meant.
    pub request: Duration,
}

impl Default for Bounds {
    /// A lesson needs one connection per device, a page that loads up to six for a moment. The longest request
    /// head, with an offer in its join request, takes a 64 kbit/s line three seconds; the longest body as long.
    fn default() -> Self {
        Self { connections: 4096, head: Duration::from_secs(15), request: Duration::from_secs(30) }
    }
}

/// Why a connection was closed before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// There are as many connections as there may be.
    #[error("too many connections")]
    TooMany,
    /// It was gone before it could be set up.
    #[error("the connection is gone")]
    Gone,
}

impl ConnectionError {
    /// A short name for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Gone => "gone",
        }
    }
}

/// The connections of all listeners that share it. Signal messages are small and must not wait for each other:
/// each connection goes without Nagle's algorithm.
#[derive(Clone, Debug)]
pub struct Connections {
    bounds: Bounds,
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// None yet.
    pub fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        let places = bounds.connections.min(Semaphore::MAX_PERMITS);
        Self { bounds, free: Arc::new(Semaphore::new(places)), metrics }
    }

    /// The bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Bounds what `inner` accepts, its handshake included.
    pub fn over<A>(self, inner: A) -> Bounded<A> {
        Bounded { connections: self, inner }
    }

    fn admit(&self, stream: &TcpStream) -> Result<Place, ConnectionError> {
        let permit = self.free.clone().try_acquire_owned().map_err(|_| ConnectionError::TooMany)?;
        stream.set_nodelay(true).map_err(|_| ConnectionError::Gone)?;
        let open = self.metrics.connections.clone();
        open.inc();
        Ok(Place { open, _permit: permit })
    }
}

/// Accepts connections within the bounds.
#[derive(Clone, Debug)]
pub struct Bounded<A> {
    connections: Connections,
    inner: A,
}

impl<A, S> Accept<TcpStream, S> for Bounded<A>
where
    A: Accept<TcpStream, S, Future: Send + 'static, Stream: Send + 'static, Service: Send + 'static>,
{
    type Stream = Connection<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = match self.connections.admit(&stream) {
            Ok(place) => place,
            Err(error) => {
                let refused = &self.connections.metrics.connections_refused;
                refused.with_label_values(&[error.label()]).inc();
                return Box::pin(ready(Err(io::Error::other(error))));
            }
        };
        let accepted = self.inner.accept(stream, service);
        let head = self.connections.bounds.head;
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let beginning = Some(Beginning { left: PREFACE, deadline: Box::pin(sleep(head)) });
            Ok((Connection { stream, beginning, _place: place }, service))
        })
    }
}

/// A place among the connections.
#[derive(Debug)]
struct Place {
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A connection that holds its place until it is dropped, and whose client must begin to speak in time.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    /// None: it has begun.
    beginning: Option<Beginning>,
    _place: Place,
}

/// hyper-util looks for HTTP/2's preface before hyper's clock for the head runs, and waits for it as long as the
/// client likes: these bytes have a clock here.
#[derive(Debug)]
struct Beginning {
    left: usize,
    deadline: Pin<Box<Sleep>>,
}

/// Length of HTTP/2's preface, bytes (RFC 9113 §3.4).
const PREFACE: usize = 24;

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(beginning) = &mut self.beginning else { return read };
        match read {
            Poll::Pending => {
                beginning.deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(result) => {
                beginning.left = beginning.left.saturating_sub(buf.filled().len() - before);
                if beginning.left == 0 {
                    self.beginning = None;
                }
                Poll::Ready(result)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
