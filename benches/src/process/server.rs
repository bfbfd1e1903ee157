//! The measured process and signaling's end of its control link.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::ids::TransportId;
use signaling::clock;
use signaling::control::authority::Authority;
use signaling::control::{self, ControlConfig};
use signaling::nodes::NodeId;
use signaling::sfu_link::{LinkEvent, Links};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::sdp::Answer;
use super::usage::{Usage, Work};

/// A `lectern-sfu` that runs until this is dropped.
pub struct Server {
    process: Child,
    page: SocketAddr,
    runtime: Runtime,
    said: mpsc::Receiver<(NodeId, LinkEvent)>,
    commands: mpsc::Sender<ToSfu>,
    state: PathBuf,
}

/// How long the process may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// Starts `binary` with so many workers, which clients reach on loopback, and waits until it has called.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &Path, listen: SocketAddr, workers: usize) -> anyhow::Result<Self> {
        let state = env::temp_dir().join(format!("lectern-process-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = {
            let _inside = runtime.enter();
            control::listen(&ControlConfig { bind: here, patience: PATIENCE }, &state)?
        };
        let Links::Nodes(mut said) = listening.sfu.links else { bail!("nodes call") };
        let now = clock::unix_seconds();
        let certificate = state.join("node.pem");
        fs::write(&certificate, Authority::keep(&state, now)?.node("measured", now)?)?;
        // Free a moment ago: another process could take it only by chance, and the start would fail.
        let page = TcpListener::bind(here)?.local_addr()?;
        let process = Command::new(binary)
            .args(["--udp-bind", &listen.to_string(), "--announce-loopback", "--node-ip", "127.0.0.1"])
            .args(["--log-filter", "warn", "--workers", &workers.to_string()])
            .args(["--metrics-bind", &page.to_string(), "--signaling", &listening.address.to_string()])
            .args(["--max-participants-per-room", "1000", "--node-certificate"])
            .arg(&certificate)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}: build it first, or say --server", binary.display()))?;
        let up = runtime.block_on(async { timeout(PATIENCE, said.recv()).await });
        let Ok(Some((_, LinkEvent::Up { commands, .. }))) = up else { bail!("the server does not call") };
        Ok(Self { process, page, runtime, said, commands, state })
    }

    /// Gives it a command.
    ///
    /// # Errors
    /// When it has gone.
    pub fn send(&self, command: ToSfu) -> anyhow::Result<()> {
        self.commands.blocking_send(command).map_err(|_| anyhow::anyhow!("the control link is lost"))
    }

    /// Offers for a client and waits for the answer.
    ///
    /// # Errors
    /// When the offer is rejected.
    pub fn negotiate(&mut self, offer: ToSfu) -> anyhow::Result<Answer> {
        let ToSfu::Offer { transport: offering, .. } = offer else { bail!("only offers are answered") };
        self.send(offer)?;
        self.answer_to(offering)
    }

    /// Waits for the answer to an offer that was sent.
    ///
    /// # Errors
    /// When the offer is rejected.
    pub fn answer_to(&mut self, offering: TransportId) -> anyhow::Result<Answer> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.hear()? {
                Some(FromSfu::Answer { transport, sdp, .. }) if transport == offering => {
                    return Answer::parse(&sdp);
                }
                Some(FromSfu::OfferRejected { reason, .. }) => bail!("the offer is rejected: {reason}"),
                _ => {}
            }
        }
        bail!("no answer")
    }

    /// Takes note of all that it has said: it must not wait for us.
    pub fn listen(&mut self) {
        while self.said.try_recv().is_ok() {}
    }

    /// What it has spent.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.process.id())
    }

    /// What it has done.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn work(&self) -> anyhow::Result<Work> {
        Work::of(self.page)
    }

    fn hear(&mut self) -> anyhow::Result<Option<FromSfu>> {
        let heard = self.runtime.block_on(async { timeout(PATIENCE, self.said.recv()).await });
        match heard.context("the server says nothing")? {
            Some((_, LinkEvent::Said(said))) => Ok(Some(said)),
            Some((_, event)) => {
                ensure!(!matches!(event, LinkEvent::Interrupted), "the control link is lost");
                Ok(None)
            }
            None => bail!("the control link has ended"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and the folder is in the system's own place for such things.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.state).ok();
    }
}
