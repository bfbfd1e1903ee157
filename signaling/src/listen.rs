//! The listeners: http, and https with the same routes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::{Extension, Router};
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;

use crate::connections::{Bounds, Connections};
use crate::server::Secure;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error("TCP port {} is in use: stop the other server or set --{knob}", addr.port())]
    PortBusy {
        /// The address.
        addr: SocketAddr,
        /// The knob that sets it.
        knob: &'static str,
    },
    /// The address is not this machine's, or its use is not allowed.
    #[error("cannot listen on TCP {addr}: {error}; set --{knob}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The knob that sets it.
        knob: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// Opens a listener; `knob` is what sets its address.
pub fn bind(addr: SocketAddr, knob: &'static str) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(addr).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortBusy { addr, knob },
        _ => ListenError::Bind { addr, knob, error },
    })
}

/// Serves http until `handle` stops it.
pub async fn serve_http(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let server = server(listener, connections.bounds())?.acceptor(connections.over(DefaultAcceptor::new()));
    server.handle(handle).serve(router.into_make_service()).await
}

/// Serves https until `handle` stops it.
pub async fn serve_https(
    listener: TcpListener,
    router: Router,
    tls: Arc<ServerConfig>,
    connections: Connections,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let bounds = connections.bounds();
    let tls = RustlsAcceptor::new(RustlsConfig::from_config(tls)).handshake_timeout(bounds.head);
    let server = server(listener, bounds)?.acceptor(connections.over(tls));
    server.handle(handle).serve(router.layer(Extension(Secure)).into_make_service()).await
}

/// HTTP/1.1 alone. hyper has a timeout for heads of its own, but it sleeps without a timer.
fn server(listener: TcpListener, bounds: Bounds) -> io::Result<Server<SocketAddr>> {
    let mut server = axum_server::from_tcp(listener)?.http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(bounds.head);
    Ok(server)
}
