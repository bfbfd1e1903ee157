//! Signaling and SFU nodes as if in processes of their own: each has a runtime that can be killed, sockets and all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use loadtest::api::Server;
use sfu::config::{Config as MediaConfig, ControlConfig as NodeConfig};
use sfu_protocol::link::LinkStats;
use signaling::app::App;
use signaling::clock;
use signaling::config::{Config, Knobs};
use signaling::control::authority::Authority;
use signaling::control::{self, ControlConfig};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

/// Waits until a fact is there, which it must be within 15 s.
pub(crate) async fn eventually(fact: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(15), wait).await.unwrap_or_else(|_| panic!("not within 15 s: {fact}"));
}

/// A folder for what outlives a process.
pub(crate) struct State(PathBuf);

impl State {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("services-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// A node's file, as `lectern-signaling node-certificate` makes it.
    pub(crate) fn node_certificate(&self, name: &str) -> PathBuf {
        let now = clock::unix_seconds();
        let bundle = Authority::keep(&self.0, now).unwrap().node(name, now).unwrap();
        let path = self.0.join(format!("{name}.pem"));
        std::fs::write(&path, bundle).unwrap();
        path
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // What is left is in cargo's own folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A killed process says nothing to anybody.
struct Process(Option<Runtime>);

impl Process {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(runtime.unwrap()))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

pub(crate) struct Signaling {
    _process: Process,
    url: String,
    pub(crate) control: SocketAddr,
}

impl Signaling {
    /// Starts it; the control port may still be held by one that was killed.
    pub(crate) async fn start(state: &State, control: SocketAddr, patience: Duration) -> Self {
        let process = Process::new();
        let knobs = Knobs {
            http_bind: Some("127.0.0.1:0".parse().unwrap()),
            https: Some(false),
            state_dir: Some(state.folder().to_owned()),
            ..Knobs::default()
        };
        let config = Config::new(knobs, Knobs::default()).unwrap();
        let control = ControlConfig { bind: control, patience };
        let mut started = None;
        eventually("signaling starts", || {
            let _inside = process.runtime().enter();
            started = control::listen(&control, state.folder()).ok();
            started.is_some()
        })
        .await;
        let listening = started.unwrap();
        let app = {
            let _inside = process.runtime().enter();
            App::start(&config, listening.sfu).unwrap()
        };
        let url = app.urls().remove(0);
        process.runtime().spawn(app.run());
        Self { _process: process, url, control: listening.address }
    }

    pub(crate) fn server(&self) -> Server {
        Server::parse(&self.url).unwrap()
    }
}

pub(crate) struct Node {
    _process: Process,
    link: watch::Receiver<LinkStats>,
}

impl Node {
    pub(crate) fn start(signaling: SocketAddr, certificate: PathBuf) -> Self {
        let process = Process::new();
        let media = MediaConfig {
            udp_bind: "127.0.0.1:0".parse().unwrap(),
            announce_loopback: true,
            ..MediaConfig::default()
        };
        let node = NodeConfig {
            signaling: signaling.to_string(),
            node_certificate: certificate,
            ..NodeConfig::default()
        };
        let calling = {
            let _inside = process.runtime().enter();
            let (_, control) = sfu::start(&media).unwrap();
            sfu::control::quic::start(&node, control).unwrap()
        };
        Self { _process: process, link: calling.stats }
    }

    pub(crate) fn link(&self) -> LinkStats {
        *self.link.borrow()
    }

    pub(crate) async fn connected(&self) {
        eventually("the node has reached signaling", || self.link().connected).await;
    }
}
