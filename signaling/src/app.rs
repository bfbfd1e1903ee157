//! The whole service from its start to its end: state, listeners, and an orderly stop.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum_server::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::certificate::{CertificateError, SelfSigned};
use crate::clock::{self, WallClock};
use crate::config::Config;
use crate::connections::Connections;
use crate::keys::KeysError;
use crate::listen::{self, ListenError};
use crate::metrics::Metrics;
use crate::page::Page;
use crate::rooms::Rooms;
use crate::server::{AppState, FurtherMetrics, router};
use crate::service::Service;
use crate::sfu_link::Links;
use crate::{addresses, keys};

/// Clients have this long to read their good-bye.
const FAREWELL: Duration = Duration::from_secs(2);

/// An SFU that runs, wherever that is.
pub struct RunningSfu {
    /// The control link to it, or to all of them.
    pub links: Links,
    /// How long a node may be out of reach before others take over. None: the SFU is in this process.
    pub patience: Option<Duration>,
    /// Its metrics, where it runs in this process.
    pub metrics: Option<FurtherMetrics>,
    /// Ends it in order. Run after the clients have been told.
    pub drain: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why the service could not start or go on, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No certificate.
    #[error("{0}; --https=false does without")]
    Certificate(#[from] CertificateError),
    /// No listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused something else.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A part that must not end has ended.
    #[error("{0} has ended")]
    Ended(&'static str),
}

/// A service that listens.
pub struct App {
    http: SocketAddr,
    https: Option<SocketAddr>,
    service: Service,
    ready: Arc<AtomicBool>,
    handle: Handle<SocketAddr>,
    rooms: JoinHandle<()>,
    listeners: Vec<JoinHandle<std::io::Result<()>>>,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl App {
    /// Opens the listeners and serves. Must be called inside a tokio runtime.
    pub fn start(config: &Config, sfu: RunningSfu) -> Result<Self, AppError> {
        let keys = Arc::new(config.keys()?);
        let http = listen::bind(config.http_bind, "http-bind")?;
        let https = config.https_bind.map(|addr| listen::bind(addr, "https-bind")).transpose()?;
        let http_addr = http.local_addr()?;
        let https_addr = https.as_ref().map(std::net::TcpListener::local_addr).transpose()?;

        let metrics = Arc::new(Metrics::new());
        let (limits, clock, seed) = (config.limits.clone(), WallClock::system(), keys::random_number());
        let rooms = match sfu.patience {
            Some(patience) => Rooms::with_nodes(limits, clock, seed, patience),
            None => Rooms::new(limits, clock, seed),
        };
        let (service, rooms) = Service::start(rooms, sfu.links, metrics.clone());
        let ready = Arc::new(AtomicBool::new(true));
        let connections = Connections::new(config.bounds, metrics.clone());
        let router = router(AppState {
            service: service.clone(),
            keys,
            metrics,
            page: Arc::new(Page::built()),
            open_lessons: config.open_lessons,
            lesson_ttl: config.lesson_ttl,
            public_url: config.public_url.clone(),
            request_timeout: config.bounds.request,
            further_metrics: sfu.metrics,
            ready: ready.clone(),
        });
        let handle = Handle::new();
        let mut listeners = Vec::new();
        if let Some(https) = https {
            let certificate =
                SelfSigned::keep(&config.state_dir, &addresses::of_interfaces()?, clock::unix_seconds())?;
            let tls = certificate.server_config()?;
            let serving =
                listen::serve_https(https, router.clone(), tls, connections.clone(), handle.clone());
            listeners.push(tokio::spawn(serving));
        }
        listeners.push(tokio::spawn(listen::serve_http(http, router, connections, handle.clone())));
        Ok(Self {
            http: http_addr,
            https: https_addr,
            service,
            ready,
            handle,
            rooms,
            listeners,
            drain: sfu.drain,
        })
    }

    /// The URLs by which this machine and other devices reach the page.
    pub fn urls(&self) -> Vec<String> {
        let mut urls = urls_of("http", self.http);
        if let Some(https) = self.https {
            urls.extend(urls_of("https", https));
        }
        urls
    }

    /// Serves until the process is asked to end (SIGTERM or SIGINT) or a part fails; then tells the clients,
    /// drains the SFU and returns. Asked a second time, it waits for nothing.
    pub async fn run(mut self) -> Result<(), AppError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listeners = futures_util::future::select_all(&mut self.listeners);
        let failed = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            _ = &mut self.rooms => Some(AppError::Ended("the SFU")),
            _ = listeners => Some(AppError::Ended("a listener")),
        };
        info!("stopping: clients are asked to come back");
        self.ready.store(false, Ordering::Relaxed);
        let stop = async {
            if self.service.shut_down().await.is_err() && failed.is_none() {
                warn!("the SFU had gone before");
            }
            self.handle.graceful_shutdown(Some(FAREWELL));
            self.drain.await;
        };
        tokio::select! {
            () = stop => {}
            _ = terminate.recv() => info!("asked twice: not waiting any longer"),
            _ = interrupt.recv() => info!("asked twice: not waiting any longer"),
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The URLs of a listener: one that listens on all addresses has one for each.
fn urls_of(scheme: &str, addr: SocketAddr) -> Vec<String> {
    let host = |ip: IpAddr| match ip {
        ip if ip.is_loopback() => "localhost".to_owned(),
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let ips = match addr.ip().is_unspecified() {
        true => addresses::of_interfaces().unwrap_or_default(),
        false => vec![addr.ip()],
    };
    let reachable = ips.into_iter().filter(|ip| ip.is_ipv4() || addr.is_ipv6());
    let mut urls: Vec<_> = reachable.map(|ip| format!("{scheme}://{}:{}", host(ip), addr.port())).collect();
    urls.dedup();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_what_a_device_can_open() {
        assert_eq!(urls_of("http", "127.0.0.1:7880".parse().unwrap()), ["http://localhost:7880"]);
        assert_eq!(urls_of("https", "192.0.2.1:7443".parse().unwrap()), ["https://192.0.2.1:7443"]);
        assert_eq!(urls_of("https", "[2001:db8::1]:1".parse().unwrap()), ["https://[2001:db8::1]:1"]);
        let all = urls_of("https", "0.0.0.0:7443".parse().unwrap());
        assert!(all.contains(&"https://localhost:7443".to_owned()), "{all:?}");
    }
}
