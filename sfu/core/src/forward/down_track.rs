//! A source as one receiver gets it: judged at arrival, numbered and written at departure.

use std::time::{Duration, Instant};

use super::header::{Headers, MAX_HEADER_LEN};
use super::repacketiser::{Composed, Makeup, Packing, Parcel, Released, Repacketiser};
use super::rewriter::{Numbered, Offsets, Rewriter, Skip};
use super::rtx::{AUDIO_DEPARTURES, Departure, DepartureLog, NotResent, Stamps, VIDEO_DEPARTURES};
use super::selector::{NotMeant, Selector, Verdict};
use super::send_stats::SendStats;
use crate::rtp::ext::AbsSendTime;
use crate::rtp::packet::Header;
use crate::rtp::params::{Codec, CodecParams, Extension, SendParams, Ssrc};
use crate::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::track::StreamKey;
use crate::track::encoding::Arrival;
use crate::track::packet_cache::PacketFacts;
use crate::track::reception::Reception;
use crate::track::up_track::UpTrack;
use crate::units::{MediaKind, Millis};

/// Key frames that one receiver can ask for within [`KEY_FRAME_WINDOW`]: all receivers pay for each.
const KEY_FRAME_LIMIT: usize = 4;
const KEY_FRAME_WINDOW: Duration = Duration::from_secs(10);

/// A packet that arrives this far behind the newest one starts nothing: what follows it is no longer news.
const MAX_LATE_START: u64 = 256;

/// What to do with a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It leaves.
    Queue,
    /// The receiver goes on with another stream: [`DownTrack::begin`].
    Begin {
        /// The stream.
        stream: StreamKey,
        /// The number of its first packet, which has arrived.
        seq: u64,
        /// Whether the packet itself leaves before, as the last of the stream until now.
        last: bool,
    },
    /// It may leave later, with the key frame that it belongs to.
    Held,
    /// It is not meant for this receiver.
    NotMeant(NotMeant),
    /// It is nothing but padding, or older than all that was forwarded: nobody misses it.
    Useless,
}

/// The time as the packet path counts it, worked out once for all that happens at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// To compare departures by.
    pub millis: Millis,
    /// As a header extension says it.
    pub send_time: AbsSendTime,
}

/// The moment of a departure.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Now.
    pub now: Clock,
    /// The next transport-wide sequence number: taken, and advanced, by a packet that carries one.
    pub transport_seq: &'a mut u16,
}

/// A subscribed track of one receiver. What no packet needs as a rule lies apart: a packet to each of a thousand
/// receivers passes through a thousand of these, twice. In this order in memory: what judges a packet lies together,
/// and so does what writes it.
#[repr(C)]
pub struct DownTrack {
    selector: Selector,
    rewriter: Rewriter,
    headers: Headers,
    /// Whether packets name their m-line. RFC 8843 §9.2 wants that until the receiver knows whose SSRC it is: its
    /// first report on it says so. One that never reports is told always.
    names_mid: bool,
    /// Whether sound is packed in another way than it comes.
    packs: bool,
    /// The codec of the last packet.
    codec: Option<CodecParams>,
    ssrc: Ssrc,
    stats: SendStats,
    /// Made at the first departure, where the receiver sends NACKs.
    log: Option<DepartureLog>,
    cold: Box<Cold>,
}

struct Cold {
    params: SendParams,
    /// The number of the next retransmission.
    rtx_seq: u64,
    repacketiser: Option<Box<Repacketiser>>,
    /// When the receiver had key frames asked for.
    key_frames: [Option<Instant>; KEY_FRAME_LIMIT],
}

impl DownTrack {
    /// A track of which nothing was forwarded yet. Its SSRCs must never have been used on this transport: the
    /// numbers begin anew.
    pub fn new(params: SendParams, paused: bool) -> Self {
        let rtx_seq = params.rtx_ssrc.map_or(0, first_seq);
        Self {
            selector: Selector::new(paused),
            rewriter: Rewriter::new(first_seq(params.ssrc)),
            stats: SendStats::default(),
            headers: Headers::new(&params),
            packs: false,
            names_mid: params.extensions.id(Extension::Mid).is_some(),
            codec: None,
            ssrc: params.ssrc,
            log: None,
            cold: Box::new(Cold {
                params,
                repacketiser: None,
                rtx_seq: u64::from(rtx_seq),
                key_frames: [None; KEY_FRAME_LIMIT],
            }),
        }
    }

    /// How it goes out.
    pub fn params(&self) -> &SendParams {
        &self.cold.params
    }

    /// How it arrived since the last call, as its receiver says.
    pub fn take_reception(&mut self) -> Reception {
        let rate = self.cold.params.codecs.first().map_or(1, |codec| codec.codec.clock_rate());
        let own = self.stats.take_reception(rate);
        let jitter = if self.cold.params.kind == MediaKind::Audio { own.jitter } else { Duration::ZERO };
        Reception { jitter, ..own }
    }

    /// Which packets are forwarded.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// As [`selector`](Self::selector), to pause, resume or restart it.
    pub fn selector_mut(&mut self) -> &mut Selector {
        &mut self.selector
    }

    /// Judges a packet that `up` took in.
    #[inline]
    pub fn admit(&mut self, up: &UpTrack, arrival: &Arrival) -> Admission {
        let Arrival { stream, facts, .. } = arrival;
        let late = self.rewriter.awaits(*stream, facts.seq);
        let earliest = if arrival.newest { 0 } else { self.earliest_start(up, *stream) };
        match self.selector.judge(facts.codec.kind(), arrival, earliest, late) {
            Verdict::Drop(reason) => Admission::NotMeant(reason),
            Verdict::Hold => Admission::Held,
            Verdict::LeaveOut => match self.rewriter.leave_out(*stream, facts) {
                Skip::Closed => Admission::NotMeant(NotMeant::TemporalLayer),
                // The receiver sees the hole: a useless packet in it is better than a request for it.
                Skip::Hole => Admission::Queue,
            },
            Verdict::Begin { stream: next, seq, last } => {
                let last = last && !self.padding_closes(arrival) && self.rewriter.admit(*stream, facts);
                Admission::Begin { stream: next, seq, last }
            }
            Verdict::Forward if self.padding_closes(arrival) => Admission::Useless,
            Verdict::Forward if self.rewriter.admit(*stream, facts) => Admission::Queue,
            Verdict::Forward => Admission::Useless,
        }
    }

    /// From this packet of `up` on its stream is forwarded; the packet itself leaves.
    pub fn begin(&mut self, up: &UpTrack, stream: StreamKey, facts: &PacketFacts) {
        let before = self.rewriter.current();
        let aligned = before.and_then(|(before, _)| up.translate(facts.time, stream, before));
        self.rewriter.begin(stream, facts, aligned);
        self.selector.begin(stream, facts);
    }

    /// Counts in a packet that arrived before the stream began with one before it. `false`: it does not leave.
    pub fn admit_follower(&mut self, arrival: &Arrival) -> bool {
        match self.selector.follow(arrival) {
            Verdict::Forward => {
                !self.padding_closes(arrival) && self.rewriter.admit(arrival.stream, &arrival.facts)
            }
            Verdict::LeaveOut => {
                self.rewriter.leave_out(arrival.stream, &arrival.facts);
                false
            }
            Verdict::Begin { .. } | Verdict::Hold | Verdict::Drop(_) => false,
        }
    }

    /// The publisher reported clocks: a switch that had to do without them is corrected.
    pub fn on_clock(&mut self, up: &UpTrack) {
        let Some((time, stream, before)) = self.rewriter.unaligned() else { return };
        if let (Some(translated), Some(codec)) =
            (up.translate(time, stream, before), self.cold.params.codecs.first())
        {
            self.rewriter.align(translated, codec.codec.clock_rate());
        }
    }

    /// An admitted packet will not leave after all.
    pub fn skip(&mut self, stream: StreamKey, seq: u64) -> Skip {
        self.rewriter.skip(stream, seq)
    }

    /// Video cannot go on without a packet that was dropped: nothing more leaves before the next key frame.
    pub fn abandon(&mut self) {
        self.selector.restart();
        self.rewriter.abandon();
    }

    /// Whether an admitted packet may still leave.
    pub fn may_leave(&self, stream: StreamKey, seq: u64) -> bool {
        self.rewriter.numbers(stream, seq)
    }

    /// How sound is packed from now on. What waits leaves.
    pub fn set_packing(&mut self, packing: Packing) -> Option<Parcel> {
        let flushed = self.flush();
        if self.cold.params.kind == MediaKind::Audio {
            let redundant =
                packing.redundant && self.cold.params.codecs.iter().any(|codec| codec.red_pt.is_some());
            self.cold.repacketiser = Repacketiser::new(Packing { redundant, ..packing }).map(Box::new);
            self.packs = self.cold.repacketiser.is_some();
        }
        flushed
    }

    /// Whether sound is packed in another way than it comes: admitted packets go through [`pack`](Self::pack).
    #[inline]
    pub fn packs(&self) -> bool {
        self.packs
    }

    /// An admitted packet of sound waits for others, or leaves with those that did.
    pub fn pack(&mut self, now: Instant, arrival: &Arrival, payload: &[u8]) -> Released {
        let Some(repacketiser) = &mut self.cold.repacketiser else { return Released::new() };
        let Arrival { stream, facts, .. } = arrival;
        let late = !self.rewriter.leads(*stream, facts.seq);
        let released = repacketiser.push(now, *stream, (facts, payload), late);
        released.iter().for_each(|parcel| self.number_once(parcel));
        released
    }

    /// What waits leaves.
    pub fn flush(&mut self) -> Option<Parcel> {
        let parcel = self.cold.repacketiser.as_mut()?.flush()?;
        self.number_once(&parcel);
        Some(parcel)
    }

    /// When to call [`flush`](Self::flush); `None` while nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cold.repacketiser.as_ref()?.poll_timeout()
    }

    /// The first packet's number stands for all of them.
    fn number_once(&mut self, parcel: &Parcel) {
        for seq in parcel.followers() {
            let skipped = self.rewriter.skip(parcel.stream, seq);
            debug_assert_eq!(skipped, Skip::Closed, "nothing behind what waits has left");
        }
    }

    /// Exact length of a packet that [`depart`](Self::depart) writes.
    #[inline]
    pub fn packet_len(&self, facts: &PacketFacts, payload_len: usize) -> usize {
        self.headers.len(facts, self.names_mid) + payload_len
    }

    /// Writes a packet that leaves now, with the next numbers. `None`, with nothing taken, where it has no
    /// number, or no payload type, or `out` is too short.
    pub fn depart(
        &mut self,
        moment: &mut Moment<'_>,
        stream: StreamKey,
        packet: (&PacketFacts, &[u8]),
        out: &mut [u8],
    ) -> Option<usize> {
        self.depart_as(moment, stream, Makeup::SINGLE, packet, out)
    }

    /// A packet of sound made up so, to be written by [`depart_as`](Self::depart_as).
    pub fn compose(&self, up: &UpTrack, stream: StreamKey, first: u64, makeup: Makeup) -> Option<Composed> {
        let own = self.cold.params.codecs.iter().find(|own| own.codec == Codec::Opus)?;
        Composed::make(up, own.pt, stream, first, makeup)
    }

    /// As [`depart`](Self::depart), of a packet made up so.
    pub fn depart_as(
        &mut self,
        moment: &mut Moment<'_>,
        stream: StreamKey,
        makeup: Makeup,
        packet: (&PacketFacts, &[u8]),
        out: &mut [u8],
    ) -> Option<usize> {
        let (facts, payload) = packet;
        let codec = self.codec(facts.codec)?;
        let pt = codec.pt_of(makeup)?;
        if MAX_HEADER_LEN + payload.len() > out.len() && self.packet_len(facts, payload.len()) > out.len() {
            return None;
        }
        let Numbered { seq, offsets } = self.rewriter.number(stream, facts.seq)?;
        let stamps = self.stamps(moment);
        let header = header(self.ssrc, pt, seq, facts, offsets);
        let len = self.write(&header, facts, stamps, None, offsets, payload, out)?;
        debug_assert_eq!(len, self.packet_len(facts, payload.len()));
        self.stats.on_packet(payload.len());
        if codec.nack {
            let departure = Departure { seq, stream, source_seq: facts.seq, makeup, offsets, stamps };
            self.log().record(moment.now.millis, &departure);
        }
        Some(len)
    }

    /// The receiver misses the packet with this number: whether to queue it again, and what it is.
    pub fn on_nack(&mut self, now: Millis, seq: u16, rtt: Option<Duration>) -> Result<Departure, NotResent> {
        self.log.as_mut().ok_or(NotResent::Unknown)?.resend(now, seq, rtt)
    }

    /// A packet that left with this number.
    pub fn departure(&self, seq: u64) -> Option<Departure> {
        self.log.as_ref()?.departure(seq)
    }

    /// Exact length of a packet that [`pad`](Self::pad) writes. `None`: there are no retransmissions for it to be
    /// among.
    pub fn padding_len(&self, padding: u8) -> Option<usize> {
        self.padding()?;
        Some(self.headers.bare_len(self.names_mid) + usize::from(padding))
    }

    /// Writes a packet of nothing but `padding` bytes (RFC 3550 §5.1), 1..=255, among the retransmissions: nobody
    /// misses their numbers, and one without the number of an original (RFC 4588 §4) is of nothing. So it may leave
    /// before any media has.
    pub fn pad(&mut self, moment: &mut Moment<'_>, padding: u8, out: &mut [u8]) -> Option<usize> {
        let (ssrc, pt) = self.padding()?;
        if self.padding_len(padding)? > out.len() {
            return None;
        }
        let stamps = self.stamps(moment);
        // Its time is that of no picture. LiveKit's padding says 0, too, and browsers make nothing of it.
        let header = Header { marker: false, pt, seq: self.cold.rtx_seq as u16, timestamp: 0, ssrc };
        self.cold.rtx_seq += 1;
        let len = self.headers.write_bare(&self.cold.params, &header, stamps, out)?;
        let end = len + usize::from(padding);
        out[len..end].fill(0);
        out[end - 1] = padding;
        out[0] |= PADDING_BIT;
        Some(end)
    }

    /// Exact length of a packet that [`depart_again`](Self::depart_again) writes.
    pub fn resent_len(&self, departure: &Departure, facts: &PacketFacts, payload_len: usize) -> usize {
        match self.rtx(facts.codec) {
            Some(_) => self.headers.len(facts, self.names_mid) + OSN_LEN + payload_len,
            None => self.headers.len(facts, departure.stamps.mid) + payload_len,
        }
    }

    /// Writes a packet that left before once more: as a retransmission (RFC 4588), or where none was agreed as
    /// the very same bytes.
    pub fn depart_again(
        &mut self,
        moment: &mut Moment<'_>,
        departure: &Departure,
        packet: (&PacketFacts, &[u8]),
        out: &mut [u8],
    ) -> Option<usize> {
        let (facts, payload) = packet;
        if self.resent_len(departure, facts, payload.len()) > out.len() {
            return None;
        }
        let Some((ssrc, pt)) = self.rtx(facts.codec) else {
            let pt = self.codec(facts.codec)?.pt_of(departure.makeup)?;
            let header = header(self.ssrc, pt, departure.seq, facts, departure.offsets);
            return self.write(&header, facts, departure.stamps, None, departure.offsets, payload, out);
        };
        let stamps = self.stamps(moment);
        let header = header(ssrc, pt, self.cold.rtx_seq, facts, departure.offsets);
        self.cold.rtx_seq += 1;
        let original = Some(departure.seq as u16);
        let len = self.write(&header, facts, stamps, original, departure.offsets, payload, out)?;
        debug_assert_eq!(len, self.resent_len(departure, facts, payload.len()));
        Some(len)
    }

    /// The sender report due at `now`, `None` where the publisher's clocks are unknown or nothing was sent.
    pub fn sender_report(&mut self, now: Instant, up: &UpTrack) -> Option<SenderInfo> {
        let (stream, offset) = self.rewriter.current()?;
        let rate = self.cold.params.codecs.first()?.codec.clock_rate();
        let mut clock = up.clock(stream)?.at(now, rate);
        clock.time = clock.time.wrapping_add(offset);
        self.stats.report(&clock, now)
    }

    /// The receiver reported on the media. Returns the round trip that this proves.
    pub fn on_report_block(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        self.names_mid = false;
        self.stats.on_report_block(now, block)
    }

    /// The encodings of which a key frame helps the receiver, as bits by index: the one that it is about to get,
    /// else the one that it gets.
    pub fn key_frame_encodings(&self) -> u8 {
        match self.selector.awaited() {
            0 => self.selector.needed(),
            awaited => awaited,
        }
    }

    /// The receiver wants a key frame that nobody has asked for yet. `false`: it has wanted too many.
    pub fn on_key_frame_request(&mut self, now: Instant) -> bool {
        let spent =
            |at: &Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < KEY_FRAME_WINDOW);
        let free = self.cold.key_frames.iter_mut().find(|at| !spent(at));
        free.map(|at| *at = Some(now)).is_some()
    }

    /// The first number that a stream may start with, where later ones have arrived: near those, and behind all
    /// that was forwarded. A packet that has one number must never get another.
    fn earliest_start(&self, up: &UpTrack, stream: StreamKey) -> u64 {
        let highest = up.encodings()[usize::from(stream.encoding())].highest_seq().unwrap_or_default();
        highest.saturating_sub(MAX_LATE_START).max(self.rewriter.behind(stream))
    }

    /// Whether the packet is nothing but padding and its number could be given to the next. One whose number is
    /// waited for leaves without its padding instead.
    fn padding_closes(&mut self, arrival: &Arrival) -> bool {
        arrival.payload_len == 0 && self.rewriter.skip(arrival.stream, arrival.facts.seq) == Skip::Closed
    }

    fn log(&mut self) -> &mut DepartureLog {
        let capacity = match self.cold.params.kind {
            MediaKind::Audio => AUDIO_DEPARTURES,
            MediaKind::Video => VIDEO_DEPARTURES,
        };
        let params = &self.cold.params;
        let verbatim =
            |codec: &CodecParams| codec.nack && (params.rtx_ssrc.is_none() || codec.rtx_pt.is_none());
        self.log.get_or_insert_with(|| DepartureLog::new(capacity, params.codecs.iter().any(verbatim)))
    }

    #[inline]
    fn codec(&mut self, codec: Codec) -> Option<CodecParams> {
        if self.codec.is_none_or(|last| last.codec != codec) {
            self.codec = self.cold.params.codecs.iter().find(|own| own.codec == codec).copied();
        }
        self.codec
    }

    fn rtx(&self, codec: Codec) -> Option<(Ssrc, u8)> {
        let own = self.cold.params.codecs.iter().find(|own| own.codec == codec)?;
        Some((self.cold.params.rtx_ssrc?, own.rtx_pt?))
    }

    /// How padding is sent: as retransmissions of the codec in use, or of any before there is one.
    fn padding(&self) -> Option<(Ssrc, u8)> {
        let Cold { params, .. } = &*self.cold;
        let pt = self.codec.iter().chain(&params.codecs).find_map(|codec| codec.rtx_pt)?;
        Some((params.rtx_ssrc?, pt))
    }

    /// What is stamped on the next packet.
    #[inline]
    fn stamps(&self, moment: &mut Moment<'_>) -> Stamps {
        Stamps {
            mid: self.names_mid,
            transport_cc: self.headers.counts().then(|| {
                let seq = *moment.transport_seq;
                *moment.transport_seq = seq.wrapping_add(1);
                seq
            }),
            send_time: self.headers.tells_time().then_some(moment.now.send_time),
        }
    }

    /// Writes header, extensions and payload. The same arguments give the same bytes.
    #[expect(clippy::too_many_arguments, reason = "all that a packet's bytes depend on")]
    fn write(
        &mut self,
        header: &Header,
        facts: &PacketFacts,
        stamps: Stamps,
        original: Option<u16>,
        offsets: Offsets,
        payload: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let mut at = self.headers.write(&self.cold.params, header, facts, stamps, out)?;
        if let Some(original) = original {
            out.get_mut(at..at + OSN_LEN)?.copy_from_slice(&original.to_be_bytes());
            at += OSN_LEN;
        }
        let copy = out.get_mut(at..at + payload.len())?;
        copy.copy_from_slice(payload);
        if let Some(vp8) = &facts.vp8 {
            let picture = vp8.picture_id.map_or(0, |id| id.value().wrapping_add(offsets.picture));
            let tl0 = vp8.tl0_pic_idx.map_or(0, |tl0| tl0.wrapping_add(offsets.tl0));
            vp8.patch(copy, picture, tl0);
        }
        Some(at + payload.len())
    }
}

/// The bit of the first byte that announces padding (RFC 3550 §5.1).
const PADDING_BIT: u8 = 0x20;

/// The original's sequence number in front of a retransmitted payload (RFC 4588 §4).
const OSN_LEN: usize = 2;

impl CodecParams {
    /// The payload type of a packet made up so.
    #[inline]
    fn pt_of(&self, makeup: Makeup) -> Option<u8> {
        if makeup.repeated() == 0 { Some(self.pt) } else { self.red_pt }
    }
}

fn header(ssrc: Ssrc, pt: u8, seq: u64, facts: &PacketFacts, offsets: Offsets) -> Header {
    let timestamp = facts.time.wrapping_add(offsets.time);
    Header { marker: facts.marker, pt, seq: seq as u16, timestamp, ssrc }
}

/// Where counting begins: spread by the SSRC, which is random, as there is no other randomness here.
fn first_seq(ssrc: Ssrc) -> u16 {
    (ssrc.0.wrapping_mul(0x9e37_79b1) >> 17) as u16
}
