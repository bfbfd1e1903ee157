//! A room in virtual time without crypto: scripted publishers, and receivers that remember what they got.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(unreachable_pub, reason = "a module of several test crates")]

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_core::room::{PacketKind, ParticipantKey, Room, RoomConfig};
use sfu_core::rtp::ext::{AbsSendTime, Values};
use sfu_core::rtp::packet::{Header, HeaderWriter, RtpView};
use sfu_core::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, Mid, ReceiveParams, Rid, SendParams, Ssrc,
};
use sfu_core::rtp::rtcp::{self, Nack, NtpTime, Pli, ReportBlock, Rtcp, SenderInfo, Writer};
use sfu_core::rtp::vp8::{TemporalLayer, Vp8Descriptor};
use sfu_core::units::{MediaKind, Source, TrackId, TransportId};

pub const OPUS: u8 = 111;
pub const VP8: u8 = 96;
pub const VP8_RTX: u8 = 97;

/// What receivers call the same things: rewriting has to show.
pub const OUT_OPUS: u8 = 109;
pub const OUT_VP8: u8 = 100;
pub const OUT_VP8_RTX: u8 = 101;

pub const MS: Duration = Duration::from_millis(1);

/// A packet as a receiver got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub at: Instant,
    pub ssrc: Ssrc,
    pub pt: u8,
    pub seq: u16,
    pub time: u32,
    pub marker: bool,
    pub mid: Option<String>,
    pub level: Option<u8>,
    pub transport_cc: Option<u16>,
    pub send_time: Option<AbsSendTime>,
    pub payload: Vec<u8>,
    pub raw: Vec<u8>,
}

impl Got {
    pub fn picture_id(&self) -> u16 {
        Vp8Descriptor::parse(&self.payload).unwrap().picture_id.unwrap().value()
    }

    pub fn tl0_pic_idx(&self) -> u8 {
        Vp8Descriptor::parse(&self.payload).unwrap().tl0_pic_idx.unwrap()
    }

    /// What a [`Vp8Packet`] was marked with, and its number there.
    pub fn mark(&self) -> u8 {
        self.payload[7]
    }

    pub fn source_seq(&self) -> u16 {
        u16::from_be_bytes([self.payload[16], self.payload[17]])
    }

    pub fn temporal(&self) -> Option<TemporalLayer> {
        Vp8Descriptor::parse(&self.payload).unwrap().temporal
    }
}

/// A room and everything that left it.
pub struct Lesson {
    pub room: Room,
    pub now: Instant,
    pub start: Instant,
    pub media: Vec<(ParticipantKey, Got)>,
    pub feedback: Vec<(ParticipantKey, Instant, Vec<u8>)>,
}

impl Lesson {
    pub fn new() -> Self {
        Self::with(RoomConfig::default())
    }

    pub fn with(config: RoomConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an `Instant` can be made in no other way")]
        let now = Instant::now();
        Self { room: Room::new(config), now, start: now, media: Vec::new(), feedback: Vec::new() }
    }

    pub fn join(&mut self, transport: u64) -> ParticipantKey {
        let participant = self.room.add_participant(self.now, TransportId(transport)).unwrap();
        self.room.set_reachable(self.now, participant);
        participant
    }

    /// A microphone: track 1 on the SSRC 1000.
    pub fn publish_audio(&mut self, from: ParticipantKey) -> TrackId {
        let track = TrackId(1);
        self.room.publish(self.now, from, track, Source::Microphone, audio_in("0", 1000)).unwrap();
        track
    }

    /// A camera without simulcast: track 2 on the SSRC 2000, repaired on 2001.
    pub fn publish_video(&mut self, from: ParticipantKey) -> TrackId {
        let track = TrackId(2);
        let encoding = EncodingParams { rid: None, ssrc: Some(Ssrc(2000)), rtx_ssrc: Some(Ssrc(2001)) };
        self.room.publish(self.now, from, track, Source::Camera, video_in("1", &[encoding])).unwrap();
        track
    }

    /// Subscribes on the SSRC 10 x transport + track; retransmissions come on 5000 more.
    pub fn subscribe(&mut self, to: ParticipantKey, track: TrackId, ssrc: u32) {
        let params = match track.0 {
            1 => audio_out("a", ssrc),
            _ => video_out("v", ssrc),
        };
        self.room.subscribe(self.now, to, track, params).unwrap();
    }

    /// Hands in a packet and lets everything leave that can.
    pub fn send(&mut self, from: ParticipantKey, packet: &[u8]) {
        let _ = self.room.handle_rtp(self.now, from, packet);
        self.drain();
    }

    pub fn send_rtcp(&mut self, from: ParticipantKey, write: impl FnOnce(&mut Writer<'_>)) {
        let mut bytes = [0; 1200];
        let mut writer = Writer::new(&mut bytes);
        write(&mut writer);
        let len = writer.len();
        self.room.handle_rtcp(self.now, from, &bytes[..len]);
        self.drain();
    }

    pub fn nack(&mut self, from: ParticipantKey, media: u32, seqs: &[u16]) {
        self.send_rtcp(from, |writer| {
            writer.nack(Ssrc(7), Ssrc(media), seqs).unwrap();
        });
    }

    pub fn pli(&mut self, from: ParticipantKey, media: u32) {
        self.send_rtcp(from, |writer| writer.pli(Pli { sender: Ssrc(7), media: Ssrc(media) }).unwrap());
    }

    pub fn sender_report(&mut self, from: ParticipantKey, ssrc: u32, ntp: NtpTime, rtp_time: u32) {
        let info = SenderInfo { ntp, rtp_time, packets: 0, octets: 0 };
        self.send_rtcp(from, |writer| writer.sender_report(Ssrc(ssrc), &info, &[]).unwrap());
    }

    pub fn receiver_report(&mut self, from: ParticipantKey, block: ReportBlock) {
        self.send_rtcp(from, |writer| writer.receiver_report(Ssrc(7), &[block]).unwrap());
    }

    /// Lets everything leave that can leave now.
    pub fn drain(&mut self) {
        let mut out = [0; 1500];
        while self.room.poll_timeout().is_some_and(|at| at <= self.now) {
            self.room.handle_timeout(self.now);
            self.poll(&mut out);
        }
        self.poll(&mut out);
    }

    fn poll(&mut self, out: &mut [u8]) {
        while let Some(outgoing) = self.room.poll_packet(self.now, None, out) {
            let bytes = &out[..outgoing.len];
            match outgoing.kind {
                PacketKind::Rtp => self.media.push((outgoing.to, got(self.now, bytes))),
                PacketKind::Rtcp => self.feedback.push((outgoing.to, self.now, bytes.to_vec())),
            }
        }
    }

    /// Lets time pass, waking whenever the room asks for it.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.room.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.drain();
        }
        self.now = end;
    }

    /// What a participant got since the last call.
    pub fn take(&mut self, to: ParticipantKey) -> Vec<Got> {
        let (mine, others) = std::mem::take(&mut self.media).into_iter().partition(|(key, _)| *key == to);
        self.media = others;
        let mine: Vec<(ParticipantKey, Got)> = mine;
        mine.into_iter().map(|(_, got)| got).collect()
    }

    /// Calls `visit` with every RTCP packet that a participant got so far.
    pub fn rtcp(&self, to: ParticipantKey, mut visit: impl FnMut(Instant, Rtcp<'_>)) {
        for (_, at, bytes) in self.feedback.iter().filter(|(key, ..)| *key == to) {
            for packet in rtcp::packets(bytes) {
                visit(*at, packet.unwrap());
            }
        }
    }

    /// When a participant was asked for a key frame, and of what.
    pub fn plis(&self, to: ParticipantKey) -> Vec<(Duration, u32)> {
        let mut plis = Vec::new();
        self.rtcp(to, |at, packet| {
            if let Rtcp::Pli(Pli { media, .. }) = packet {
                plis.push((at - self.start, media.0));
            }
        });
        plis
    }

    /// Which packets a participant was asked for.
    pub fn nacks(&self, to: ParticipantKey) -> Vec<(Duration, u32, Vec<u16>)> {
        let mut nacks = Vec::new();
        self.rtcp(to, |at, packet| {
            if let Rtcp::Nack(nack @ Nack { media, .. }) = packet {
                nacks.push((at - self.start, media.0, nack.seqs().collect()));
            }
        });
        nacks
    }
}

fn got(at: Instant, bytes: &[u8]) -> Got {
    let view = RtpView::parse(bytes).unwrap();
    let values = Values::read(view.extensions(), &extensions_out());
    Got {
        at,
        ssrc: view.ssrc(),
        pt: view.pt(),
        seq: view.seq(),
        time: view.timestamp(),
        marker: view.marker(),
        mid: values.mid.map(str::to_owned),
        level: values.audio_level.map(|level| level.level),
        transport_cc: values.transport_cc,
        send_time: values.abs_send_time,
        payload: view.payload().to_vec(),
        raw: bytes.to_vec(),
    }
}

fn map(pairs: &[(u8, Extension)]) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for &(id, extension) in pairs {
        assert!(map.insert(id, extension));
    }
    map
}

pub fn extensions_in() -> ExtensionMap {
    map(&[
        (1, Extension::AudioLevel),
        (2, Extension::AbsSendTime),
        (3, Extension::TransportCc),
        (4, Extension::Mid),
        (10, Extension::Rid),
        (11, Extension::RepairedRid),
        (13, Extension::VideoOrientation),
    ])
}

pub fn extensions_out() -> ExtensionMap {
    map(&[
        (2, Extension::Mid),
        (5, Extension::AudioLevel),
        (6, Extension::TransportCc),
        (7, Extension::AbsSendTime),
        (8, Extension::VideoOrientation),
    ])
}

pub fn opus(pt: u8) -> CodecParams {
    CodecParams { codec: Codec::Opus, pt, rtx_pt: None, red_pt: None, nack: true, pli: false }
}

pub fn vp8(pt: u8, rtx_pt: u8) -> CodecParams {
    CodecParams { codec: Codec::Vp8, pt, rtx_pt: Some(rtx_pt), red_pt: None, nack: true, pli: true }
}

pub fn audio_in(mid: &str, ssrc: u32) -> ReceiveParams {
    ReceiveParams {
        mid: Mid::new(mid).unwrap(),
        kind: MediaKind::Audio,
        codecs: ArrayVec::from_iter([opus(OPUS)]),
        extensions: extensions_in(),
        encodings: ArrayVec::from_iter([EncodingParams { ssrc: Some(Ssrc(ssrc)), ..Default::default() }]),
        encrypted: false,
    }
}

pub fn video_in(mid: &str, encodings: &[EncodingParams]) -> ReceiveParams {
    ReceiveParams {
        mid: Mid::new(mid).unwrap(),
        kind: MediaKind::Video,
        codecs: ArrayVec::from_iter([vp8(VP8, VP8_RTX)]),
        extensions: extensions_in(),
        encodings: encodings.iter().copied().collect(),
        encrypted: false,
    }
}

pub fn rids(names: &[&str]) -> Vec<EncodingParams> {
    names.iter().map(|name| EncodingParams { rid: Rid::new(name), ..Default::default() }).collect()
}

pub fn audio_out(mid: &str, ssrc: u32) -> SendParams {
    SendParams {
        mid: Mid::new(mid).unwrap(),
        kind: MediaKind::Audio,
        codecs: ArrayVec::from_iter([opus(OUT_OPUS)]),
        extensions: extensions_out(),
        ssrc: Ssrc(ssrc),
        rtx_ssrc: None,
    }
}

pub fn video_out(mid: &str, ssrc: u32) -> SendParams {
    SendParams {
        mid: Mid::new(mid).unwrap(),
        kind: MediaKind::Video,
        codecs: ArrayVec::from_iter([vp8(OUT_VP8, OUT_VP8_RTX)]),
        extensions: extensions_out(),
        ssrc: Ssrc(ssrc),
        rtx_ssrc: Some(Ssrc(ssrc + 5000)),
    }
}

/// A packet with the extensions that a publisher writes.
pub fn packet(header: &Header, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 100 + payload.len()];
    let mut writer = HeaderWriter::new(&mut out, header).unwrap();
    for (id, value) in extensions {
        writer.extension(*id, value).unwrap();
    }
    let len = writer.finish();
    out.truncate(len);
    out.extend_from_slice(payload);
    out
}

/// The `i`th packet of the microphone.
pub fn audio(i: u16) -> Vec<u8> {
    let timestamp = u32::from(i) * 960;
    let header = Header { marker: i == 0, pt: OPUS, seq: 100 + i, timestamp, ssrc: Ssrc(1000) };
    packet(&header, &[(1, &[0x80 | 30]), (3, &i.to_be_bytes())], &[0x78, i as u8, (i >> 8) as u8, 1, 2, 3])
}

/// One packet of VP8.
#[derive(Clone, Copy, Debug)]
pub struct Vp8Packet {
    pub ssrc: u32,
    pub seq: u16,
    pub frame: u16,
    pub key: bool,
    pub first: bool,
    pub last: bool,
    pub mark: u8,
    /// Its layer and TL0PICIDX; `None` where its stream has no temporal layers.
    pub layer: Option<(TemporalLayer, u8)>,
}

/// The temporal layer of a frame as libvpx codes three of them, and its TL0PICIDX: 0 2 1 2, of which the first
/// three refer to the base layer alone.
pub fn layer(frame: u16) -> (TemporalLayer, u8) {
    let (tid, layer_sync) = [(0, false), (2, true), (1, true), (2, false)][usize::from(frame % 4)];
    (TemporalLayer { tid, layer_sync }, (frame / 4) as u8)
}

impl Vp8Packet {
    pub fn payload(&self) -> Vec<u8> {
        let [high, low] = ((self.frame & 0x7fff) | 0x8000).to_be_bytes();
        let start = if self.first { 0x10 } else { 0 };
        // A stream without temporal layers has a KEYIDX in their place.
        let (bits, tl0, layer) = match self.layer {
            None => (0xd0, self.frame as u8, 0),
            Some((layer, tl0)) => (0xe0, tl0, layer.tid << 6 | u8::from(layer.layer_sync) << 5),
        };
        let mut payload = vec![0x80 | start, bits, high, low, tl0, layer, u8::from(!self.key), self.mark];
        payload.resize(300, 0xab);
        // Behind the header of a key frame.
        payload[16..18].copy_from_slice(&self.seq.to_be_bytes());
        payload
    }

    pub fn time(&self) -> u32 {
        u32::from(self.frame) * 3000
    }

    pub fn header(&self) -> Header {
        Header { marker: self.last, pt: VP8, seq: self.seq, timestamp: self.time(), ssrc: Ssrc(self.ssrc) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        packet(&self.header(), &[(13, &[1]), (3, &self.seq.to_be_bytes())], &self.payload())
    }

    /// With a frame header that tells the picture's height, where it begins a key frame.
    pub fn sized(&self, height: u16) -> Vec<u8> {
        let mut bytes = self.bytes();
        if self.key && self.first {
            let frame = bytes.len() - 300 + 6;
            // The mark is where the header's second byte is, the start code behind it (RFC 6386 §9.1).
            bytes[frame + 3..frame + 6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
            bytes[frame + 6..frame + 8].copy_from_slice(&(height / 9 * 16).to_le_bytes());
            bytes[frame + 8..frame + 10].copy_from_slice(&height.to_le_bytes());
        }
        bytes
    }

    /// As a retransmission.
    pub fn rtx(&self, ssrc: u32, seq: u16) -> Vec<u8> {
        let header = Header { pt: VP8_RTX, seq, ssrc: Ssrc(ssrc), ..self.header() };
        let payload = [self.seq.to_be_bytes().as_slice(), &self.payload()].concat();
        packet(&header, &[], &payload)
    }
}

/// Frames of three packets each on the SSRC 2000 from the number 300 on; every frame in `keys` is a key frame.
pub fn frames(count: u16, keys: &[u16]) -> Vec<Vp8Packet> {
    (0..count * 3)
        .map(|i| Vp8Packet {
            ssrc: 2000,
            seq: 300u16.wrapping_add(i),
            frame: i / 3,
            key: keys.contains(&(i / 3)),
            first: i % 3 == 0,
            last: i % 3 == 2,
            mark: 0,
            layer: None,
        })
        .collect()
}

/// The numbers relative to the first one.
pub fn numbers(got: &[Got]) -> Vec<u16> {
    let first = got.first().map_or(0, |got| got.seq);
    got.iter().map(|got| got.seq.wrapping_sub(first)).collect()
}
