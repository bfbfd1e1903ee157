//! Arbitrary datagrams, commands and pauses for a worker with two connected clients: nothing panics, and what
//! leaves can be opened and read.

use std::time::Duration;

use arrayvec::ArrayVec;
use bytes::Bytes;
use rustc_hash::FxHashSet;

use super::client::Client;
use super::clock;
use super::network::{Network, SERVER};
use super::path::Conditions;
use crate::command::{CloseReason, Command};
use crate::rtp::packet::RtpView;
use crate::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, Mid, ReceiveParams, Rid, SendParams, Ssrc,
};
use crate::transport::Tuple;
use crate::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams, SctpParams};
use crate::units::{MediaKind, RoomId, Size, Source, TrackId, TransportId, Wish};
use crate::worker::WorkerIndex;

/// Reads `data` as steps of four bytes and as many more as the last of them says: what to do, whose, with what.
pub fn fuzz(data: &[u8]) {
    let mut script = Script::new();
    let mut rest = data;
    for _ in 0..MAX_STEPS {
        let Some((&[what, who, value, len], behind)) = rest.split_first_chunk() else { break };
        let (bytes, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        script.step(what, usize::from(who), value, bytes);
    }
    script.network.run(Duration::from_secs(1));
}

/// Longer scripts find what several short ones find, too.
const MAX_STEPS: usize = 100;

struct Script {
    network: Network,
    /// Of packets that were sealed by each client: to seal another with the same numbers would be its fault.
    sealed: FxHashSet<(usize, Ssrc, u16)>,
    /// The next SSRC of ours: none is ever used twice on a transport.
    ssrc: u32,
    restarts: u32,
}

impl Script {
    /// A room with two clients, connected but for what a step spoils.
    fn new() -> Self {
        let mut network = Network::new(clock::origin(), 1);
        for _ in 0..CLIENTS {
            network.join(RoomId(1), Conditions::default());
        }
        network.run_until(Duration::from_secs(2), |network| network.clients.iter().all(Client::is_connected));
        Self { network, sealed: FxHashSet::default(), ssrc: 1 << 24, restarts: 0 }
    }

    fn step(&mut self, what: u8, who: usize, value: u8, bytes: &[u8]) {
        let client = who % CLIENTS;
        match what % 8 {
            0 => {
                let unknown = SERVER;
                let from = self.network.clients.get(who % 3).map_or(unknown, |client| client.address());
                self.network.inject(from, bytes);
            }
            1 | 2 => self.send_rtp(client, bytes),
            3 => {
                let datagram = self.network.clients[client].try_seal_rtcp(bytes);
                let from = self.network.clients[client].address();
                datagram.into_iter().for_each(|datagram| self.network.inject(from, &datagram));
            }
            4 | 5 => {
                let command = self.command(who, value, bytes);
                self.network.command(command);
            }
            6 => self.network.run(Duration::from_millis(u64::from(value) * (1 + who as u64 / 64))),
            _ => {
                let tuple = Tuple { local: SERVER, remote: self.network.clients[client].address() };
                let Network { worker, now, .. } = &mut self.network;
                worker.handle_handed_over(*now, WorkerIndex(1), tuple, &mut bytes.to_vec());
                while worker.poll_notice().is_some() {}
                self.network.run(Duration::from_millis(1));
            }
        }
    }

    fn send_rtp(&mut self, client: usize, packet: &[u8]) {
        let Ok(view) = RtpView::parse(packet) else { return };
        if self.sealed.insert((client, view.ssrc(), view.seq()))
            && let Some(datagram) = self.network.clients[client].try_seal_rtp(packet)
        {
            let from = self.network.clients[client].address();
            self.network.inject(from, &datagram);
        }
    }

    fn command(&mut self, who: usize, value: u8, bytes: &[u8]) -> Command {
        let (transport, track) = (TransportId(1 + who as u64 % 4), TrackId(u64::from(value >> 4) % 6));
        let room = RoomId(1 + who as u64 / 4 % 2);
        match value % 12 {
            0 => Command::OpenRoom { room },
            1 => Command::CloseRoom { room },
            2 => {
                self.restarts += 1;
                let name = |side| format!("{side}{:06}", self.restarts);
                let credentials = |side| IceCredentials { ufrag: name(side), pwd: format!("{:022}", 7) };
                let sctp = (who & 8 != 0).then_some(SctpParams {
                    port: 5000,
                    max_message_size: 0,
                    channels: vec![],
                });
                let role = if who & 16 == 0 { DtlsRole::Client } else { DtlsRole::Server };
                let remote =
                    RemoteParams { ice: credentials("th"), fingerprint: Fingerprint([7; 32]), role, sctp };
                Command::OpenTransport { room, transport, local: credentials("00"), remote }
            }
            3 => Command::CloseTransport { transport, reason: CloseReason::Requested },
            4 | 5 => self.publish(transport, track, bytes),
            6 => Command::Unpublish { transport, track },
            7 => Command::SetMuted { transport, track, muted: who & 4 != 0 },
            8 | 9 => self.subscribe(transport, track, who),
            10 => Command::Unsubscribe { transport, track },
            _ if who & 128 == 0 => {
                let side = |at| bytes.get(at).map_or(0, |&byte| u16::from(byte) << 3);
                let size = (!bytes.is_empty()).then(|| Size { width: side(0), height: side(1) });
                let wish = Wish { paused: who & 4 != 0, size, ..Wish::default() };
                Command::SetWish { transport, track, wish }
            }
            _ => Command::SendData {
                recipients: vec![transport],
                channel: "_reliable".to_owned(),
                bytes: Bytes::copy_from_slice(bytes),
            },
        }
    }

    /// Sound, a picture, or one in three sizes, by the track's number; where a byte says so, with declared SSRCs.
    fn publish(&self, transport: TransportId, track: TrackId, bytes: &[u8]) -> Command {
        let (kind, codecs) = codecs(track);
        let declared = bytes.first().copied();
        let named = track.0 % 3 == 2;
        let encodings = ["q", "h", "f"].into_iter().take(if named { 3 } else { 1 }).zip(0..);
        let encodings = encodings.map(|(rid, at)| {
            let ssrc = declared.map(|first| Ssrc(u32::from(first) + at));
            EncodingParams { rid: named.then(|| Rid::new(rid)).flatten(), ssrc, rtx_ssrc: None }
        });
        let source = if kind == MediaKind::Audio { Source::Microphone } else { Source::Camera };
        let encodings = encodings.collect();
        let params = ReceiveParams {
            mid: mid(track),
            kind,
            codecs,
            extensions: extensions(),
            encodings,
            encrypted: false,
        };
        Command::Publish { transport, track, source, params }
    }

    fn subscribe(&mut self, transport: TransportId, track: TrackId, who: usize) -> Command {
        self.ssrc += 2;
        let (kind, codecs) = codecs(track);
        let rtx_ssrc = (who & 4 == 0).then_some(Ssrc(self.ssrc + 1));
        let (ssrc, extensions) = (Ssrc(self.ssrc), extensions());
        let params = SendParams { mid: mid(track), kind, codecs, extensions, ssrc, rtx_ssrc };
        Command::Subscribe { transport, track, params }
    }
}

const CLIENTS: usize = 2;

fn mid(track: TrackId) -> Mid {
    Mid::new(&track.0.to_string()).expect("a number is short")
}

fn codecs(track: TrackId) -> (MediaKind, ArrayVec<CodecParams, { crate::rtp::params::MAX_CODECS }>) {
    let opus =
        CodecParams { codec: Codec::Opus, pt: 111, rtx_pt: None, red_pt: None, nack: true, pli: false };
    let vp8 =
        CodecParams { codec: Codec::Vp8, pt: 96, rtx_pt: Some(97), red_pt: None, nack: true, pli: true };
    let (kind, codec) =
        if track.0.is_multiple_of(3) { (MediaKind::Audio, opus) } else { (MediaKind::Video, vp8) };
    (kind, ArrayVec::from_iter([codec]))
}

fn extensions() -> ExtensionMap {
    let mut extensions = ExtensionMap::default();
    for (id, extension) in (1..).zip(Extension::ALL) {
        extensions.insert(id, extension);
    }
    extensions
}
