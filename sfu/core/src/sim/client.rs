//! A scripted client: publishes synthetic media, answers key-frame requests and NACKs, and keeps what it receives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use arrayvec::ArrayVec;
use rustc_hash::FxHashMap;

use super::source::MediaSource;
use crate::rtp::ext::{AudioLevel, Values};
use crate::rtp::packet::{HeaderWriter, RtpView};
use crate::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, Mid, ReceiveParams, Rid, SendParams, Ssrc,
};
use crate::rtp::rtcp::{self, Rtcp};
use crate::seq::SeqUnwrapper;
use crate::transport::params::{IceCredentials, RemoteParams, SctpParams};
use crate::transport::peer::{Opened, Peer};
use crate::units::{MAX_DATAGRAM_IN, MediaKind, Source, TrackId, TransportId};

/// Sent datagrams that a client can send again when it is asked to.
const HISTORY: usize = 512;

/// A client.
pub struct Client {
    id: TransportId,
    peer: Peer,
    sources: Vec<Published>,
    expected: FxHashMap<Ssrc, TrackId>,
    received: FxHashMap<TrackId, Vec<Received>>,
    unwrappers: FxHashMap<Ssrc, SeqUnwrapper>,
    resend: VecDeque<Vec<u8>>,
    next_transport_seq: u16,
    next_ssrc: u32,
}

/// What publishing told the server.
pub struct Publication {
    /// The track's id.
    pub track: TrackId,
    /// What it shows.
    pub source: Source,
    /// How it comes.
    pub params: ReceiveParams,
}

/// A packet that a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Its unwrapped sequence number.
    pub seq: u64,
    /// Its timestamp on the wire.
    pub timestamp: u32,
    /// Its transport-wide number.
    pub transport_seq: Option<u16>,
    /// Its payload.
    pub payload: Vec<u8>,
}

struct Published {
    source: MediaSource,
    /// Sealed datagrams by sequence number.
    history: VecDeque<(u16, Vec<u8>)>,
}

impl Client {
    /// A client that will connect to a server with these credentials.
    pub fn new(now: Instant, id: TransportId, server: IceCredentials) -> Self {
        Self {
            id,
            peer: Peer::new(now, id.0 as u32, server),
            sources: Vec::new(),
            expected: FxHashMap::default(),
            received: FxHashMap::default(),
            unwrappers: FxHashMap::default(),
            resend: VecDeque::new(),
            next_transport_seq: 0,
            next_ssrc: (id.0 as u32) << 16,
        }
    }

    /// With data channels: those that the server is to open.
    pub fn with_data_channels(self, sctp: SctpParams) -> Self {
        Self { peer: self.peer.with_data_channels(sctp), ..self }
    }

    /// Its transport.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Its address, which no other client has.
    pub fn address(&self) -> SocketAddr {
        let [.., a, b] = (self.id.0 as u32).to_be_bytes();
        SocketAddr::from(([198, 51, a, b], 40_000))
    }

    /// What its session description would say.
    pub fn params(&self) -> RemoteParams {
        self.peer.params()
    }

    /// Whether its handshake is done.
    pub fn is_connected(&self) -> bool {
        self.peer.is_connected()
    }

    /// What it received of a track, in the order of arrival.
    pub fn received(&self, track: TrackId) -> &[Received] {
        self.received.get(&track).map_or(&[], Vec::as_slice)
    }

    /// The numbers of a track that never came, between the first and the last that did.
    pub fn missing(&self, track: TrackId) -> Vec<u64> {
        let mut seqs: Vec<u64> = self.received(track).iter().map(|packet| packet.seq).collect();
        seqs.sort_unstable();
        let all = seqs.first().copied().unwrap_or(1)..=seqs.last().copied().unwrap_or(0);
        all.filter(|seq| seqs.binary_search(seq).is_err()).collect()
    }

    /// Publishes synthetic media from `now` on.
    pub fn publish(&mut self, now: Instant, codec: Codec) -> Publication {
        self.publish_encodings(now, codec, &[(None, (1280, 720))])
    }

    /// Publishes a synthetic picture in three sizes from `now` on (simulcast, RFC 8853).
    pub fn publish_simulcast(&mut self, now: Instant) -> Publication {
        let encodings = [("q", (320, 180)), ("h", (640, 360)), ("f", (1280, 720))];
        self.publish_encodings(now, Codec::Vp8, &encodings.map(|(rid, size)| (Rid::new(rid), size)))
    }

    fn publish_encodings(
        &mut self,
        now: Instant,
        codec: Codec,
        encodings: &[(Option<Rid>, (u16, u16))],
    ) -> Publication {
        let kind = codec.kind();
        let index = self.sources.len();
        let encodings = encodings.iter().map(|&(rid, (width, height))| {
            let (ssrc, rtx) = (self.ssrc(), self.ssrc());
            let source = MediaSource::new(now, codec, ssrc).sized(width, height);
            self.sources.push(Published { source, history: VecDeque::new() });
            let rtx_ssrc = (kind == MediaKind::Video).then_some(rtx);
            EncodingParams { rid, ssrc: Some(ssrc), rtx_ssrc }
        });
        let encodings = encodings.collect();
        let params = ReceiveParams {
            mid: mid(index),
            kind,
            codecs: codecs(codec),
            extensions: extensions(),
            encodings,
            encrypted: false,
        };
        let source = if kind == MediaKind::Video { Source::Camera } else { Source::Microphone };
        Publication { track: TrackId(self.id.0 << 8 | index as u64), source, params }
    }

    /// Makes the next frame of each picture a key frame.
    pub fn want_key_frames(&mut self) {
        self.sources.iter_mut().for_each(|published| published.source.want_key_frame());
    }

    /// Whether it has prepared for a track.
    pub fn expects(&self, track: TrackId) -> bool {
        self.expected.values().any(|expected| *expected == track)
    }

    /// Prepares for a track and says how it is to be sent.
    pub fn expect_track(&mut self, track: TrackId, codec: Codec) -> SendParams {
        let (ssrc, rtx) = (self.ssrc(), self.ssrc());
        self.expected.insert(ssrc, track);
        let kind = codec.kind();
        SendParams {
            mid: mid(100 + self.expected.len()),
            kind,
            codecs: codecs(codec),
            extensions: extensions(),
            ssrc,
            rtx_ssrc: (kind == MediaKind::Video).then_some(rtx),
        }
    }

    /// Takes in a datagram.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        match self.peer.handle_datagram(now, datagram) {
            Opened::Rtp(len) => self.keep(now, &datagram[..len]),
            Opened::Rtcp(len) => self.answer(&datagram[..len]),
            Opened::Other => {}
        }
    }

    /// The next datagram to send: handshake, resent packets. Media comes from [`Self::handle_timeout`].
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.poll_transmit().or_else(|| self.resend.pop_front())
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let media =
            self.sources.iter().map(|published| published.source.due()).filter(|_| self.is_connected());
        media.chain(self.peer.poll_timeout()).min()
    }

    /// Lets time pass: media that is due is queued.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
        while let Some(datagram) = self.next_packet(now) {
            self.resend.push_back(datagram);
        }
    }

    /// The next sealed packet that is due, of whichever source.
    pub fn next_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.is_connected() {
            return None;
        }
        let due = self.sources.iter().position(|published| published.source.due() <= now)?;
        let (header, payload) = self.sources[due].source.next_packet();
        let map = extensions();
        let mut buf = vec![0; MAX_DATAGRAM_IN];
        let mut writer = HeaderWriter::new(&mut buf, &header).expect("the buffer is long enough");
        let transport_cc = map.id(Extension::TransportCc).expect("in the map");
        writer.extension(transport_cc, &self.next_transport_seq.to_be_bytes());
        if self.sources[due].source.codec() == Codec::Opus {
            let level = map.id(Extension::AudioLevel).expect("in the map");
            writer.extension(level, &AudioLevel { voice: true, level: 30 }.to_bytes());
        }
        let start = writer.finish();
        self.next_transport_seq = self.next_transport_seq.wrapping_add(1);
        buf[start..start + payload.len()].copy_from_slice(&payload);
        let len = self.peer.protect_rtp(&mut buf, start + payload.len()).expect("it is connected");
        buf.truncate(len);
        let history = &mut self.sources[due].history;
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back((header.seq, buf.clone()));
        Some(buf)
    }

    /// Seals RTP, for a test that sends what no publisher would.
    pub fn seal_rtp(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.try_seal_rtp(plaintext).expect("it is connected")
    }

    /// Seals RTCP, for a test that has something to say to the server.
    pub fn seal_rtcp(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.try_seal_rtcp(plaintext).expect("it is connected")
    }

    /// The same; `None` where it cannot be sealed.
    pub fn try_seal_rtp(&mut self, plaintext: &[u8]) -> Option<Vec<u8>> {
        seal(plaintext, |buf, len| self.peer.protect_rtp(buf, len).ok())
    }

    /// The same; `None` where it cannot be sealed.
    pub fn try_seal_rtcp(&mut self, plaintext: &[u8]) -> Option<Vec<u8>> {
        seal(plaintext, |buf, len| self.peer.protect_rtcp(buf, len).ok())
    }

    fn keep(&mut self, now: Instant, packet: &[u8]) {
        let view = RtpView::parse(packet).expect("the server writes valid RTP");
        let Some(&track) = self.expected.get(&view.ssrc()) else { return };
        let values = Values::read(view.extensions(), &extensions());
        let seq = self.unwrappers.entry(view.ssrc()).or_default().unwrap(view.seq());
        self.received.entry(track).or_default().push(Received {
            at: now,
            ssrc: view.ssrc(),
            seq,
            timestamp: view.timestamp(),
            transport_seq: values.transport_cc,
            payload: view.payload().to_vec(),
        });
    }

    fn answer(&mut self, compound: &[u8]) {
        for packet in rtcp::packets(compound) {
            match packet.expect("the server writes valid RTCP") {
                Rtcp::Pli(pli) => {
                    if let Some(published) = self.published(pli.media) {
                        published.source.want_key_frame();
                    }
                }
                Rtcp::Nack(nack) => {
                    let Some(published) = self.sources.iter().find(|p| p.source.ssrc() == nack.media) else {
                        continue;
                    };
                    for seq in nack.seqs() {
                        let sent = published.history.iter().find(|(sent, _)| *sent == seq);
                        self.resend.extend(sent.map(|(_, datagram)| datagram.clone()));
                    }
                }
                _ => {}
            }
        }
    }

    fn published(&mut self, ssrc: Ssrc) -> Option<&mut Published> {
        self.sources.iter_mut().find(|published| published.source.ssrc() == ssrc)
    }

    fn ssrc(&mut self) -> Ssrc {
        self.next_ssrc += 1;
        Ssrc(self.next_ssrc)
    }
}

fn seal(plaintext: &[u8], protect: impl FnOnce(&mut [u8], usize) -> Option<usize>) -> Option<Vec<u8>> {
    let mut buf = vec![0; MAX_DATAGRAM_IN];
    buf.get_mut(..plaintext.len())?.copy_from_slice(plaintext);
    let len = protect(&mut buf, plaintext.len())?;
    buf.truncate(len);
    Some(buf)
}

fn mid(index: usize) -> Mid {
    Mid::new(&index.to_string()).expect("a number is short")
}

fn codecs(codec: Codec) -> ArrayVec<CodecParams, { crate::rtp::params::MAX_CODECS }> {
    let video = codec.kind() == MediaKind::Video;
    ArrayVec::from_iter([CodecParams {
        codec,
        pt: if video { 96 } else { 111 },
        rtx_pt: video.then_some(97),
        red_pt: None,
        nack: true,
        pli: video,
    }])
}

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (id, extension) in [(1, Extension::AudioLevel), (3, Extension::TransportCc), (4, Extension::Mid)] {
        map.insert(id, extension);
    }
    map
}
