//! Several SFU nodes, links that are cut and sessions that begin anew: in virtual time, with scripted SFUs.

#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests as tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ConnectionSettings, JoinRequest, SessionDescription, TrackSource, TrackType,
    UpdateSubscription, UpdateTrackSettings,
};
use sfu_protocol::control::{CloseReason, FromSfu, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use sfu_protocol::snapshot::{Snapshot, TransportSnapshot};
use signaling::auth::{Claims, VideoGrant};
use signaling::clock::WallClock;
use signaling::ids::SocketId;
use signaling::limits::Limits;
use signaling::nodes::{NodeEvent, NodeId, ORPHAN_GRACE};
use signaling::outbox::Output;
use signaling::protocol::Protocol;
use signaling::rooms::{Admission, Census, Ignored, JoinRefused, Rooms};

const PATIENCE: Duration = Duration::from_secs(30);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// An SFU as far as signaling can see it.
#[derive(Default)]
struct Sfu {
    rooms: BTreeMap<RoomId, BTreeMap<TransportId, TransportSnapshot>>,
    /// Commands and events under way.
    commands: VecDeque<ToSfu>,
    events: VecDeque<FromSfu>,
}

impl Sfu {
    fn transports(&mut self) -> impl Iterator<Item = &mut TransportSnapshot> {
        self.rooms.values_mut().flat_map(BTreeMap::values_mut)
    }

    fn transport(&mut self, id: TransportId) -> Option<&mut TransportSnapshot> {
        self.transports().find(|transport| transport.transport == id)
    }

    fn obey(&mut self, command: ToSfu) {
        match command {
            ToSfu::OpenRoom { room } => drop(self.rooms.entry(room).or_default()),
            ToSfu::CloseRoom { room } => drop(self.rooms.remove(&room)),
            ToSfu::OpenTransport { room, transport, .. } => {
                let snapshot = TransportSnapshot {
                    transport,
                    connected: false,
                    settled: true,
                    published: Vec::new(),
                    wanted: Vec::new(),
                };
                self.rooms.get_mut(&room).map(|room| room.insert(transport, snapshot));
            }
            ToSfu::CloseTransport { transport } => {
                self.rooms.values_mut().for_each(|room| drop(room.remove(&transport)));
            }
            ToSfu::Offer { transport, offer_id, publish, .. } => {
                let Some(found) = self.transport(transport) else { return };
                found.published.extend(publish.iter().map(|publish| publish.track));
                found.published.sort_unstable();
                found.published.dedup();
                found.settled = true;
                let news = !std::mem::replace(&mut found.connected, true);
                let tracks = found.published.iter().chain(&found.wanted);
                let mid_to_track = tracks.enumerate().map(|(mid, track)| (mid.to_string(), *track)).collect();
                let answer = FromSfu::Answer { transport, offer_id, sdp: "v=0".into(), mid_to_track };
                self.events.push_back(answer);
                if news {
                    self.events
                        .push_back(FromSfu::TransportConnected { transport, srtp_profile: "x".into() });
                }
            }
            ToSfu::Subscribe { transport, track, .. } => {
                let Some(found) = self.transport(transport) else { return };
                found.wanted.push(track);
                found.wanted.sort_unstable();
                found.settled = false;
                self.events.push_back(FromSfu::NegotiationNeeded { transport, audios: 1, videos: 0 });
            }
            ToSfu::Unsubscribe { transport, track } => {
                self.transport(transport).into_iter().for_each(|t| t.wanted.retain(|known| *known != track));
            }
            ToSfu::Unpublish { track } => self.forget(track),
            _ => {}
        }
        let published: BTreeSet<TrackId> = self.transports().flat_map(|t| t.published.clone()).collect();
        self.transports().for_each(|transport| transport.wanted.retain(|track| published.contains(track)));
    }

    fn forget(&mut self, track: TrackId) {
        self.transports().for_each(|transport| transport.published.retain(|known| *known != track));
    }

    fn snapshot(&self) -> Snapshot {
        let rooms = self.rooms.iter().map(|(id, room)| (*id, room.values().cloned().collect()));
        Snapshot { rooms: rooms.collect() }
    }
}

struct World {
    rooms: Rooms,
    now: Instant,
    sfus: BTreeMap<NodeId, Sfu>,
    told: HashMap<SocketId, Vec<Response>>,
    closed: BTreeSet<SocketId>,
}

impl World {
    fn new(nodes: &[NodeId]) -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::from_secs(1_800_000_000));
        let rooms = Rooms::with_nodes(Limits::default(), clock, 1, PATIENCE);
        let mut world =
            Self { rooms, now, sfus: BTreeMap::new(), told: HashMap::new(), closed: BTreeSet::new() };
        for node in nodes {
            world.sfus.insert(*node, Sfu::default());
            world.up(*node);
        }
        world
    }

    fn up(&mut self, node: NodeId) {
        let (name, snapshot) = (format!("node-{}", node.0), self.sfus[&node].snapshot());
        self.event(node, NodeEvent::Up { name, capacity: 100, snapshot });
    }

    fn event(&mut self, node: NodeId, event: NodeEvent) {
        self.rooms.handle_node(self.now, node, event).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::ToClient { socket, message } => self.told.entry(socket).or_default().push(*message),
                Output::Close { socket } => drop(self.closed.insert(socket)),
                Output::ToSfu(node, command) => {
                    self.sfus.get_mut(&node).unwrap().commands.push_back(command);
                }
            }
        }
    }

    /// Delivers all that is under way.
    fn settle(&mut self) {
        while let Some(node) = self.busy() {
            self.step(node);
        }
    }

    fn busy(&self) -> Option<NodeId> {
        let busy = |sfu: &Sfu| !(sfu.commands.is_empty() && sfu.events.is_empty());
        self.sfus.iter().find(|(_, sfu)| busy(sfu)).map(|(node, _)| *node)
    }

    fn step(&mut self, node: NodeId) {
        let sfu = self.sfus.get_mut(&node).unwrap();
        if let Some(command) = sfu.commands.pop_front() {
            sfu.obey(command);
        }
        if let Some(event) = sfu.events.pop_front() {
            self.event(node, NodeEvent::Said(event));
        }
    }

    /// Loses what is under way.
    fn cut(&mut self, node: NodeId) {
        let sfu = self.sfus.get_mut(&node).unwrap();
        sfu.commands.clear();
        sfu.events.clear();
    }

    fn join(&mut self, number: u64, room: &str) -> Result<SocketId, JoinRefused> {
        let socket = SocketId(number);
        let grant = VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() };
        let claims = Claims { sub: format!("p{number}"), video: Some(grant), ..Claims::default() };
        let request = JoinRequest {
            connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..Default::default() }),
            publisher_offer: Some(offer()),
            ..JoinRequest::default()
        };
        let result = self.rooms.join(self.now, Admission { socket, claims, request, protocol: Protocol::V1 });
        self.drain();
        result.map(|_| socket)
    }

    fn ask(&mut self, socket: SocketId, request: Request) {
        self.rooms.handle_request(self.now, socket, Some(request));
        self.drain();
    }

    fn publish(&mut self, socket: SocketId) {
        let count = self.told.get(&socket).map_or(0, Vec::len);
        let announced = AddTrackRequest {
            cid: format!("mic-{count}"),
            r#type: TrackType::Audio.into(),
            source: TrackSource::Microphone.into(),
            ..AddTrackRequest::default()
        };
        self.ask(socket, Request::AddTrack(announced));
        self.ask(socket, Request::Offer(offer()));
    }

    /// The clients that were told to join anew.
    fn sent_away(&self) -> BTreeSet<SocketId> {
        let anew = |message: &Response| matches!(message, Response::Leave(leave) if leave.action() == Action::Reconnect);
        self.told.iter().filter(|(_, told)| told.iter().any(anew)).map(|(socket, _)| *socket).collect()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.rooms.poll_timeout().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.rooms.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Lets time pass while the clients ping.
    fn pass_with_pings(&mut self, time: Duration, sockets: &[SocketId]) {
        for _ in 0..time.as_secs() / 5 {
            for socket in sockets {
                self.ask(*socket, Request::Ping(0));
            }
            self.pass(Duration::from_secs(5));
        }
    }

    fn rooms_at(&self, node: NodeId) -> usize {
        self.sfus[&node].rooms.len()
    }
}

fn offer() -> SessionDescription {
    SessionDescription { r#type: "offer".into(), sdp: "v=0".into(), id: 1, ..Default::default() }
}

#[test]
fn rooms_spread_over_the_nodes_and_stay_where_they_are() {
    let mut world = World::new(&[A, B]);
    for number in 0..6 {
        world.join(number, &format!("lesson-{}", number / 2)).unwrap();
    }
    world.settle();
    assert_eq!((world.rooms_at(A), world.rooms_at(B)), (2, 1));
    let loads: Vec<_> =
        world.rooms.node_loads().map(|(name, up, load)| (name.to_owned(), up, load)).collect();
    assert_eq!(loads[0].0, "node-1");
    assert_eq!((loads[0].2.participants, loads[1].2.participants), (4, 2));

    world.event(B, NodeEvent::Said(FromSfu::Draining));
    world.join(10, "another").unwrap();
    assert_eq!(world.join(11, "lesson-1"), Err(JoinRefused::Draining), "the node of that lesson");
    world.settle();
    assert_eq!((world.rooms_at(A), world.rooms_at(B)), (3, 1), "no new ones where it drains");
}

#[test]
fn without_a_node_a_client_is_asked_to_come_back() {
    let mut world = World::new(&[]);
    assert_eq!(world.join(1, "lesson"), Err(JoinRefused::NoNode));
    assert_eq!(world.sent_away(), [SocketId(1)].into());
}

#[test]
fn a_short_outage_is_not_noticed_by_anybody() {
    let mut world = World::new(&[A, B]);
    let socket = world.join(1, "lesson").unwrap();
    world.settle();
    world.event(A, NodeEvent::Interrupted);
    world.pass_with_pings(PATIENCE - Duration::from_secs(5), &[socket]);
    world.publish(socket);
    world.event(A, NodeEvent::Resumed);
    world.settle();
    world.pass_with_pings(2 * PATIENCE, &[socket]);
    assert!(world.sent_away().is_empty() && world.closed.is_empty());
    assert_eq!(world.rooms.census().tracks, 1, "what was said meanwhile arrived");
}

#[test]
fn participants_of_a_lost_node_join_anew_on_another_one() {
    let mut world = World::new(&[A, B]);
    let socket = world.join(1, "lesson").unwrap();
    world.settle();
    world.event(A, NodeEvent::Interrupted);
    world.pass_with_pings(PATIENCE + Duration::from_secs(5), &[socket]);
    assert_eq!(world.sent_away(), [socket].into());
    world.join(2, "lesson").unwrap();
    world.settle();
    assert_eq!(world.rooms_at(B), 1);
}

#[test]
fn where_no_other_node_could_take_over_a_lost_one_keeps_its_rooms() {
    let mut world = World::new(&[A]);
    let socket = world.join(1, "lesson").unwrap();
    world.settle();
    world.event(A, NodeEvent::Interrupted);
    world.pass_with_pings(4 * PATIENCE, &[socket]);
    assert!(world.sent_away().is_empty(), "media goes on");
    assert_eq!(world.join(2, "other"), Err(JoinRefused::NoNode));
    world.sfus.insert(B, Sfu::default());
    world.up(B);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.sent_away(), [socket, SocketId(2)].into());
}

#[test]
fn participants_of_a_restarted_node_join_anew() {
    let mut world = World::new(&[A]);
    let socket = world.join(1, "lesson").unwrap();
    world.settle();
    world.sfus.insert(A, Sfu::default());
    world.up(A);
    assert_eq!(world.sent_away(), [socket].into());
    assert_eq!(world.rooms.census().rooms, 0);
    world.join(2, "lesson").unwrap();
    world.settle();
    assert_eq!(world.rooms_at(A), 1);
}

#[test]
fn a_node_speaks_for_its_own_rooms_only() {
    let mut world = World::new(&[A, B]);
    world.join(1, "lesson").unwrap();
    world.settle();
    let transport = world.sfus.get_mut(&A).unwrap().transports().next().unwrap().transport;
    let closed = || NodeEvent::Said(FromSfu::TransportClosed { transport, reason: CloseReason::Shutdown });
    assert_eq!(world.rooms.handle_node(world.now, B, closed()), Err(Ignored::Foreign));
    world.drain();
    assert_eq!((world.rooms.census().participants, world.sent_away().len()), (1, 0));
    world.event(A, closed());
    assert_eq!(world.rooms.census().participants, 0);
}

#[test]
fn a_class_that_is_sent_away_hears_nothing_else() {
    let mut world = World::new(&[A]);
    let sockets: Vec<_> = (0..100).map(|number| world.join(number, "lesson").unwrap()).collect();
    world.settle();
    world.told.clear();
    world.sfus.insert(A, Sfu::default());
    world.up(A);
    for socket in sockets {
        assert!(matches!(world.told[&socket][..], [Response::Leave(_)]) && world.closed.contains(&socket));
    }
    assert_eq!(world.rooms.census(), Census::default());
}

#[test]
fn who_differs_joins_anew_and_those_who_received_it_stay() {
    let mut world = World::new(&[A]);
    let teacher = world.join(1, "lesson").unwrap();
    let classes = [2, 3].map(|number| world.join(number, "lesson").unwrap());
    world.publish(teacher);
    world.settle();
    for class in classes {
        world.ask(class, Request::Offer(offer()));
    }
    world.settle();
    world.sfus.get_mut(&A).unwrap().transports().next().unwrap().settled = false;
    world.up(A);
    assert_eq!(world.sent_away(), [teacher].into());
    assert_eq!(world.rooms.census().participants, classes.len());
}

#[test]
fn rooms_of_a_signaling_process_before_this_one_go_on_for_a_while() {
    let mut before = World::new(&[A]);
    before.join(1, "lesson").unwrap();
    before.settle();
    let mut world = World::new(&[]);
    world.sfus = std::mem::take(&mut before.sfus);
    world.up(A);
    world.pass(ORPHAN_GRACE - Duration::from_secs(1));
    world.settle();
    assert_eq!(world.rooms_at(A), 1, "media goes on");
    world.pass(Duration::from_secs(2));
    world.settle();
    assert_eq!(world.rooms_at(A), 0);
}

#[test]
fn a_stopping_service_leaves_media_alone() {
    let mut world = World::new(&[A]);
    let socket = world.join(1, "lesson").unwrap();
    world.settle();
    world.rooms.suspend();
    world.drain();
    assert!(world.sfus[&A].commands.is_empty() && world.closed.contains(&socket));
}

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn an_sfu_is_told_again_how_clients_want_what_they_receive() {
    let mut world = World::new(&[A]);
    let teacher = world.join(1, "lesson").unwrap();
    let class = world.join(2, "lesson").unwrap();
    world.publish(teacher);
    world.settle();
    world.ask(class, Request::Offer(offer()));
    world.settle();
    let track_sids = published(&world, teacher);
    for disabled in [true, false] {
        let track_sids = track_sids.clone();
        let settings = UpdateTrackSettings { track_sids, disabled, ..UpdateTrackSettings::default() };
        world.ask(class, Request::TrackSetting(settings));
        world.cut(A);
        world.up(A);
        let wishes = world.sfus[&A].commands.iter().filter_map(|command| match command {
            ToSfu::SetWish { wish, .. } => Some(wish.paused),
            _ => None,
        });
        assert_eq!(wishes.collect::<Vec<_>>(), [disabled], "also what it was at the beginning");
        world.settle();
        assert!(world.sent_away().is_empty());
    }
}

#[test]
fn whatever_was_lost_both_sides_agree_when_a_session_has_begun_anew() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut world = World::new(&[A, B]);
        let (mut sockets, mut sids) = (Vec::new(), Vec::new());
        for number in 0..60 {
            match random.below(10) {
                0..3 => sockets.extend(world.join(number, ["x", "y", "z"][random.below(3)])),
                3 | 4 if !sockets.is_empty() => world.publish(sockets[random.below(sockets.len())]),
                5 if !sockets.is_empty() => {
                    let socket = sockets[random.below(sockets.len())];
                    sids.extend(published(&world, socket));
                    let track_sids = sids.clone();
                    let wishes = UpdateSubscription {
                        track_sids,
                        subscribe: random.below(2) == 0,
                        ..Default::default()
                    };
                    world.ask(socket, Request::Subscription(wishes));
                }
                6 if !sockets.is_empty() => {
                    let socket = sockets.swap_remove(random.below(sockets.len()));
                    world.ask(socket, Request::Leave(livekit_protocol::LeaveRequest::default()));
                }
                7 if random.below(4) == 0 => {
                    let node = [A, B][random.below(2)];
                    world.cut(node);
                    if random.below(4) == 0 {
                        world.sfus.insert(node, Sfu::default());
                    }
                    world.up(node);
                }
                _ => world.step([A, B][random.below(2)]),
            }
        }
        for node in [A, B] {
            world.cut(node);
            world.up(node);
        }
        world.settle();

        let census = world.rooms.census();
        let transports: usize =
            world.sfus.values().flat_map(|sfu| sfu.rooms.values()).map(BTreeMap::len).sum();
        let rooms: usize = world.sfus.values().map(|sfu| sfu.rooms.len()).sum();
        assert_eq!((transports, rooms), (census.participants, census.rooms), "seed {seed}");
        // They agree in everything: to compare once more changes nothing.
        let sent_away = world.sent_away();
        for node in [A, B] {
            // A client answers what it is asked for; here nobody does, so that is no difference.
            world.sfus.get_mut(&node).unwrap().transports().for_each(|transport| transport.settled = true);
            world.up(node);
        }
        let closes = |command: &ToSfu| !matches!(command, ToSfu::SetMuted { .. } | ToSfu::SetWish { .. });
        assert!(!world.sfus.values().flat_map(|sfu| &sfu.commands).any(closes), "seed {seed}");
        assert_eq!(world.sent_away(), sent_away, "seed {seed}");
    }
}

fn published(world: &World, socket: SocketId) -> Vec<String> {
    let told = world.told.get(&socket).into_iter().flatten();
    let sids = told.filter_map(|message| match message {
        Response::TrackPublished(published) => Some(published.track.as_ref()?.sid.clone()),
        _ => None,
    });
    sids.collect()
}
