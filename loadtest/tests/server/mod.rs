//! The server `lectern` inside the test's process: signaling and an SFU, on free ports of loopback.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use loadtest::api::Server;
use signaling::app::App;
use signaling::config::{Config, Knobs};
use signaling::embedded;

/// Serves until the test's runtime ends.
pub(crate) struct Lectern {
    url: String,
    state: PathBuf,
}

/// A server of its own for each test.
pub(crate) fn start() -> Lectern {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("lesson-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let knobs = Knobs {
        http_bind: Some("127.0.0.1:0".parse().unwrap()),
        https: Some(false),
        state_dir: Some(state.clone()),
        ..Knobs::default()
    };
    let config = Config::new(knobs, Knobs::default()).unwrap();
    let media = sfu::config::Config {
        udp_bind: "127.0.0.1:0".parse().unwrap(),
        announce_loopback: true,
        ..sfu::config::Config::default()
    };
    let app = App::start(&config, embedded::start(&media).unwrap()).unwrap();
    let url = app.urls().remove(0);
    tokio::spawn(app.run());
    Lectern { url, state }
}

impl Lectern {
    pub(crate) fn address(&self) -> Server {
        Server::parse(&self.url).unwrap()
    }
}

impl Drop for Lectern {
    fn drop(&mut self) {
        // What is left is in cargo's own folder for such things.
        let _ = std::fs::remove_dir_all(&self.state);
    }
}
