//! A receiving client: what a browser sends back (reports, transport-wide feedback, NACK, PLI), plays and shows.
//!
//! Datagrams are opened when they leave the server, before the path: what is lost on it is known all the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu_core::cc::twcc::ArrivalRecorder;
use sfu_core::rtp::ext::Values;
use sfu_core::rtp::packet::RtpView;
use sfu_core::rtp::params::{SendParams, Ssrc};
use sfu_core::rtp::rtcp::{self, NtpTime, Pli, ReportBlock, Rtcp, Writer};
use sfu_core::rtp::vp8::Vp8Descriptor;
use sfu_core::seq::{SeqUnwrapper, TimestampUnwrapper};
use sfu_core::transport::peer::{Opened, Peer};
use sfu_core::units::MAX_DATAGRAM_IN;

use super::media::{Kind, Mark, UNDER_UDP, codecs, extensions};
use super::nack::Nacks;
use super::pictures::{Part, Pictures, Shown};
use super::playout::Playout;
use super::speech::Speech;

/// Between two receiver reports, as browsers send them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Numbers that are remembered, so that what arrives twice counts once.
const REMEMBERED: u64 = 5000;

/// Above this round trip a resent packet of sound comes too late (libwebrtc asks for those only that can still be
/// played).
const MAX_AUDIO_RTT: Duration = Duration::from_millis(200);

/// Older than this many packets, sound will have been concealed.
const MAX_AUDIO_AGE: u64 = 20;

/// What left the server for a receiver.
#[derive(Clone, Debug)]
pub enum Content {
    /// A packet of media.
    Media(Media),
    /// Reports and requests.
    Rtcp(Vec<u8>),
    /// The transport's own, which was taken in when it was opened.
    Other,
}

/// A packet of media, opened.
#[derive(Clone, Copy, Debug)]
pub struct Media {
    /// What it is of.
    pub kind: Kind,
    /// Whether it is a retransmission.
    pub again: bool,
    /// Bytes that it takes on the wire.
    pub wire: u64,
    transport_seq: Option<u16>,
    /// Without a payload it only measures.
    pub part: Option<Part>,
    /// What it holds of the voice.
    pub speech: Option<Speech>,
}

/// A receiving client.
pub struct Receiver {
    /// Its connection.
    pub peer: Peer,
    /// Its address.
    pub address: SocketAddr,
    start: Instant,
    /// When it joined, since the lesson began.
    pub joined: Duration,
    rtt: Duration,
    streams: [Stream; 3],
    arrivals: ArrivalRecorder,
    next_report: Duration,
    /// Plays the voice.
    pub playout: Playout,
    /// Shows slides and camera.
    pictures: [Pictures; 2],
    /// What was shown of the slides.
    pub slides: Vec<Shown>,
    /// Useful bytes on the wire of each second.
    pub goodput: Vec<u64>,
    /// When fresh sound arrived.
    pub sound: Vec<(Duration, Mark)>,
    /// Bytes of `goodput` that are the voice's packets; and what these say, without what is around it.
    pub voice: (u64, u64),
}

/// A received stream.
struct Stream {
    kind: Kind,
    ssrc: Ssrc,
    sent: SeqUnwrapper,
    timestamps: TimestampUnwrapper,
    seen: BTreeSet<u64>,
    received: u64,
    first: Option<u64>,
    highest: u64,
    last_report: (u64, u64),
    last_sr: Option<(NtpTime, Duration)>,
    nacks: Nacks,
}

impl Receiver {
    /// A client that joins a lesson. `rtt` is the round trip of its path without queues.
    pub fn new(
        peer: Peer,
        index: usize,
        start: Instant,
        joined: Duration,
        feedback: Duration,
        rtt: Duration,
        ptime: Duration,
    ) -> Self {
        let stream = |kind: Kind| Stream {
            kind,
            ssrc: Ssrc(10_000 + 100 * index as u32 + 10 * kind as u32),
            sent: SeqUnwrapper::default(),
            timestamps: TimestampUnwrapper::default(),
            seen: BTreeSet::new(),
            received: 0,
            first: None,
            highest: 0,
            last_report: (0, 0),
            last_sr: None,
            nacks: Nacks::default(),
        };
        Self {
            peer,
            address: SocketAddr::from(([198, 51, 100, 10 + index as u8], 40_000)),
            start,
            joined,
            rtt,
            streams: Kind::ALL.map(stream),
            arrivals: ArrivalRecorder::new(feedback, start),
            next_report: joined + REPORT_INTERVAL,
            playout: Playout::new(ptime),
            pictures: [Pictures::new(joined), Pictures::new(joined)],
            slides: Vec::new(),
            goodput: Vec::new(),
            sound: Vec::new(),
            voice: (0, 0),
        }
    }

    /// How a track is to be sent to it.
    pub fn params(&self, kind: Kind) -> SendParams {
        let ssrc = self.streams[kind as usize].ssrc;
        SendParams {
            mid: kind.mid(),
            kind: kind.codec().kind(),
            codecs: codecs(kind.codec()),
            extensions: extensions(),
            ssrc,
            rtx_ssrc: (kind != Kind::Voice).then_some(Ssrc(ssrc.0 + 1)),
        }
    }

    /// Opens a datagram that leaves the server.
    pub fn open(&mut self, now: Instant, datagram: &mut [u8]) -> Content {
        let wire = datagram.len() as u64 + UNDER_UDP;
        match self.peer.handle_datagram(now, datagram) {
            Opened::Rtp(len) => self.parse(&datagram[..len], wire).map_or(Content::Other, Content::Media),
            Opened::Rtcp(len) => Content::Rtcp(datagram[..len].to_vec()),
            Opened::Other => Content::Other,
        }
    }

    fn parse(&mut self, packet: &[u8], wire: u64) -> Option<Media> {
        let view = RtpView::parse(packet).ok()?;
        let ssrc = view.ssrc();
        let stream =
            self.streams.iter_mut().find(|stream| stream.ssrc == ssrc || stream.ssrc.0 + 1 == ssrc.0)?;
        let kind = stream.kind;
        let values = Values::read(view.extensions(), &extensions());
        let again = stream.ssrc != ssrc;
        let transport_seq = values.transport_cc;
        let (seq, payload) = match (again, view.payload()) {
            (_, []) => return Some(Media { kind, again, wire, transport_seq, part: None, speech: None }),
            (false, payload) => (view.seq(), payload),
            (true, [high, low, payload @ ..]) => (u16::from_be_bytes([*high, *low]), payload),
            (true, _) => return None,
        };
        let resent_sound =
            kind == Kind::Voice && stream.sent.highest().is_some_and(|it| stream.sent.peek(seq) <= it);
        let (speech, descriptor) = match kind {
            Kind::Voice => (Some(Speech::read(view.pt(), payload)?), None),
            Kind::Slides | Kind::Camera => (None, Vp8Descriptor::parse(payload).ok()),
        };
        let mark = speech.map_or_else(|| Mark::read(kind, payload), |speech| Some(speech.mark))?;
        let part = Part {
            seq: stream.sent.unwrap(seq),
            first: descriptor.is_none_or(|it| it.frame_start()),
            last: view.marker(),
            key: descriptor.is_some_and(|it| it.key_frame_start),
            tid: descriptor.and_then(|it| it.temporal).map_or(0, |layer| layer.tid),
            sync: descriptor.and_then(|it| it.temporal).is_some_and(|layer| layer.layer_sync),
            base: descriptor.and_then(|it| it.tl0_pic_idx).unwrap_or(0),
            timestamp: stream.timestamps.unwrap(view.timestamp()),
            mark,
            wire,
        };
        let again = again || resent_sound;
        Some(Media { kind, again, wire, transport_seq, part: Some(part), speech })
    }

    /// Something arrived.
    pub fn arrive(&mut self, now: Instant, content: Content) {
        let since = now.saturating_duration_since(self.start);
        match content {
            Content::Media(media) => {
                // What is resent byte for byte has the number that was reported lost.
                if let Some(seq) = media.transport_seq {
                    self.arrivals.record(now, seq);
                }
                if let Some(part) = &media.part {
                    self.take(since, &media, part);
                }
            }
            Content::Rtcp(compound) => {
                for packet in rtcp::packets(&compound).flatten() {
                    if let Rtcp::SenderReport(report) = packet {
                        let mut streams = self.streams.iter_mut();
                        if let Some(stream) = streams.find(|stream| stream.ssrc == report.ssrc) {
                            stream.last_sr = Some((report.info.ntp, since));
                        }
                    }
                }
            }
            Content::Other => {}
        }
    }

    fn take(&mut self, now: Duration, media: &Media, part: &Part) {
        let Media { kind, again, speech, .. } = *media;
        let stream = &mut self.streams[kind as usize];
        let fresh = stream.seen.insert(part.seq);
        if !fresh {
            return;
        }
        while stream.seen.first().is_some_and(|&first| first + REMEMBERED < part.seq) {
            stream.seen.pop_first();
        }
        // Retransmissions on their own SSRC do not change what reports say of the loss.
        stream.received += u64::from(!again || kind == Kind::Voice);
        stream.first.get_or_insert(part.seq);
        stream.highest = stream.highest.max(part.seq);
        if let Some(speech) = &speech {
            if self.rtt <= MAX_AUDIO_RTT {
                let _ = stream.nacks.arrive(now, part.seq);
                stream.nacks.forget_before(stream.highest.saturating_sub(MAX_AUDIO_AGE));
            }
            self.hear(now, speech, part.wire);
            return;
        }
        let pictures = &mut self.pictures[kind as usize - 1];
        if stream.nacks.arrive(now, part.seq).is_err() {
            pictures.need_key_frame();
        }
        for shown in pictures.arrive(now, part) {
            self.streams[kind as usize].nacks.forget_before(shown.first_seq);
            self.count(now, shown.wire);
            if kind == Kind::Slides {
                self.slides.push(shown);
            }
        }
    }

    fn hear(&mut self, now: Duration, speech: &Speech, wire: u64) {
        let Speech { mark, frames, repeated, frame_bytes, repeated_bytes } = *speech;
        let first = mark.number;
        let mended = (first.saturating_sub(repeated)..first).filter(|&it| self.playout.mend(now, it)).count();
        let fresh = (first..first + frames).filter(|&it| self.playout.arrive(now, it)).count();
        if fresh > 0 {
            self.count(now, wire - repeated_bytes);
            self.voice.0 += wire - repeated_bytes;
            self.sound.push((now, mark));
        }
        self.voice.1 += (mended + fresh) as u64 * frame_bytes;
    }

    /// The server said whether a track flows.
    pub fn set_paused(&mut self, now: Instant, kind: Kind, paused: bool) {
        let since = now.saturating_duration_since(self.start);
        if kind != Kind::Voice {
            self.pictures[kind as usize - 1].set_paused(since, paused);
        }
    }

    /// The camera's picture.
    pub fn camera(&mut self) -> &mut Pictures {
        &mut self.pictures[1]
    }

    fn count(&mut self, now: Duration, wire: u64) {
        let second = now.as_secs() as usize;
        if self.goodput.len() <= second {
            self.goodput.resize(second + 1, 0);
        }
        self.goodput[second] += wire;
    }

    /// When [`Self::poll`] may have something.
    pub fn poll_timeout(&self) -> Instant {
        let nacks = self.streams.iter().filter_map(|stream| stream.nacks.poll_timeout());
        let due = nacks.chain([self.next_report]).min().unwrap_or(self.next_report);
        let feedback = self.arrivals.poll_timeout();
        (self.start + due).min(feedback.unwrap_or(self.start + due))
    }

    /// Sealed RTCP that is due.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let since = now.saturating_duration_since(self.start);
        let mut sealed = Vec::new();
        let mut buf = [0; MAX_DATAGRAM_IN];
        let mut writer = Writer::new(&mut buf);
        let reporting = self.next_report <= since;
        if reporting {
            self.next_report = since + REPORT_INTERVAL;
            let blocks: Vec<ReportBlock> =
                self.streams.iter_mut().filter_map(|it| it.report(since)).collect();
            if !blocks.is_empty() {
                writer.receiver_report(OWN, &blocks).expect("three blocks fit");
            }
        }
        for kind in Kind::ALL {
            let stream = &mut self.streams[kind as usize];
            let missing = stream.nacks.poll(since, self.rtt.max(MIN_RTT));
            if !missing.is_empty() {
                // What does not fit is asked for next time.
                let _ = writer.nack(OWN, stream.ssrc, &missing);
            }
            if kind != Kind::Voice && self.pictures[kind as usize - 1].poll_key_frame_request(since) {
                let _ = writer.pli(Pli { sender: OWN, media: stream.ssrc });
            }
        }
        let len = writer.len();
        if len > 0 {
            sealed.extend(self.seal(&mut buf, len));
        }
        while let Some(len) = self.arrivals.poll_feedback(now, OWN, self.streams[0].ssrc, &mut buf[..1200]) {
            sealed.extend(self.seal(&mut buf, len));
        }
        sealed
    }

    fn seal(&mut self, buf: &mut [u8], len: usize) -> Option<Vec<u8>> {
        let len = self.peer.protect_rtcp(buf, len).ok()?;
        Some(buf[..len].to_vec())
    }
}

/// What it signs its RTCP with.
const OWN: Ssrc = Ssrc(1);

/// libwebrtc asks again no sooner.
const MIN_RTT: Duration = Duration::from_millis(20);

impl Stream {
    fn report(&mut self, now: Duration) -> Option<ReportBlock> {
        let expected = self.highest + 1 - self.first?;
        let (expected_before, received_before) =
            std::mem::replace(&mut self.last_report, (expected, self.received));
        let (expected_now, received_now) = (expected - expected_before, self.received - received_before);
        let lost = expected_now.saturating_sub(received_now);
        let block = ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            cumulative_lost: (expected as i64 - self.received as i64) as i32,
            highest_seq: self.highest as u32,
            jitter: 0,
            last_sr: 0,
            delay_since_sr: 0,
        };
        Some(match self.last_sr {
            Some((ntp, at)) => block.with_last_sr(ntp, now - at),
            None => block,
        })
    }
}
