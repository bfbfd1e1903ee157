//! Signaling and SFU nodes as services of their own, over QUIC on loopback, with real clients: what is lost when
//! one of them dies, and what is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod processes;

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::api::Server;
use loadtest::client::{Client, Delivery, Publication};
use loadtest::lesson::{self, LessonOptions};
use processes::{Node, Signaling, State, eventually};
use tokio::time::timeout;

const MICROPHONE: Publication = Publication::Microphone { kbps: 32 };
const PATIENCE: Duration = Duration::from_secs(30);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// One of each.
async fn pair(state: &State) -> (Signaling, Node) {
    let signaling = Signaling::start(state, any_port(), PATIENCE).await;
    let node = Node::start(signaling.control, state.node_certificate("hall"));
    node.connected().await;
    (signaling, node)
}

/// Joins, again while no node is in reach yet.
async fn enter(server: &Server, link: &str, name: &str) -> Client {
    let admission = server.join(link, name, None).await.unwrap();
    let entering = async {
        loop {
            if let Ok(client) = Client::join(server, &admission.token).await {
                break client;
            }
        }
    };
    let client = timeout(Duration::from_secs(15), entering).await.expect("someone lets us in");
    client.connected().await.unwrap();
    client
}

/// A teacher who speaks, and a class that hears it.
async fn lesson(server: &Server) -> (Client, Client) {
    let links = server.make_lesson("Algebra").await.unwrap();
    let teacher = enter(server, &links.teacher, "Ana").await;
    let class = enter(server, &links.class, "Hill school").await;
    teacher.publish(MICROPHONE).await.unwrap();
    eventually("sound", || packets(&class) > 20).await;
    (teacher, class)
}

fn packets(listener: &Client) -> u64 {
    listener.received().iter().map(|track| track.stats.packets).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lesson_over_two_services_loses_nothing() {
    let state = State::new();
    let (signaling, _node) = pair(&state).await;
    let options = LessonOptions {
        server: signaling.server(),
        classes: 2,
        pupils: 0,
        duration: Duration::from_secs(2),
        video_kbps: 300,
    };
    let report = lesson::run(&options).await.unwrap();
    assert_eq!(report.problems(), Vec::<String>::new(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_runs_on_while_signaling_is_dead_and_when_it_is_back() {
    let state = State::new();
    let (signaling, node) = pair(&state).await;
    let (teacher, class) = lesson(&signaling.server()).await;
    for client in [&teacher, &class] {
        client.outlast_signaling().await.unwrap();
    }
    let control = signaling.control;
    drop(signaling);
    eventually("the node has noticed", || !node.link().connected).await;
    let before = packets(&class);
    eventually("sound without signaling", || packets(&class) > before + 50).await;

    let signaling = Signaling::start(&state, control, PATIENCE).await;
    node.connected().await;
    assert_eq!(node.link().fresh, 2, "the new process knows nothing of the old one's sessions");
    let before = packets(&class);
    eventually("sound in the orphaned room", || packets(&class) > before + 50).await;
    let (_, pupil) = lesson(&signaling.server()).await;
    assert!(class.ended().is_none() && pupil.ended().is_none());
    let stats = class.received().remove(0).stats;
    assert_eq!((stats.missing(), stats.discontinuities), (0, 0), "nobody could hear it");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_node_that_started_anew_are_told_to_join_again() {
    let state = State::new();
    let (signaling, node) = pair(&state).await;
    let (teacher, class) = lesson(&signaling.server()).await;
    drop(node);
    let node = Node::start(signaling.control, state.node_certificate("hall"));
    node.connected().await;
    eventually("both are told", || teacher.ended().is_some() && class.ended().is_some()).await;
    for client in [&teacher, &class] {
        assert_eq!(client.ended().unwrap(), "the server ended it: STATE_MISMATCH");
    }
    lesson(&signaling.server()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_spread_over_two_nodes_and_leave_one_that_is_lost() {
    let state = State::new();
    let signaling = Signaling::start(&state, any_port(), Duration::from_secs(1)).await;
    let first = Node::start(signaling.control, state.node_certificate("first"));
    let second = Node::start(signaling.control, state.node_certificate("second"));
    first.connected().await;
    second.connected().await;
    let one = lesson(&signaling.server()).await;
    let other = lesson(&signaling.server()).await;
    // An offer at least of each of the two clients went to each node.
    assert!(first.link().received > 4 && second.link().received > 4);

    drop(first);
    let told = |(teacher, class): &(Client, Client)| teacher.ended().is_some() && class.ended().is_some();
    eventually("the lesson of the lost node is told", || told(&one) || told(&other)).await;
    let (lost, kept) = if told(&one) { (one, other) } else { (other, one) };
    assert_eq!(lost.0.ended().unwrap(), "the server ended it: MIGRATION");
    let before = packets(&kept.1);
    eventually("the other lesson goes on", || packets(&kept.1) > before + 50).await;
    lesson(&signaling.server()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fat_message_arrives_and_chat_goes_on() {
    let state = State::new();
    let (signaling, _node) = pair(&state).await;
    let (teacher, class) = lesson(&signaling.server()).await;
    for size in [60_000, 10] {
        teacher.send(Delivery::Reliable, &[], "chat", &vec![7; size]).await.unwrap();
        let message = timeout(Duration::from_secs(15), class.message()).await.unwrap().unwrap();
        assert_eq!(message.payload.len(), size);
    }
}
