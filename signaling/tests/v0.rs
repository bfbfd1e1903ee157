//! Clients that speak the older protocol, on `/rtc`: they send on one connection and receive on another, on
//! which the server offers. Without sockets and in virtual time.

#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests as tests")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ConnectionQuality, DataPacket, JoinRequest, JoinResponse, LeaveRequest, Ping,
    SessionDescription, StoreDataBlobRequest, TrackSource, TrackType, TrickleRequest, UpdateSubscription,
    UserPacket, data_packet, participant_info,
};
use prost::Message as _;
use sfu_protocol::control::{CloseReason, Delivery, FromSfu, Msid, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use sfu_protocol::people::LinkQuality;
use signaling::auth::{Claims, VideoGrant};
use signaling::clock::WallClock;
use signaling::ids::SocketId;
use signaling::limits::Limits;
use signaling::outbox::Output;
use signaling::protocol::Protocol;
use signaling::rooms::{Admission, Rooms};

/// A client, and the transports that it was given.
#[derive(Clone, Copy)]
struct Client {
    socket: SocketId,
    sends_on: TransportId,
    receives_on: TransportId,
}

struct Lesson {
    rooms: Rooms,
    now: Instant,
    told: HashMap<SocketId, Vec<Response>>,
    closed: Vec<SocketId>,
    commands: Vec<ToSfu>,
}

impl Lesson {
    fn new() -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::from_secs(1_800_000_000));
        let rooms = Rooms::new(Limits::default(), clock, 1);
        Self { rooms, now, told: HashMap::new(), closed: Vec::new(), commands: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::ToClient { socket, message } => self.told.entry(socket).or_default().push(*message),
                Output::Close { socket } => self.closed.push(socket),
                Output::ToSfu(_, command) => self.commands.push(command),
            }
        }
    }

    fn join(&mut self, number: u64, protocol: Protocol) -> Client {
        let grant = VideoGrant { room_join: true, room: "algebra".into(), ..VideoGrant::default() };
        let claims = Claims { sub: format!("p{number}"), video: Some(grant), ..Claims::default() };
        let socket = SocketId(number);
        let admission = Admission { socket, claims, request: JoinRequest::default(), protocol };
        self.rooms.join(self.now, admission).unwrap();
        self.drain();
        let opened: Vec<_> = self
            .commands
            .iter()
            .filter_map(|command| match command {
                ToSfu::OpenTransport { transport, .. } | ToSfu::OpenOffering { transport, .. } => {
                    Some(*transport)
                }
                _ => None,
            })
            .collect();
        let receives_on = *opened.last().unwrap();
        let sends_on = if protocol == Protocol::V0 { opened[opened.len() - 2] } else { receives_on };
        Client { socket, sends_on, receives_on }
    }

    /// The room that was opened first.
    fn room(&self) -> RoomId {
        let opened = self.commands.iter().find_map(|command| match command {
            ToSfu::OpenRoom { room } => Some(*room),
            _ => None,
        });
        opened.expect("somebody has joined")
    }

    fn ask(&mut self, client: Client, request: Request) {
        self.rooms.handle_request(self.now, client.socket, Some(request));
        self.drain();
    }

    fn sfu(&mut self, event: FromSfu) {
        self.rooms.handle_sfu(self.now, event).unwrap();
        self.drain();
    }

    fn connect(&mut self, transport: TransportId) {
        self.sfu(FromSfu::TransportConnected { transport, srtp_profile: "AEAD_AES_128_GCM".into() });
    }

    /// Announces a camera, offers it, and has it answered.
    fn publish(&mut self, client: Client) -> (TrackId, String) {
        let request = AddTrackRequest {
            cid: "camera".into(),
            r#type: TrackType::Video.into(),
            source: TrackSource::Camera.into(),
            ..AddTrackRequest::default()
        };
        self.ask(client, Request::AddTrack(request));
        let sid = self.take(client, |message| match message {
            Response::TrackPublished(published) => Some(published.track.unwrap().sid),
            _ => None,
        });
        self.ask(client, Request::Offer(description("offer", 1)));
        let track = self.commands.iter().rev().find_map(|command| match command {
            ToSfu::Offer { transport, publish, .. } if *transport == client.sends_on => {
                publish.last().map(|publish| publish.track)
            }
            _ => None,
        });
        let track = track.unwrap();
        let mid_to_track = vec![("0".to_owned(), track)];
        self.sfu(FromSfu::Answer {
            transport: client.sends_on,
            offer_id: 1,
            sdp: "v=0".into(),
            mid_to_track,
        });
        (track, sid[0].clone())
    }

    fn take<T>(&mut self, client: Client, what: impl Fn(Response) -> Option<T>) -> Vec<T> {
        self.told.remove(&client.socket).unwrap_or_default().into_iter().filter_map(what).collect()
    }

    fn commands<T>(&mut self, what: impl Fn(ToSfu) -> Option<T>) -> Vec<T> {
        std::mem::take(&mut self.commands).into_iter().filter_map(what).collect()
    }

    fn subscribed(&mut self) -> Vec<(TransportId, TrackId, Msid)> {
        self.commands(|command| match command {
            ToSfu::Subscribe { transport, track, msid } => Some((transport, track, msid)),
            _ => None,
        })
    }
}

fn description(kind: &str, id: u32) -> SessionDescription {
    SessionDescription { r#type: kind.into(), sdp: "v=0".into(), id, ..Default::default() }
}

#[test]
fn a_join_makes_two_transports_on_one_link_and_says_which_is_primary() {
    let mut lesson = Lesson::new();
    let ana = lesson.join(1, Protocol::V0);
    let opened = lesson.commands(|command| match command {
        ToSfu::OpenTransport { room, transport, link } => Some((room, transport, link, Vec::new())),
        ToSfu::OpenOffering { room, transport, link, channels } => {
            let channels = channels.into_iter().map(|channel| (channel.label, channel.delivery));
            Some((room, transport, link, channels.collect()))
        }
        _ => None,
    });
    let channels = [("_reliable".into(), Delivery::Reliable), ("_lossy".into(), Delivery::Lossy)];
    let (room, link) = (opened[0].0, opened[0].2.clone());
    assert_eq!(
        opened,
        [(room, ana.sends_on, link.clone(), vec![]), (room, ana.receives_on, link, channels.to_vec())]
    );
    let first = lesson.told[&ana.socket][0].clone();
    let Response::Join(JoinResponse { subscriber_primary, fast_publish, .. }) = first else {
        panic!("the first message is the join response")
    };
    assert!(subscriber_primary && fast_publish);
    assert_eq!((lesson.rooms.census().participants, lesson.rooms.census().rooms), (1, 1));
}

#[test]
fn offers_go_down_and_answers_up_with_their_number_and_tracks() {
    let mut lesson = Lesson::new();
    let (teacher, pupil) = (lesson.join(1, Protocol::V1), lesson.join(2, Protocol::V0));
    let (track, sid) = lesson.publish(teacher);
    let [(to, subscribed, msid)] = <[_; 1]>::try_from(lesson.subscribed()).unwrap();
    assert_eq!((to, subscribed), (pupil.receives_on, track));
    assert!(
        msid.stream.ends_with(&format!("|{sid}")),
        "{msid:?}: a line that is used again keeps its track's id"
    );

    let mid_to_track = vec![("1".to_owned(), track)];
    let (transport, sdp) = (pupil.receives_on, "v=0 offer".to_owned());
    lesson.take(pupil, |_| None::<()>);
    lesson.sfu(FromSfu::Offer { transport, offer_id: 7, sdp, mid_to_track });
    let offers = lesson.take(pupil, |message| match message {
        Response::Offer(offer) => Some((offer.r#type, offer.sdp, offer.id, offer.mid_to_track_id)),
        _ => None,
    });
    let mids = HashMap::from([("1".to_owned(), sid.clone())]);
    assert_eq!(offers, [("offer".to_owned(), "v=0 offer".to_owned(), 7, mids)]);

    lesson.take(teacher, |_| None::<()>);
    lesson.ask(pupil, Request::Answer(description("answer", 7)));
    let answers = lesson.commands(|command| match command {
        ToSfu::Answer { transport, offer_id, sdp } => Some((transport, offer_id, sdp)),
        _ => None,
    });
    assert_eq!(answers, [(pupil.receives_on, 7, "v=0".to_owned())]);
    let received = lesson.take(teacher, |message| match message {
        Response::TrackSubscribed(subscribed) => Some(subscribed.track_sid),
        _ => None,
    });
    assert_eq!(received, [sid], "its publisher knows that somebody receives it");
}

#[test]
fn an_answer_of_a_client_with_one_connection_means_nothing() {
    let mut lesson = Lesson::new();
    let ana = lesson.join(1, Protocol::V1);
    lesson.commands(|_| None::<()>);
    lesson.ask(ana, Request::Answer(description("answer", 1)));
    assert!(lesson.commands.is_empty() && lesson.closed.is_empty());
}

#[test]
fn a_participant_is_active_once_it_can_receive() {
    let mut lesson = Lesson::new();
    let (ana, ben) = (lesson.join(1, Protocol::V0), lesson.join(2, Protocol::V1));
    lesson.take(ben, |_| None::<()>);
    let active = |lesson: &mut Lesson| {
        let updates = lesson.take(ben, |message| match message {
            Response::Update(update) => Some(update.participants),
            _ => None,
        });
        updates.into_iter().flatten().map(|info| info.state()).collect::<Vec<_>>()
    };
    lesson.connect(ana.sends_on);
    assert_eq!(active(&mut lesson), []);
    lesson.connect(ana.receives_on);
    assert_eq!(active(&mut lesson), [participant_info::State::Active]);
}

#[test]
fn what_a_client_publishes_goes_to_both_kinds_and_never_back_to_itself() {
    let mut lesson = Lesson::new();
    let ana = lesson.join(1, Protocol::V0);
    let (ben, eva) = (lesson.join(2, Protocol::V1), lesson.join(3, Protocol::V0));
    let (track, sid) = lesson.publish(ana);
    let to: Vec<_> = lesson.subscribed().into_iter().map(|(to, ..)| to).collect();
    assert_eq!(to, [ben.receives_on, eva.receives_on]);
    let late = lesson.join(4, Protocol::V0);
    let to: Vec<_> = lesson.subscribed().into_iter().map(|(to, track, _)| (to, track)).collect();
    assert_eq!(to, [(late.receives_on, track)]);

    let wish = |subscribe| UpdateSubscription {
        track_sids: vec![sid.clone()],
        subscribe,
        ..UpdateSubscription::default()
    };
    lesson.ask(eva, Request::Subscription(wish(false)));
    let unsubscribed = lesson.commands(|command| match command {
        ToSfu::Unsubscribe { transport, track } => Some((transport, track)),
        _ => None,
    });
    assert_eq!(unsubscribed, [(eva.receives_on, track)]);
    lesson.ask(eva, Request::Subscription(wish(true)));
    assert_eq!(lesson.subscribed()[0].0, eva.receives_on);
}

#[test]
fn data_comes_from_one_connection_and_goes_to_the_other() {
    let mut lesson = Lesson::new();
    let (ana, ben, eva) =
        (lesson.join(1, Protocol::V0), lesson.join(2, Protocol::V1), lesson.join(3, Protocol::V0));
    let mut send = |from: TransportId| {
        let user = UserPacket { payload: b"hello".to_vec(), ..UserPacket::default() };
        let packet = DataPacket { value: Some(data_packet::Value::User(user)), ..DataPacket::default() };
        let channel = "_reliable".to_owned();
        lesson.sfu(FromSfu::Data { transport: from, channel, bytes: packet.encode_to_vec() });
        lesson.commands(|command| match command {
            ToSfu::SendData { recipients, .. } => Some(recipients),
            _ => None,
        })
    };
    assert_eq!(send(ana.sends_on), [[ben.receives_on, eva.receives_on]]);
    assert_eq!(send(ben.sends_on), [[ana.receives_on, eva.receives_on]]);
}

#[test]
fn a_link_is_as_good_as_the_worse_of_both_connections() {
    let mut lesson = Lesson::new();
    let ana = lesson.join(1, Protocol::V0);
    let room = lesson.room();
    let mut report = |links: &[(TransportId, u8)]| {
        let links = links
            .iter()
            .map(|&(transport, score)| LinkQuality { transport, score, loss: 0, rtt_ms: None })
            .collect();
        lesson.sfu(FromSfu::LinkQuality { room, links });
        lesson.take(ana, |message| match message {
            Response::ConnectionQuality(update) => {
                Some(update.updates.into_iter().map(|info| info.quality()).collect::<Vec<_>>())
            }
            _ => None,
        })
    };
    let (poor, excellent) = (20, 100);
    assert_eq!(report(&[(ana.sends_on, excellent)]), [[ConnectionQuality::Excellent]]);
    let both = [(ana.receives_on, poor), (ana.sends_on, excellent)];
    assert_eq!(report(&both), [[ConnectionQuality::Poor]], "one entry");
    assert_eq!(report(&[(ana.sends_on, excellent)]), [[ConnectionQuality::Poor]], "the other is as it was");
    assert_eq!(report(&[(ana.receives_on, excellent)]), [[ConnectionQuality::Excellent]]);
}

#[test]
fn the_end_of_either_connection_ends_the_session_and_closes_both() {
    for receiving in [true, false] {
        let mut lesson = Lesson::new();
        let ana = lesson.join(1, Protocol::V0);
        lesson.connect(ana.receives_on);
        lesson.take(ana, |_| None::<()>);
        let transport = if receiving { ana.receives_on } else { ana.sends_on };
        lesson.sfu(FromSfu::TransportClosed { transport, reason: CloseReason::ConsentExpired });
        let leaves = lesson.take(ana, |message| match message {
            Response::Leave(leave) => Some(leave.action()),
            _ => None,
        });
        assert_eq!(leaves, [Action::Reconnect]);
        let closed = lesson.commands(|command| match command {
            ToSfu::CloseTransport { transport } => Some(transport),
            _ => None,
        });
        assert_eq!(closed, [ana.sends_on, ana.receives_on]);
        assert_eq!(lesson.rooms.census().participants, 0);
        // Its report of the other comes after the participant is gone.
        lesson.sfu(FromSfu::TransportClosed { transport: ana.receives_on, reason: CloseReason::Requested });
    }
}

#[test]
fn an_answer_that_the_sfu_cannot_use_ends_the_session() {
    for (connected, action) in [(false, Action::Disconnect), (true, Action::Reconnect)] {
        let mut lesson = Lesson::new();
        let ana = lesson.join(1, Protocol::V0);
        if connected {
            lesson.publish(ana);
        }
        lesson.take(ana, |_| None::<()>);
        let transport = ana.receives_on;
        lesson.sfu(FromSfu::AnswerRejected { transport, offer_id: 1, reason: "odd".into() });
        let leaves = lesson.take(ana, |message| match message {
            Response::Leave(leave) => Some(leave.action()),
            _ => None,
        });
        assert_eq!((leaves, lesson.closed.as_slice()), (vec![action], &[ana.socket][..]));
    }
}

#[test]
fn candidates_pings_leaves_and_unknown_requests_are_as_in_the_newer_protocol() {
    let mut lesson = Lesson::new();
    let ana = lesson.join(1, Protocol::V0);
    lesson.take(ana, |_| None::<()>);
    lesson.commands(|_| None::<()>);
    for target in [0, 1] {
        lesson.ask(ana, Request::Trickle(TrickleRequest { target, ..TrickleRequest::default() }));
    }
    assert!(lesson.commands.is_empty() && lesson.told.is_empty(), "found by its checks");
    lesson.ask(ana, Request::Ping(5));
    lesson.ask(ana, Request::PingReq(Ping { timestamp: 5, rtt: 0 }));
    lesson.ask(ana, Request::StoreDataBlobRequest(StoreDataBlobRequest::default()));
    let answers = lesson.take(ana, |message| match message {
        Response::Pong(_) => Some("pong"),
        Response::PongResp(pong) if pong.last_ping_timestamp == 5 => Some("pong_resp"),
        Response::RequestResponse(response) if response.reason() == Reason::UnsupportedType => {
            Some("unsupported")
        }
        _ => None,
    });
    assert_eq!(answers, ["pong", "pong_resp", "unsupported"]);
    lesson.ask(ana, Request::Leave(LeaveRequest::default()));
    assert_eq!(lesson.rooms.census().participants, 0);
    assert_eq!(lesson.closed, [ana.socket]);
}
