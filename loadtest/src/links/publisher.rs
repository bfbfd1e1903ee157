//! The teacher: publishes voice, slides and camera over a good line, and answers key-frame requests.

use std::time::{Duration, Instant};

use sfu_core::rtp::ext::AudioLevel;
use sfu_core::rtp::packet::{Header, HeaderWriter};
use sfu_core::rtp::params::{Codec, EncodingParams, Extension, ExtensionMap, ReceiveParams, Rid, Ssrc};
use sfu_core::rtp::rtcp::{self, NtpTime, Rtcp, SenderInfo, Writer};
use sfu_core::transport::peer::{Opened, Peer};
use sfu_core::units::MAX_DATAGRAM_IN;

use super::media::{self, Kind, codecs};
use super::sources::{Encoder, Lesson};

/// Between two sender reports, as browsers send them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The teacher's client.
pub struct Publisher {
    /// Its connection.
    pub peer: Peer,
    start: Instant,
    streams: Vec<Stream>,
    next_report: Duration,
}

struct Stream {
    kind: Kind,
    encoding: u8,
    height: u16,
    ssrc: Ssrc,
    encoder: Encoder,
    seq: u16,
    packets: u32,
    octets: u32,
}

impl Publisher {
    /// A teacher whose lesson begins at `start`.
    pub fn new(peer: Peer, start: Instant, lesson: &Lesson, seed: u64) -> Self {
        let mut streams = Vec::new();
        let mut stream = |kind, encoding: usize, height, encoder| {
            let ssrc = Ssrc(1000 + 100 * kind as u32 + 2 * encoding as u32);
            // Sequence numbers near their end: a run crosses it.
            let seq = u16::MAX - 500;
            let encoding = encoding as u8;
            streams.push(Stream { kind, encoding, height, ssrc, encoder, seq, packets: 0, octets: 0 });
        };
        stream(Kind::Voice, 0, 0, Encoder::voice(lesson.audio.bps, lesson.audio.ptime_ms));
        for encoding in 0..lesson.slides.fps.len() {
            stream(Kind::Slides, encoding, SLIDES_HEIGHT, Encoder::slides(&lesson.slides, encoding));
        }
        for (encoding, &height) in lesson.camera.height.iter().enumerate() {
            stream(Kind::Camera, encoding, height, Encoder::camera(&lesson.camera, encoding, seed));
        }
        Self { peer, start, streams, next_report: Duration::from_millis(10) }
    }

    /// How a track comes to the server.
    pub fn params(&self, kind: Kind) -> ReceiveParams {
        let streams = self.streams.iter().filter(|stream| stream.kind == kind);
        let video = kind != Kind::Voice;
        let encodings = streams.map(|stream| EncodingParams {
            rid: video.then(|| Rid::new(["q", "h", "f"][usize::from(stream.encoding)])).flatten(),
            ssrc: Some(stream.ssrc),
            rtx_ssrc: video.then_some(Ssrc(stream.ssrc.0 + 1)),
        });
        ReceiveParams {
            mid: kind.mid(),
            kind: kind.codec().kind(),
            codecs: codecs(kind.codec()),
            // Its line is good: nobody needs to know when its packets arrive.
            extensions: levels(),
            encodings: encodings.collect(),
            encrypted: false,
        }
    }

    /// When [`Self::poll`] has something.
    pub fn due(&self) -> Instant {
        let frames = self.streams.iter().map(|stream| stream.encoder.due());
        self.start + frames.chain([self.next_report]).min().unwrap_or(self.next_report)
    }

    /// Sealed packets that are due by `now`, of one frame or report at a time.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<Vec<u8>>> {
        let now = now.saturating_duration_since(self.start);
        let Self { peer, streams, next_report, .. } = self;
        if let Some(stream) = streams.iter_mut().find(|stream| stream.encoder.due() <= now) {
            return Some(stream.frame(peer));
        }
        if *next_report > now {
            return None;
        }
        *next_report += REPORT_INTERVAL;
        Some(streams.iter().map(|stream| stream.report(peer, now)).collect())
    }

    /// Takes in what the server sent.
    pub fn handle(&mut self, now: Instant, datagram: &mut [u8]) {
        let Opened::Rtcp(len) = self.peer.handle_datagram(now, datagram) else { return };
        let now = now.saturating_duration_since(self.start);
        for packet in rtcp::packets(&datagram[..len]).flatten() {
            if let Rtcp::Pli(pli) = packet
                && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == pli.media)
            {
                stream.encoder.want_key_frame(now);
            }
        }
    }
}

const LEVEL_ID: u8 = 1;

fn levels() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    map.insert(LEVEL_ID, Extension::AudioLevel);
    map
}

/// Slides are full size in all of their encodings.
const SLIDES_HEIGHT: u16 = 1080;

impl Stream {
    fn frame(&mut self, peer: &mut Peer) -> Vec<Vec<u8>> {
        let frame = self.encoder.next_frame();
        let payloads = media::payloads(self.kind, self.encoding, self.height, &frame);
        let timestamp = self.timestamp(frame.at);
        let last = payloads.len() - 1;
        let packets = payloads.iter().enumerate().map(|(index, payload)| {
            let header = Header {
                marker: self.kind != Kind::Voice && index == last,
                pt: codecs(self.kind.codec())[0].pt,
                seq: self.seq,
                timestamp,
                ssrc: self.ssrc,
            };
            self.seq = self.seq.wrapping_add(1);
            self.packets += 1;
            self.octets += payload.len() as u32;
            let mut buf = vec![0; MAX_DATAGRAM_IN];
            let mut writer = HeaderWriter::new(&mut buf, &header).expect("the buffer is long enough");
            if self.kind == Kind::Voice {
                writer.extension(LEVEL_ID, &AudioLevel { voice: true, level: 30 }.to_bytes());
            }
            let start = writer.finish();
            buf[start..start + payload.len()].copy_from_slice(payload);
            let len = peer.protect_rtp(&mut buf, start + payload.len()).expect("it is connected");
            buf.truncate(len);
            buf
        });
        packets.collect()
    }

    fn report(&self, peer: &mut Peer, now: Duration) -> Vec<u8> {
        let info = SenderInfo {
            ntp: NtpTime::from_duration(now + Duration::from_secs(1)),
            rtp_time: self.timestamp(now),
            packets: self.packets,
            octets: self.octets,
        };
        let mut buf = vec![0; MAX_DATAGRAM_IN];
        let mut writer = Writer::new(&mut buf);
        writer.sender_report(self.ssrc, &info, &[]).expect("a report is small");
        let len = writer.len();
        let len = peer.protect_rtcp(&mut buf, len).expect("it is connected");
        buf.truncate(len);
        buf
    }

    /// Each stream counts from a number of its own.
    fn timestamp(&self, at: Duration) -> u32 {
        let clock = if self.kind.codec() == Codec::Opus { 48_000 } else { 90_000 };
        ((at.as_nanos() * clock / 1_000_000_000) as u32).wrapping_add(self.ssrc.0.wrapping_mul(0x9e37_79b9))
    }
}
