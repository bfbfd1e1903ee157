//! One encoding of an up track: everything that is counted per received SSRC, and the retransmissions that repair
//! it (RFC 4588).

use std::time::{Duration, Instant};

use super::StreamKey;
use super::keyframe::KeyFrameRequest;
use super::layers::{Activity, LayerRate, TEMPORAL_LAYERS};
use super::nack::{Continuity, NackGenerator};
use super::packet_cache::{CacheSize, Inserted, PacketCache, PacketFacts};
use super::receive_stats::{ReceiveStats, SenderClock};
use super::reception::Reception;
use super::up_track::ReceiveError;
use crate::rtp::ext::Values;
use crate::rtp::packet::RtpView;
use crate::rtp::params::{Codec, CodecParams, EncodingParams, Ssrc};
use crate::rtp::red::RedView;
use crate::rtp::rtcp::{NtpTime, ReportBlock};
use crate::rtp::vp8::Vp8Descriptor;
use crate::seq::{SeqUnwrapper, TimestampUnwrapper};
use crate::units::{Bitrate, MediaKind, Size};

/// A number further ahead than this, or further behind, is not of the present run (RFC 3550 A.1, MAX_DROPOUT).
const MAX_JUMP: u64 = 3000;

/// Another SSRC is not believed sooner behind the one before: senders replace theirs when a person does
/// something.
const MIN_RUN: Duration = Duration::from_millis(100);

/// IPv4, UDP and the longest SRTP tag: what a packet costs besides itself.
const WIRE_OVERHEAD: usize = 20 + 8 + 16;

/// A packet that was taken in: it is in the cache now.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its stream.
    pub stream: StreamKey,
    /// Its facts.
    pub facts: PacketFacts,
    /// Bytes of payload; 0 in packets that are nothing but padding.
    pub payload_len: usize,
    /// Whether no later one arrived before it.
    pub newest: bool,
}

/// An encoding and its repair stream.
pub struct Encoding {
    kind: MediaKind,
    params: EncodingParams,
    stream: StreamKey,
    /// When a packet brought another SSRC than before.
    moved: Option<Instant>,
    seq: SeqUnwrapper,
    time: TimestampUnwrapper,
    /// After a jump: the number that proves that counting began anew.
    restart: Option<u16>,
    stats: ReceiveStats,
    rtx: RepairStream,
    rate: LayerRate,
    activity: Activity,
    /// Of the last key frame.
    size: Option<Size>,
    /// Whether anybody receives it, or is about to.
    wanted: bool,
    /// `None` where the sender does not answer NACKs.
    nack: Option<NackGenerator>,
    key_frame: KeyFrameRequest,
    /// Made at the first packet.
    cache: Option<PacketCache>,
}

#[derive(Default)]
struct RepairStream {
    seq: SeqUnwrapper,
    time: TimestampUnwrapper,
    stats: ReceiveStats,
}

impl Encoding {
    /// An encoding of which nothing arrived yet; its first run of numbers is called `stream`.
    pub fn new(now: Instant, kind: MediaKind, stream: StreamKey, params: EncodingParams) -> Self {
        Self {
            kind,
            params,
            stream,
            moved: None,
            seq: SeqUnwrapper::default(),
            time: TimestampUnwrapper::default(),
            restart: None,
            stats: ReceiveStats::default(),
            rtx: RepairStream::default(),
            rate: LayerRate::new(now),
            activity: Activity::default(),
            size: None,
            wanted: false,
            nack: None,
            key_frame: KeyFrameRequest::default(),
            cache: None,
        }
    }

    /// Its name and SSRCs, as negotiated or learnt.
    pub fn params(&self) -> &EncodingParams {
        &self.params
    }

    /// The present run of numbers.
    pub fn stream(&self) -> StreamKey {
        self.stream
    }

    /// The media comes with this SSRC. Another one than before begins a new run.
    pub fn set_ssrc(&mut self, ssrc: Ssrc) {
        if self.params.ssrc.is_some_and(|before| before != ssrc) && self.seq.highest().is_some() {
            self.begin_run();
        }
        self.params.ssrc = Some(ssrc);
    }

    /// As [`set_ssrc`](Self::set_ssrc), where a packet alone says so: `false`, and nothing changes, where another
    /// one did just before. Each run costs all who receive it a new start.
    #[must_use]
    pub fn learn_ssrc(&mut self, now: Instant, ssrc: Ssrc) -> bool {
        if self.params.ssrc.is_some_and(|before| before != ssrc) {
            if self.moved.is_some_and(|moved| now.saturating_duration_since(moved) < MIN_RUN) {
                return false;
            }
            self.moved = Some(now);
        }
        self.set_ssrc(ssrc);
        true
    }

    /// The retransmissions come with this SSRC.
    pub fn set_rtx_ssrc(&mut self, ssrc: Ssrc) {
        if self.params.rtx_ssrc != Some(ssrc) {
            self.rtx = RepairStream::default();
        }
        self.params.rtx_ssrc = Some(ssrc);
    }

    /// Takes in a packet of the media.
    pub fn receive(
        &mut self,
        now: Instant,
        codec: &CodecParams,
        packet: &RtpView<'_>,
        values: &Values<'_>,
    ) -> Result<Arrival, ReceiveError> {
        let payload = new_payload(codec, packet)?;
        let seq = self.extend(packet.seq())?;
        let time = self.time.unwrap(packet.timestamp());
        self.stats.on_packet(now, seq, time, codec.codec.clock_rate());
        self.store(now, codec, seq, packet, payload, values)
    }

    /// Takes in a retransmission: the original's number, then its payload (RFC 4588 §4). It counts for the
    /// repair stream, and is the original from here on.
    pub fn receive_rtx(
        &mut self,
        now: Instant,
        codec: &CodecParams,
        packet: &RtpView<'_>,
        values: &Values<'_>,
    ) -> Result<Arrival, ReceiveError> {
        let own = self.rtx.seq.unwrap(packet.seq());
        let time = self.rtx.time.unwrap(packet.timestamp());
        self.rtx.stats.on_packet(now, own, time, codec.codec.clock_rate());
        let (original, payload) = packet.payload().split_first_chunk().ok_or(ReceiveError::RtxPadding)?;
        let seq = self.seq.peek(u16::from_be_bytes(*original));
        if self.seq.highest().is_none_or(|highest| seq > highest || seq + MAX_JUMP < highest) {
            // A probe, or of another run: the media itself says first which numbers are in use.
            return Err(ReceiveError::RtxForeign);
        }
        self.store(now, codec, seq, packet, payload, values)
    }

    /// The sender reported its clocks.
    pub fn on_sender_report(&mut self, now: Instant, ntp: NtpTime, time: u32) {
        self.stats.on_sender_report(now, ntp, time);
    }

    /// The sender's clocks, `None` before its first report.
    pub fn clock(&self) -> Option<&SenderClock> {
        self.stats.clock()
    }

    /// What to report to the sender of the media and of the retransmissions.
    pub fn reports(&mut self, now: Instant) -> impl Iterator<Item = ReportBlock> + use<> {
        let media = self.params.ssrc.and_then(|ssrc| self.stats.report(now, ssrc));
        let rtx = self.params.rtx_ssrc.and_then(|ssrc| self.rtx.stats.report(now, ssrc));
        media.into_iter().chain(rtx)
    }

    /// How the media arrived since the last call; its repair is left out.
    pub fn take_reception(&mut self, clock_rate: u32) -> Reception {
        self.stats.take_reception(clock_rate)
    }

    /// A packet of `stream`, `None` where it is gone or the stream is not the present one.
    #[inline]
    pub fn packet(&self, stream: StreamKey, seq: u64) -> Option<(&PacketFacts, &[u8])> {
        self.cache.as_ref().filter(|_| stream == self.stream)?.packet(seq)
    }

    /// The highest number of the present run.
    pub fn highest_seq(&self) -> Option<u64> {
        self.seq.highest()
    }

    /// Whether the sender sends it at present.
    pub fn active(&self, now: Instant) -> bool {
        self.activity.active(now)
    }

    /// Frames a second of each of its temporal layers alone, packets of sound of the first; all zero until a second was
    /// counted.
    pub fn fps(&self) -> [u16; TEMPORAL_LAYERS] {
        self.activity.fps()
    }

    /// What each of its temporal layers alone takes; all zero until a second was counted. `bursts`: by the
    /// mean of half a minute, see [`Activity::rates`].
    pub fn rates(&self, bursts: bool) -> [Bitrate; TEMPORAL_LAYERS] {
        self.activity.rates(bursts)
    }

    /// A frame of another encoding of the source began.
    pub(super) fn on_frame_of_another(&mut self) {
        self.activity.on_frame_of_another();
    }

    /// Its size in pixels, as its last key frame had it.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// Says whether anybody receives it, or is about to. Of others' holes nothing is asked.
    pub fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// What it costs at IP level.
    pub fn bitrate(&mut self, now: Instant) -> Bitrate {
        self.rate.bitrate(now)
    }

    /// Its key frame requests.
    pub fn key_frame(&mut self) -> &mut KeyFrameRequest {
        &mut self.key_frame
    }

    /// Whether a key frame is being asked for.
    pub fn wants_key_frame(&self) -> bool {
        self.key_frame.is_wanted()
    }

    /// When something is to be asked of the sender, `None` where nothing is.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let nack = self.nack.as_ref().and_then(NackGenerator::poll_timeout);
        // Whose SSRC is unknown cannot be asked.
        let key_frame = self.params.ssrc.and_then(|_| self.key_frame.poll_timeout(now));
        nack.into_iter().chain(key_frame).min()
    }

    /// Hands missing numbers to `ask`; see [`NackGenerator::collect`].
    pub fn collect_missing(&mut self, now: Instant, retry: Duration, ask: impl FnMut(u64) -> bool) {
        if let Some(nack) = &mut self.nack {
            nack.collect(now, retry, ask);
        }
    }

    /// Extends a number, or notices that it belongs to no run that is known: two in sequence begin a new one
    /// (RFC 3550 A.1).
    fn extend(&mut self, wire: u16) -> Result<u64, ReceiveError> {
        let seq = self.seq.peek(wire);
        if self.seq.highest().is_some_and(|highest| seq.abs_diff(highest) > MAX_JUMP) {
            if self.restart != Some(wire) {
                self.restart = Some(wire.wrapping_add(1));
                return Err(ReceiveError::SequenceJump);
            }
            self.begin_run();
        }
        self.restart = None;
        Ok(self.seq.unwrap(wire))
    }

    /// Without a repair stream packets are sent again among the media, as sound is.
    fn note_resent(&mut self, codec: &CodecParams, packet: &RtpView<'_>) {
        if packet.pt() == codec.pt || Some(packet.pt()) == codec.red_pt {
            self.stats.on_resent();
        }
    }

    fn begin_run(&mut self) {
        self.stream = self.stream.next_run();
        self.seq = SeqUnwrapper::default();
        self.time = TimestampUnwrapper::default();
        self.restart = None;
        self.stats = ReceiveStats::default();
        if let Some(nack) = &mut self.nack {
            nack.clear();
        }
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
    }

    fn store(
        &mut self,
        now: Instant,
        codec: &CodecParams,
        seq: u64,
        packet: &RtpView<'_>,
        payload: &[u8],
        values: &Values<'_>,
    ) -> Result<Arrival, ReceiveError> {
        let facts = facts(now, codec.codec, seq, packet, payload, values);
        let (tid, wire_len) = (temporal_layer(&facts), packet.bytes().len() + WIRE_OVERHEAD);
        self.rate.on_packet(now, wire_len);
        self.activity.on_packet(now, tid, wire_len);
        let size = match self.kind {
            MediaKind::Audio => CacheSize::AUDIO,
            MediaKind::Video => CacheSize::VIDEO,
        };
        match self.cache.get_or_insert_with(|| PacketCache::new(size)).insert(&facts, payload) {
            Inserted::Kept => {}
            Inserted::Duplicate => {
                self.note_resent(codec, packet);
                return Err(ReceiveError::Duplicate);
            }
            Inserted::TooOld => return Err(ReceiveError::TooOld),
        }
        if codec.nack {
            let continuity = self.nack.get_or_insert_default().on_packet(now, seq, self.wanted);
            match continuity {
                Continuity::Broken if self.kind == MediaKind::Video => self.key_frame.want(),
                Continuity::Repaired => self.note_resent(codec, packet),
                _ => {}
            }
        }
        if facts.starts_decoding {
            self.key_frame.on_key_frame();
        }
        if let Some(vp8) = facts.vp8.filter(Vp8Descriptor::frame_start) {
            self.activity.on_frame(now, tid);
            if let Some((width, height)) = vp8.resolution(payload) {
                self.size = Some(Size { width, height });
            }
        } else if self.kind == MediaKind::Audio {
            self.activity.on_frame(now, tid);
        }
        let newest = self.seq.highest().is_none_or(|highest| seq >= highest);
        Ok(Arrival { stream: self.stream, facts, payload_len: payload.len(), newest })
    }
}

fn temporal_layer(facts: &PacketFacts) -> u8 {
    facts.vp8.and_then(|vp8| vp8.temporal).map_or(0, |layer| layer.tid)
}

/// What a packet says for the first time: of redundant audio (RFC 2198) nothing else is kept, each receiver's link
/// decides anew what is said twice on it.
fn new_payload<'a>(codec: &CodecParams, packet: &RtpView<'a>) -> Result<&'a [u8], ReceiveError> {
    let payload = packet.payload();
    if codec.red_pt != Some(packet.pt()) || payload.is_empty() {
        return Ok(payload);
    }
    let new = RedView::parse(payload).map_err(|_| ReceiveError::Redundancy)?.new_block();
    if new.pt == codec.pt { Ok(new.payload) } else { Err(ReceiveError::Redundancy) }
}

fn facts(
    now: Instant,
    codec: Codec,
    seq: u64,
    packet: &RtpView<'_>,
    payload: &[u8],
    values: &Values<'_>,
) -> PacketFacts {
    // A payload that is not what it should be is forwarded as it is: decoders know what to do with it.
    let vp8 = match codec {
        Codec::Opus => None,
        Codec::Vp8 => Vp8Descriptor::parse(payload).ok(),
    };
    PacketFacts {
        seq,
        time: packet.timestamp(),
        arrival: now,
        marker: packet.marker(),
        codec,
        vp8,
        starts_decoding: match codec {
            Codec::Opus => !payload.is_empty(),
            Codec::Vp8 => vp8.is_some_and(|vp8| vp8.key_frame_start),
        },
        audio_level: values.audio_level,
        orientation: values.video_orientation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    const OPUS: CodecParams =
        CodecParams { codec: Codec::Opus, pt: 111, rtx_pt: None, red_pt: None, nack: true, pli: false };

    fn encoding() -> Encoding {
        let stream = StreamKey::new(0, 0);
        let params = EncodingParams { ssrc: Some(Ssrc(0)), ..EncodingParams::default() };
        Encoding::new(origin(), MediaKind::Audio, stream, params)
    }

    fn receive(encoding: &mut Encoding, now: Instant, seq: u16) -> Result<Arrival, ReceiveError> {
        let mut packet = [0x80, OPUS.pt, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfc];
        packet[2..4].copy_from_slice(&seq.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(seq) * 960).to_be_bytes());
        let packet = RtpView::parse(&packet).unwrap();
        encoding.receive(now, &OPUS, &packet, &Values::default())
    }

    #[test]
    fn a_run_is_never_mistaken_for_an_earlier_one() {
        let (mut encoding, now) = (encoding(), origin());
        let mut before = receive(&mut encoding, now, 7).unwrap().stream;
        // More than any 16 bits can count.
        for run in 1..=70_000 {
            encoding.set_ssrc(Ssrc(run % 2));
            let stream = receive(&mut encoding, now, 7).unwrap().stream;
            assert!(stream.epoch() > before.epoch(), "run {run}");
            before = stream;
        }
    }

    #[test]
    fn packets_change_the_ssrc_only_now_and_then() {
        let (mut encoding, now) = (encoding(), origin());
        let learn = |encoding: &mut Encoding, ms, ssrc| {
            encoding.learn_ssrc(now + Duration::from_millis(ms), Ssrc(ssrc))
        };
        assert!(learn(&mut encoding, 0, 1));
        assert!(!learn(&mut encoding, 99, 2));
        assert_eq!(encoding.params().ssrc, Some(Ssrc(1)));
        assert!(learn(&mut encoding, 100, 2));
        assert!(!learn(&mut encoding, 199, 1));
    }

    #[test]
    fn resent_sound_hides_no_loss_and_adds_no_jitter() {
        let (mut encoding, start) = (encoding(), origin());
        encoding.set_wanted(true);
        let at = |seq: u16| start + Duration::from_millis(20) * seq.into();
        for seq in 0..100 {
            if seq != 50 {
                receive(&mut encoding, at(seq), seq).unwrap();
            }
            encoding.collect_missing(at(seq), Duration::from_millis(100), |seq| seq as u16 == 50);
            if seq == 60 {
                receive(&mut encoding, at(seq), 50).unwrap();
                assert_eq!(receive(&mut encoding, at(seq), 50).unwrap_err(), ReceiveError::Duplicate);
            }
        }
        assert_eq!(encoding.reports(at(100)).next().unwrap().fraction_lost, 0);
        let reception = encoding.take_reception(48_000);
        assert_eq!((reception.expected, reception.lost, reception.jitter), (100, 1, Duration::ZERO));
    }
}
