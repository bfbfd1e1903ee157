//! What a lesson takes on the heap: a transport that is connected and idle, a down track that is idle, one that
//! forwards. The clients are real (ICE, DTLS, SCTP), but only what the worker allocates counts.
//!
//! The binary that calls this has to run on [`crate::counting::Counting`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use sfu_core::command::Command;
use sfu_core::room::RoomConfig;
use sfu_core::rtp::params::Codec;
use sfu_core::sim::client::Client;
use sfu_core::sim::clock;
use sfu_core::transport::demux::{Class, classify};
use sfu_core::transport::params::{IceCredentials, SctpParams};
use sfu_core::transport::peer::Peer;
use sfu_core::transport::{Identity, Transport, TransportConfig};
use sfu_core::units::{MAX_DATAGRAM_OUT, RoomId, TrackId, TransportId, Wish};
use sfu_core::worker::{TRANSMIT_BUFFER, Transmit, Tuple, Worker, WorkerConfig, WorkerIndex};
use sfu_protocol::control::{DataChannel, Delivery};

use crate::counting::{bytes, counted, is_installed};

/// Bytes of one room, each per transport or track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Participants, each with one transport; one of them publishes.
    pub participants: usize,
    /// A transport without data channels, connected and idle, with all that the worker and the room keep for it.
    pub idle_transport: usize,
    /// The same with two open data channels.
    pub idle_transport_with_channels: usize,
    /// What the first packet that is sent on a transport makes, beside its down track.
    pub first_packet: usize,
    /// A picture that nothing was forwarded of yet.
    pub down_track: usize,
    /// One that is forwarded, with its share of the queue in front of the link and the record of what can be sent
    /// again; without the cache, which is the up track's.
    pub active_down_track: usize,
    /// The same of sound.
    pub active_audio_down_track: usize,
    /// The publisher's picture in three sizes, with the packet cache that all its receivers share.
    pub up_track: usize,
}

/// Measures a lesson of so many participants.
pub fn measure(participants: usize) -> anyhow::Result<Footprint> {
    ensure!(is_installed(), "this binary does not count allocations");
    ensure!(participants >= 2, "somebody has to receive");
    let (_, idle_transport) = connect(participants, false)?;
    let (mut lesson, idle_transport_with_channels) = connect(participants, true)?;
    let receivers = participants - 1;

    let [first_sound, sound] =
        [(); 2].map(|()| lesson.publish(|client, now| client.publish(now, Codec::Opus)));
    let before = bytes();
    let picture = lesson.publish(Client::publish_simulcast);
    lesson.run(UP_TRACK);
    let up_track = since(before);

    let before = bytes();
    lesson.subscribe(picture, Codec::Vp8, Wish { paused: true, ..Wish::default() });
    let down_track = since(before) / receivers;

    let mut forward = |track, codec| {
        let before = bytes();
        lesson.subscribe(track, codec, Wish::default());
        lesson.clients[0].want_key_frames();
        lesson.run(FORWARDED);
        since(before) / receivers
    };
    let first_packet = forward(first_sound, Codec::Opus);
    let active_audio_down_track = forward(sound, Codec::Opus);
    let active_down_track = down_track + forward(picture, Codec::Vp8);
    Ok(Footprint {
        participants,
        idle_transport,
        idle_transport_with_channels,
        first_packet: first_packet.saturating_sub(active_audio_down_track),
        down_track,
        active_down_track,
        active_audio_down_track,
        up_track,
    })
}

/// How long the picture comes before anybody receives it: until its cache has its final size.
const UP_TRACK: Duration = Duration::from_secs(5);

/// How long a track is forwarded: its queue and records have their final size from the first key frame on.
const FORWARDED: Duration = Duration::from_secs(2);

/// A lesson in which so many are connected and idle, and what each takes.
fn connect(participants: usize, channels: bool) -> anyhow::Result<(Lesson, usize)> {
    let mut lesson = Lesson::new()?;
    let before = bytes();
    for _ in 0..participants {
        lesson.join(channels);
    }
    lesson.run(Duration::from_secs(10));
    ensure!(lesson.clients.iter().all(Client::is_connected), "a client was not connected");
    Ok((lesson, since(before) / participants))
}

fn since(before: isize) -> usize {
    usize::try_from(bytes() - before).unwrap_or_default()
}

/// What the parts of one connected and idle transport hold on the heap. `rtc` says whose most of it is.
pub fn parts() -> anyhow::Result<Vec<(&'static str, usize)>> {
    ensure!(is_installed(), "this binary does not count allocations");
    let mut now = clock::origin();
    let server = credentials(0);
    let config = Arc::new(TransportConfig::new(Arc::new(Identity::generate()?)));
    let mut peer = Peer::new(now, 0, server.clone()).with_data_channels(sctp());
    let mut transport = counted(|| Transport::new(now, &config, server, peer.params()));
    let tuple = Tuple { local: SERVER, remote: SocketAddr::from(([198, 51, 100, 1], 40_000)) };
    let mut out = [0; MAX_DATAGRAM_OUT];
    for _ in 0..10_000 / STEP.as_millis() {
        now += STEP;
        if peer.poll_timeout().is_some_and(|due| due <= now) {
            peer.handle_timeout(now);
        }
        while let Some(datagram) = peer.poll_transmit() {
            // What it refuses it may well refuse: only the end counts.
            let _ = counted(|| match classify(&datagram) {
                Class::Stun => transport.handle_stun(now, tuple, &datagram).is_ok(),
                _ => transport.handle_dtls(now, tuple, &datagram).is_ok(),
            });
            while counted(|| transport.poll_event()).is_some() {}
            while let Some((_, len)) = counted(|| transport.poll_transmit(&mut out)) {
                peer.handle_datagram(now, &mut out[..len]);
            }
        }
        counted(|| transport.handle_timeout(now));
    }
    ensure!(peer.is_connected(), "the client was not connected");
    let mut parts = vec![("Transport itself", size_of::<Transport>())];
    for (name, part) in transport.into_parts() {
        let before = bytes();
        drop(part);
        parts.push((name, usize::try_from(before - bytes()).unwrap_or_default()));
    }
    Ok(parts)
}

/// A room whose datagrams arrive at once.
struct Lesson {
    now: Instant,
    worker: Worker,
    clients: Vec<Client>,
    by_address: HashMap<SocketAddr, usize>,
    out: Vec<u8>,
}

impl Lesson {
    fn new() -> anyhow::Result<Self> {
        let identity = Identity::generate().context("no certificate")?;
        let config = WorkerConfig {
            transport: Arc::new(TransportConfig::new(Arc::new(identity))),
            room: RoomConfig::default(),
            max_transports: RoomConfig::default().max_participants,
            index: WorkerIndex(0),
            workers: 1,
        };
        let now = clock::origin();
        let mut worker = counted(|| Worker::new(config));
        counted(|| worker.handle_command(now, Command::OpenRoom { room: ROOM }));
        Ok(Self {
            now,
            worker,
            clients: Vec::new(),
            by_address: HashMap::new(),
            out: vec![0; TRANSMIT_BUFFER],
        })
    }

    fn join(&mut self, channels: bool) {
        let place = self.clients.len();
        let (id, local) = (TransportId(place as u64 + 1), credentials(place));
        let client = Client::new(self.now, id, local.clone());
        let client = if channels { client.with_data_channels(sctp()) } else { client };
        self.by_address.insert(client.address(), place);
        self.command(&Command::OpenTransport { room: ROOM, transport: id, local, remote: client.params() });
        self.clients.push(client);
    }

    /// Lets the first client publish.
    fn publish(
        &mut self,
        publish: impl FnOnce(&mut Client, Instant) -> sfu_core::sim::client::Publication,
    ) -> TrackId {
        let publication = publish(&mut self.clients[0], self.now);
        let (track, source, params) = (publication.track, publication.source, publication.params);
        self.command(&Command::Publish { transport: self.clients[0].id(), track, source, params });
        track
    }

    /// Lets all others receive a track, or changes how.
    fn subscribe(&mut self, track: TrackId, codec: Codec, wish: Wish) {
        for receiver in 1..self.clients.len() {
            let transport = self.clients[receiver].id();
            if !self.clients[receiver].expects(track) {
                let params = self.clients[receiver].expect_track(track, codec);
                self.command(&Command::Subscribe { transport, track, params });
            }
            self.command(&Command::SetWish { transport, track, wish });
        }
    }

    /// What a command carries becomes the worker's: the copy is made on its account.
    fn command(&mut self, command: &Command) {
        counted(|| self.worker.handle_command(self.now, command.clone()));
        self.settle();
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for client in 0..self.clients.len() {
                if self.clients[client].poll_timeout().is_some_and(|due| due <= self.now) {
                    self.clients[client].handle_timeout(self.now);
                    self.listen(client);
                }
            }
            counted(|| self.worker.handle_timeout(self.now));
            self.settle();
        }
    }

    fn listen(&mut self, client: usize) {
        let tuple = Tuple { local: SERVER, remote: self.clients[client].address() };
        while let Some(mut datagram) = self.clients[client].poll_transmit() {
            counted(|| self.worker.handle_datagram(self.now, tuple, &mut datagram));
            self.settle();
        }
    }

    /// Hands out what leaves. Media does not arrive: nobody looks at it.
    fn settle(&mut self) {
        while counted(|| self.worker.handle_deferred(self.now)) {}
        while counted(|| self.worker.poll_event()).is_some() {}
        while let Some(transmit) = counted(|| self.worker.poll_transmit(self.now, &mut self.out)) {
            let Transmit { tuple, len, segment: None, .. } = transmit else { continue };
            if matches!(classify(&self.out[..len]), Class::Rtp | Class::Rtcp) {
                continue;
            }
            if let Some(&client) = self.by_address.get(&tuple.remote) {
                self.clients[client].handle_datagram(self.now, &mut self.out[..len]);
                self.listen(client);
            }
        }
    }
}

const ROOM: RoomId = RoomId(1);

const STEP: Duration = Duration::from_millis(10);

/// The address of the server.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7882);

/// Ours for a client, as long as signaling's.
fn credentials(place: usize) -> IceCredentials {
    let owner = String::from_iter(WorkerIndex(0).ufrag_prefix());
    IceCredentials { ufrag: format!("{owner}{place:06x}"), pwd: format!("server-password-{place:08x}") }
}

/// The channels that signaling opens on a receiving transport.
fn sctp() -> SctpParams {
    let channels = [("_reliable", Delivery::Reliable), ("_lossy", Delivery::Lossy)];
    let channels = channels.map(|(label, delivery)| DataChannel { label: label.to_owned(), delivery });
    SctpParams { port: 5000, max_message_size: 65_536, channels: channels.into() }
}
