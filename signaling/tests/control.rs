//! Who is let in at the control port and what others are told, over QUIC on loopback.

#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests as tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use sfu_protocol::control::{FromSfu, ToSfu};
use sfu_protocol::frame;
use sfu_protocol::hello::{Hello, Welcome};
use sfu_protocol::ids::RoomId;
use sfu_protocol::link::{Link, LinkStats};
use sfu_protocol::quic::{Ended, Ends, Identity, SERVER_NAME, Streams, call, explain};
use sfu_protocol::snapshot::SnapshotPart;
use signaling::clock;
use signaling::control::authority::Authority;
use signaling::control::{ControlConfig, Listening, listen};
use signaling::keys::random_text;
use signaling::nodes::NodeId;
use signaling::sfu_link::{LinkEvent, Links};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(15);

/// A folder with an authority in it.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("lectern-control-{}", random_text::<9>())))
    }

    fn identity(&self, name: &str) -> Identity {
        let now = clock::unix_seconds();
        let bundle = Authority::keep(&self.0, now).unwrap().node(name, now).unwrap();
        Identity::from_pem(bundle.as_bytes()).unwrap()
    }

    fn listen(&self) -> (SocketAddr, mpsc::Receiver<(NodeId, LinkEvent)>) {
        let config = ControlConfig { bind: "127.0.0.1:0".parse().unwrap(), patience: SOON };
        let Listening { address, sfu } = listen(&config, &self.0).unwrap();
        let Links::Nodes(events) = sfu.links else { panic!("nodes are elsewhere") };
        (address, events)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hello(node: &str, incarnation: u64) -> Hello {
    Hello { node: node.to_owned(), incarnation, capacity: 5, resume: None }
}

async fn connect(identity: &Identity, to: SocketAddr) -> Result<Connection, String> {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(identity.caller().unwrap(), to, SERVER_NAME).unwrap();
    connecting.await.map_err(|error| explain(&error))
}

async fn try_call(
    identity: &Identity,
    to: SocketAddr,
    hello: &Hello,
) -> Result<(Connection, Welcome, Streams), String> {
    let connection = connect(identity, to).await?;
    let (welcome, streams) = call(&connection, hello).await.map_err(|error| error.to_string())?;
    Ok((connection, welcome, streams))
}

async fn refusal(identity: &Identity, to: SocketAddr, hello: &Hello) -> String {
    match timeout(SOON, try_call(identity, to, hello)).await.unwrap() {
        Ok(_) => panic!("let in"),
        Err(words) => words,
    }
}

#[tokio::test]
async fn who_is_not_let_in_hears_why() {
    let (state, stranger) = (State::new(), State::new());
    let (address, _events) = state.listen();

    let words = refusal(&stranger.identity("hall"), address, &hello("hall", 1)).await;
    assert!(words.starts_with("we do not accept the other side's certificate (invalid peer"), "{words}");

    let words = refusal(&state.identity("hall"), address, &hello("attic", 1)).await;
    assert_eq!(words, "the certificate is not attic's: use the whole file that was made for this node");

    let nobody = Endpoint::server(state.identity("x").answerer().unwrap(), "127.0.0.1:0".parse().unwrap());
    let address = nobody.unwrap().local_addr().unwrap();
    let words = refusal(&state.identity("hall"), address, &hello("hall", 1)).await;
    assert!(words.starts_with("no answer: is it running"), "{words}");
}

#[tokio::test]
async fn another_version_is_refused_in_words() {
    let state = State::new();
    let (address, _events) = state.listen();
    let connection = connect(&state.identity("hall"), address).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut bytes = Vec::new();
    frame::encode(&(9u16, "whatever comes with it"), &mut bytes).unwrap();
    send.write_all(&bytes).await.unwrap();
    assert!(recv.read_chunk(100, true).await.is_err());
    let words = explain(&connection.close_reason().unwrap());
    assert_eq!(words, "version 9 of the control protocol meets version 1: install the same Lectern on both");
}

#[tokio::test]
async fn a_certificate_of_a_stranger_gets_nothing_even_if_it_asks_for_nothing() {
    let (state, stranger) = (State::new(), State::new());
    let (address, mut events) = state.listen();
    // It trusts whoever answers, but the other side does not trust it.
    let now = clock::unix_seconds();
    let foreign = Authority::keep(&stranger.0, now).unwrap().node("hall", now).unwrap();
    let ours = Authority::keep(&state.0, now).unwrap().node("hall", now).unwrap();
    let mixed = Identity::from_pem(swap_authority(&foreign, &ours).as_bytes()).unwrap();
    let words = refusal(&mixed, address, &hello("hall", 1)).await;
    assert_eq!(words, "the other side does not accept our certificate");
    assert!(events.try_recv().is_err());
}

/// The bundle `of` with the authority in `from`.
fn swap_authority(of: &str, from: &str) -> String {
    let sections = |text: &str| -> Vec<String> {
        text.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect()
    };
    let (of, from) = (sections(of), sections(from));
    format!("{}{}{}", of[0], from[1], of[2])
}

/// A node as its own end of the link.
struct Node {
    link: Link<FromSfu, ToSfu>,
    ends: Ends<FromSfu, ToSfu>,
    say: mpsc::Sender<FromSfu>,
    hear: mpsc::Receiver<ToSfu>,
}

impl Node {
    fn new() -> Self {
        let (say, outgoing) = mpsc::channel(16);
        let (incoming, hear) = mpsc::channel(16);
        let ends = Ends { outgoing, incoming, stats: watch::Sender::new(LinkStats::default()) };
        Self { link: Link::new(), ends, say, hear }
    }

    async fn call(&mut self, identity: &Identity, to: SocketAddr) -> (Connection, Streams) {
        let hello = Hello { resume: self.link.resume(), ..hello("hall", 1) };
        let (connection, welcome, streams) = try_call(identity, to, &hello).await.unwrap();
        self.link.welcomed(welcome).unwrap();
        (connection, streams)
    }
}

async fn next(events: &mut mpsc::Receiver<(NodeId, LinkEvent)>) -> LinkEvent {
    timeout(SOON, events.recv()).await.unwrap().unwrap().1
}

#[tokio::test]
async fn a_session_goes_on_over_connections_and_a_twin_is_kept_out() {
    let state = State::new();
    let (address, mut events) = state.listen();
    let identity = state.identity("hall");
    let mut node = Node::new();
    let (connection, streams) = node.call(&identity, address).await;

    // The snapshot is what the service hears first, whatever came before it.
    let script = async {
        let Some(ToSfu::TakeSnapshot { of }) = node.hear.recv().await else {
            panic!("a snapshot is asked for")
        };
        node.say.send(FromSfu::Draining).await.unwrap();
        for part in [SnapshotPart::Begin, SnapshotPart::Room(RoomId(7)), SnapshotPart::End] {
            node.say.send(FromSfu::Snapshot { of, part }).await.unwrap();
        }
        let LinkEvent::Up { name, capacity: 5, snapshot, commands } = next(&mut events).await else {
            panic!("up")
        };
        assert_eq!((name.as_str(), snapshot.rooms), ("hall", vec![(RoomId(7), Vec::new())]));

        let twin = try_call(&identity, address, &hello("hall", 2)).await;
        let words = match twin {
            Err(words) => words,
            Ok((connection, ..)) => explain(&connection.closed().await),
        };
        assert!(words.starts_with("another node called hall is connected"), "{words}");

        connection.close(9u8.into(), b"cut");
        assert!(matches!(next(&mut events).await, LinkEvent::Interrupted));
        commands
    };
    let commands = tokio::select! {
        commands = script => commands,
        _ = async { node.ends.carry(&mut node.link, &connection, streams).await; std::future::pending::<()>().await } => {
            unreachable!()
        }
    };

    commands.send(ToSfu::OpenRoom { room: RoomId(8) }).await.unwrap();
    node.say.send(FromSfu::Draining).await.unwrap();
    let (connection, streams) = node.call(&identity, address).await;
    let rest = async {
        let (first, second) = (next(&mut events).await, next(&mut events).await);
        let resumed = matches!(first, LinkEvent::Resumed);
        assert!(resumed && matches!(second, LinkEvent::Said(FromSfu::Draining)), "{first:?} {second:?}");
        assert_eq!(node.hear.recv().await, Some(ToSfu::OpenRoom { room: RoomId(8) }));
    };
    tokio::select! {
        () = rest => {}
        ended = node.ends.carry(&mut node.link, &connection, streams) => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn a_session_that_the_service_gives_up_is_followed_by_another() {
    let state = State::new();
    let (address, mut events) = state.listen();
    let identity = state.identity("hall");
    let mut node = Node::new();
    for _ in 0..2 {
        let (connection, streams) = node.call(&identity, address).await;
        let script = async {
            let Some(ToSfu::TakeSnapshot { of }) = node.hear.recv().await else {
                panic!("a snapshot is asked for")
            };
            for part in [SnapshotPart::Begin, SnapshotPart::End] {
                node.say.send(FromSfu::Snapshot { of, part }).await.unwrap();
            }
            loop {
                if let LinkEvent::Up { commands, .. } = next(&mut events).await {
                    break drop(commands);
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = script => {}
            ended = timeout(SOON, node.ends.carry(&mut node.link, &connection, streams)) => {
                assert_eq!(ended.unwrap(), Ended::Lost("stopped".into()));
            }
        }
    }
    assert_eq!(node.link.stats().fresh, 2);
}

#[tokio::test]
async fn a_node_that_speaks_before_it_listens_is_heard() {
    const COMMANDS: u64 = 200;
    const EVENTS: usize = 5000;
    let state = State::new();
    let (address, mut events) = state.listen();
    let mut node = Node::new();
    let mut stats = node.ends.stats.subscribe();
    let (connection, streams) = node.call(&state.identity("hall"), address).await;
    let script = async {
        let Some(ToSfu::TakeSnapshot { of }) = node.hear.recv().await else {
            panic!("a snapshot is asked for")
        };
        for part in [SnapshotPart::Begin, SnapshotPart::End] {
            node.say.send(FromSfu::Snapshot { of, part }).await.unwrap();
        }
        let LinkEvent::Up { commands, .. } = next(&mut events).await else { panic!("up") };
        for _ in 0..COMMANDS {
            commands.send(ToSfu::CloseRoom { room: RoomId(1) }).await.unwrap();
        }
        stats.wait_for(|stats| stats.received > COMMANDS / 2).await.unwrap();

        let speak = async {
            for _ in 0..EVENTS {
                node.say.send(FromSfu::Draining).await.unwrap();
            }
        };
        let hear = async {
            for _ in 0..EVENTS {
                assert!(matches!(next(&mut events).await, LinkEvent::Said(FromSfu::Draining)));
            }
        };
        tokio::join!(speak, hear);
        for _ in 0..COMMANDS {
            node.hear.recv().await.unwrap();
        }
    };
    tokio::select! {
        () = script => {}
        ended = node.ends.carry(&mut node.link, &connection, streams) => panic!("{ended:?}"),
    }
}
