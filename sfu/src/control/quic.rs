//! The control link to signaling in another process: this side calls, and calls again whenever it is lost.
//!
//! Media does not notice: while there is no connection, events are kept or dropped by their class, and the
//! control task never waits.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint};
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::hello::{self, Hello, Welcome};
use sfu_protocol::link::{Link, LinkStats};
use sfu_protocol::quic::{CallError, Ended, Ends, Identity, IdentityError, SERVER_NAME, Streams, call};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::ControlLink;
use super::backoff::Backoff;
use super::credentials::random_seed;
use crate::config::ControlConfig;

/// How long a close may take to reach signaling.
const FAREWELL: Duration = Duration::from_secs(1);

/// What begins the first line of a node's certificate file; its name follows.
const NAME_LINE: &str = "# Lectern node: ";

/// Why there can be no link, in one line that says what to do.
#[derive(Debug, Error)]
pub enum ControlError {
    /// There is no certificate file.
    #[error(
        "cannot read the node's certificate {0}: {1}; make one with `lectern-signaling node-certificate NAME`, \
         and name it with --node-certificate"
    )]
    Unreadable(String, std::io::Error),
    /// The file is something else.
    #[error("{0} is no node's certificate: {1}; make one with `lectern-signaling node-certificate NAME`")]
    Unusable(String, IdentityError),
    /// The file does not tell the node's name.
    #[error("{0} does not begin with `{NAME_LINE}NAME`; copy the whole file that signaling made")]
    Nameless(String),
}

/// The link, as its owner sees it.
#[derive(Debug)]
pub struct Calling {
    /// What it counts.
    pub stats: watch::Receiver<LinkStats>,
    /// Ends after the SFU has.
    pub task: JoinHandle<()>,
}

/// Calls signaling from now on, until the SFU has stopped.
pub fn start(config: &ControlConfig, control: ControlLink) -> Result<Calling, ControlError> {
    let (node, tls) = read_identity(config)?;
    let (stats, seen) = watch::channel(LinkStats::default());
    let caller = Caller {
        signaling: config.signaling.clone(),
        tls,
        hello: Hello { node, incarnation: random_seed(), capacity: config.capacity, resume: None },
        link: Link::new(),
        ends: Ends { outgoing: control.events, incoming: control.commands, stats },
        told: None,
    };
    Ok(Calling { stats: seen, task: tokio::spawn(caller.run()) })
}

fn read_identity(config: &ControlConfig) -> Result<(String, ClientConfig), ControlError> {
    let path = config.node_certificate.display().to_string();
    let text = std::fs::read_to_string(&config.node_certificate)
        .map_err(|error| ControlError::Unreadable(path.clone(), error))?;
    let name = text.lines().next().and_then(|line| line.strip_prefix(NAME_LINE)).map(str::trim);
    let tls = Identity::from_pem(text.as_bytes()).and_then(|identity| identity.caller());
    let tls = tls.map_err(|error| ControlError::Unusable(path.clone(), error))?;
    let name = name.filter(|name| hello::is_node_name(name)).ok_or(ControlError::Nameless(path))?;
    Ok((name.to_owned(), tls))
}

struct Caller {
    signaling: String,
    tls: ClientConfig,
    hello: Hello,
    link: Link<FromSfu, ToSfu>,
    ends: Ends<FromSfu, ToSfu>,
    /// The trouble that was logged last: it is told once, not at each attempt.
    told: Option<String>,
}

/// A connection that signaling has welcomed.
struct Welcomed {
    endpoint: Endpoint,
    connection: Connection,
    welcome: Welcome,
    streams: Streams,
}

impl Caller {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.hello.incarnation);
        loop {
            self.hello.resume = self.link.resume();
            let called = tokio::select! {
                called = connect(&self.signaling, &self.tls, &self.hello) => called,
                () = self.ends.hold(&mut self.link) => return,
            };
            match called {
                Ok(welcomed) => {
                    backoff.reset();
                    if self.carry(welcomed).await == Ended::OwnerGone {
                        return;
                    }
                }
                Err(words) => self.complain(words),
            }
            tokio::select! {
                () = sleep(backoff.wait()) => {}
                () = self.ends.hold(&mut self.link) => return,
            }
        }
    }

    async fn carry(&mut self, welcomed: Welcomed) -> Ended {
        let Welcomed { endpoint, connection, welcome, streams } = welcomed;
        if let Err(error) = self.link.welcomed(welcome) {
            self.complain(error.to_string());
            return Ended::Lost(error.to_string());
        }
        let resumed = matches!(welcome, Welcome::Resumed(_));
        info!(signaling = self.signaling, node = self.hello.node, resumed, "control link");
        self.told = None;
        let ended = self.ends.carry(&mut self.link, &connection, streams).await;
        if let Ended::Lost(words) = &ended {
            self.complain(words.clone());
        }
        timeout(FAREWELL, endpoint.wait_idle()).await.ok();
        ended
    }

    fn complain(&mut self, words: String) {
        if self.told.as_ref() == Some(&words) {
            debug!(words, "still no control link");
            return;
        }
        warn!("no control link to signaling at {}: {words}; media goes on, calling again", self.signaling);
        self.told = Some(words);
    }
}

/// Tries the addresses of a name one after the other: signaling may listen on one family only. An error is what
/// the last one gave.
async fn connect(signaling: &str, tls: &ClientConfig, hello: &Hello) -> Result<Welcomed, String> {
    let addresses = tokio::net::lookup_host(signaling).await.map_err(|error| error.to_string())?;
    let mut words = "the name has no address".to_owned();
    for address in addresses {
        match connect_to(address, tls, hello).await {
            Ok(welcomed) => return Ok(welcomed),
            Err(error) => words = error,
        }
    }
    Err(words)
}

async fn connect_to(address: SocketAddr, tls: &ClientConfig, hello: &Hello) -> Result<Welcomed, String> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let endpoint = Endpoint::client(any).map_err(|error| error.to_string())?;
    let connecting =
        endpoint.connect_with(tls.clone(), address, SERVER_NAME).map_err(|error| error.to_string())?;
    let called = async {
        let connection = connecting.await?;
        let (welcome, streams) = call(&connection, hello).await?;
        Ok::<_, CallError>((connection, welcome, streams))
    };
    let (connection, welcome, streams) = called.await.map_err(|error| error.to_string())?;
    Ok(Welcomed { endpoint, connection, welcome, streams })
}
