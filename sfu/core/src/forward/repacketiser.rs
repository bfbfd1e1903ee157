//! Which packets of sound leave as one. A packet of 20 ms costs its receiver's link 50 bytes of headers and more,
//! as much as thin speech itself: where two or three leave as one (RFC 6716 §3.2.5), a link keeps 11.6 or 15.5
//! kbit/s for each voice, for 20 or 40 ms of delay.
//!
//! ```text
//! source   100 101 102  103  x  105 106 107    x    missing at ingress: what waits leaves
//! output    1           2    3   4             3    waits for 104, as without merging
//! ```
//!
//! Where much is lost and a resend would come too late, a packet repeats the one before it (RFC 2198), if its receiver
//! takes that.
//!
//! Nothing is copied here: what leaves is a name, made into a packet from the source's cache at departure, and again
//! from the same bytes when it is resent. Only frames of 20 ms wait, one to a packet: what browsers send. Late ones,
//! silence (DTX), and packets in any other form leave at once.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::rtp::ext::AudioLevel;
use crate::rtp::opus::{CLOCK_RATE, OpusPacket};
use crate::rtp::opus_frames::{LoneFrame, join, joined_len};
use crate::rtp::red;
use crate::track::StreamKey;
use crate::track::packet_cache::PacketFacts;
use crate::track::up_track::UpTrack;

/// A packet waits no longer than this for others: 40 ms until the third was sent, and a little for its way.
pub const MAX_WAIT: Duration = Duration::from_millis(45);

/// Bytes of a payload made of several packets at most, so that it fits a datagram: speech has no more than 800.
pub const MAX_PACKED_LEN: usize = 1100;

/// Samples of the frames that are merged: 20 ms.
const FRAME_SAMPLES: u32 = CLOCK_RATE / 50;

/// How many packets of sound leave as one on the way to a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Merge {
    /// Each by itself.
    #[default]
    None,
    /// Two, 40 ms: where packets are lost, as in-band FEC (RFC 6716 §2.1.7) then mends half of a lost one.
    Two,
    /// Three, 60 ms.
    Three,
}

impl Merge {
    pub(crate) fn packets(self) -> usize {
        match self {
            Self::None => 1,
            Self::Two => 2,
            Self::Three => MAX_PACKETS,
        }
    }
}

/// How sound is packed on the way to a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Packing {
    /// How many packets leave as one.
    pub merge: Merge,
    /// Whether each repeats the one before it, on tracks whose receiver agreed to redundant audio.
    pub redundant: bool,
}

/// Most packets in one: 60 ms, of 120 that a packet may hold.
const MAX_PACKETS: usize = 3;

/// Which of the source's packets a packet of sound holds. In four bits, as packets of pictures carry it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Makeup(u8);

impl Makeup {
    /// One packet as it came.
    pub const SINGLE: Self = Self(0);

    /// So many `packets`, 1..=3, from its own number on, and so many `repeated`, 0..=3, of those before it: the last
    /// packet that left.
    pub fn new(packets: u8, repeated: u8) -> Self {
        debug_assert!((1..=4).contains(&packets) && repeated < 4);
        Self((packets - 1) << 2 | repeated)
    }

    /// How many of the source's packets it holds, from its own number on.
    #[inline]
    pub fn packets(self) -> u8 {
        (self.0 >> 2) + 1
    }

    /// How many of those before it are repeated in it.
    #[inline]
    pub fn repeated(self) -> u8 {
        self.0 & 3
    }

    /// Its four bits, all zero in [`SINGLE`](Self::SINGLE).
    #[inline]
    pub fn to_bits(self) -> u8 {
        self.0
    }

    /// The reverse; the upper four bits are ignored.
    #[inline]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x0f)
    }
}

/// A packet of sound that is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The stream.
    pub stream: StreamKey,
    /// The source's number of its first new packet.
    pub first: u64,
    /// What it holds.
    pub makeup: Makeup,
    /// Bytes of its payload.
    pub payload_len: usize,
}

impl Parcel {
    /// The numbers of the source that it needs none of its own for.
    pub fn followers(&self) -> impl Iterator<Item = u64> + use<> {
        self.first + 1..self.first + u64::from(self.makeup.packets())
    }
}

/// What one packet lets go: those before it, and itself.
pub type Released = ArrayVec<Parcel, 2>;

/// The packets that wait on one down track. See the module.
#[derive(Debug)]
pub struct Repacketiser {
    packing: Packing,
    waiting: Option<Waiting>,
    /// The last that was let go, where it may be repeated.
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    stream: StreamKey,
    /// The number and the timestamp behind it.
    end: (u64, u32),
    packets: u8,
    /// Bytes of what is new in it.
    len: usize,
}

#[derive(Debug)]
struct Waiting {
    stream: StreamKey,
    first: u64,
    toc: u8,
    /// The first one's timestamp.
    start: u32,
    /// Bytes of each frame.
    lens: ArrayVec<usize, MAX_PACKETS>,
    due: Instant,
}

impl Repacketiser {
    /// One that nothing waits in; `None` where each packet leaves by itself and as it is.
    pub fn new(packing: Packing) -> Option<Self> {
        (packing != Packing::default()).then_some(Self { packing, waiting: None, last: None })
    }

    /// Takes a packet that is going to leave, and lets go what waits no longer, oldest first. One that is `late`,
    /// because packets behind it were taken before, leaves alone.
    pub fn push(
        &mut self,
        now: Instant,
        stream: StreamKey,
        (facts, payload): (&PacketFacts, &[u8]),
        late: bool,
    ) -> Released {
        let mut released = Released::new();
        if late {
            let makeup = Makeup::SINGLE;
            released.push(Parcel { stream, first: facts.seq, makeup, payload_len: payload.len() });
            return released;
        }
        let frame = mergeable(payload);
        let taken = match (&mut self.waiting, frame) {
            (Some(waiting), Some(frame)) => waiting.take(stream, facts, frame),
            _ => false,
        };
        if !taken {
            released.extend(self.flush());
            match frame {
                Some(frame) => self.waiting = Some(Waiting::new(now, stream, facts, frame)),
                None => released.push(self.let_go(stream, facts, payload)),
            }
        }
        if self.waiting.as_ref().is_some_and(|waiting| waiting.lens.len() >= self.packing.merge.packets()) {
            released.extend(self.flush());
        }
        released
    }

    /// Lets go what waits.
    pub fn flush(&mut self) -> Option<Parcel> {
        let Waiting { stream, first, start, lens, .. } = self.waiting.take()?;
        let packets = lens.len() as u8;
        let end = start.wrapping_add(FRAME_SAMPLES * u32::from(packets));
        let last = Last { stream, end: (first + u64::from(packets), end), packets, len: joined_len(&lens) };
        Some(self.parcel((first, start), last))
    }

    /// A packet that waits for none. Nobody misses a silence that is lost: nothing repeats it.
    fn let_go(&mut self, stream: StreamKey, facts: &PacketFacts, payload: &[u8]) -> Parcel {
        let len = payload.len();
        let sound = OpusPacket::parse(payload).ok().filter(|sound| !sound.silence);
        let Some(sound) = sound else {
            self.last = None;
            return Parcel { stream, first: facts.seq, makeup: Makeup::SINGLE, payload_len: len };
        };
        let end = (facts.seq + 1, facts.time.wrapping_add(sound.samples()));
        self.parcel((facts.seq, facts.time), Last { stream, end, packets: 1, len })
    }

    /// What leaves, with the last one in it where it goes on from there.
    fn parcel(&mut self, start: (u64, u32), own: Last) -> Parcel {
        let Last { stream, packets, len, .. } = own;
        let old = self.last.replace(own).filter(|old| {
            self.packing.redundant
                && (old.stream, old.end) == (stream, start)
                && old.len <= red::MAX_REPEATED_LEN
                && red::OVERHEAD + old.len + len <= MAX_PACKED_LEN
        });
        let (repeated, more) = old.map_or((0, 0), |old| (old.packets, red::OVERHEAD + old.len));
        let makeup = Makeup::new(packets, repeated);
        Parcel { stream, first: start.0, makeup, payload_len: more + len }
    }

    /// When what waits is to leave as it is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.waiting.as_ref()?.due)
    }
}

impl Waiting {
    fn new(now: Instant, stream: StreamKey, facts: &PacketFacts, frame: LoneFrame<'_>) -> Self {
        Self {
            stream,
            first: facts.seq,
            toc: frame.toc,
            start: facts.time,
            lens: ArrayVec::from_iter([frame.bytes.len()]),
            due: now + MAX_WAIT,
        }
    }

    /// Whether the packet goes on where the last one ended; it then waits with it. A talk spurt begins with its
    /// marker, which only a first packet can say.
    fn take(&mut self, stream: StreamKey, facts: &PacketFacts, frame: LoneFrame<'_>) -> bool {
        let next = self.first + self.lens.len() as u64;
        let goes_on = stream == self.stream
            && facts.seq == next
            && facts.time == self.start.wrapping_add(FRAME_SAMPLES * self.lens.len() as u32)
            && frame.toc == self.toc
            && !facts.marker;
        if !goes_on || self.lens.is_full() {
            return false;
        }
        self.lens.push(frame.bytes.len());
        if joined_len(&self.lens) > MAX_PACKED_LEN {
            self.lens.pop();
            return false;
        }
        true
    }
}

/// The frame of a packet that may wait for others.
fn mergeable(payload: &[u8]) -> Option<LoneFrame<'_>> {
    let facts = OpusPacket::parse(payload).ok()?;
    let usual = !facts.silence && facts.samples() == FRAME_SAMPLES && payload.len() <= MAX_PACKED_LEN;
    LoneFrame::of(payload).filter(|_| usual)
}

/// The loudest packet speaks for all: a receiver that shows who talks must not miss a syllable.
fn louder(one: AudioLevel, other: AudioLevel) -> AudioLevel {
    AudioLevel { voice: one.voice || other.voice, level: one.level.min(other.level) }
}

/// A packet made of several of a source's.
#[derive(Debug)]
pub struct Composed {
    facts: PacketFacts,
    payload: ArrayVec<u8, MAX_PACKED_LEN>,
}

impl Composed {
    /// The packet made up so, whose first new packet is `first` and whose blocks have the payload type `pt`: the same
    /// bytes whenever it is made. `None` where a packet in it is gone.
    pub fn make(up: &UpTrack, pt: u8, stream: StreamKey, first: u64, makeup: Makeup) -> Option<Self> {
        let mut payload = ArrayVec::new();
        if makeup.repeated() > 0 {
            payload.try_extend_from_slice(&[0; red::OVERHEAD]).ok()?;
            let old = append(
                up,
                stream,
                (first.checked_sub(makeup.repeated().into())?, makeup.repeated()),
                &mut payload,
            )?;
            let offset = up.packet(stream, first)?.0.time.wrapping_sub(old.time);
            let headers = red::headers(pt, offset, payload.len() - red::OVERHEAD)?;
            payload[..red::OVERHEAD].copy_from_slice(&headers);
        }
        let facts = append(up, stream, (first, makeup.packets()), &mut payload)?;
        Some(Self { facts, payload })
    }

    /// As a packet of the source would be: with the number, timestamp and marker of its first new one.
    pub fn packet(&self) -> (&PacketFacts, &[u8]) {
        (&self.facts, &self.payload)
    }
}

/// Appends a run of packets as one, and returns its facts.
fn append(
    up: &UpTrack,
    stream: StreamKey,
    (first, packets): (u64, u8),
    out: &mut ArrayVec<u8, MAX_PACKED_LEN>,
) -> Option<PacketFacts> {
    let (facts, payload) = up.packet(stream, first)?;
    let mut facts = *facts;
    if packets == 1 {
        out.try_extend_from_slice(payload).ok()?;
        return Some(facts);
    }
    let mut frames = ArrayVec::<LoneFrame<'_>, MAX_PACKETS>::from_iter(LoneFrame::of(payload));
    for seq in first + 1..first + u64::from(packets) {
        let (own, payload) = up.packet(stream, seq)?;
        frames.try_push(LoneFrame::of(payload)?).ok()?;
        if let (Some(all), Some(own)) = (&mut facts.audio_level, own.audio_level) {
            *all = louder(*all, own);
        }
    }
    join(&frames, out).then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::params::Codec;
    use crate::testing::{Random, origin};

    const STREAM: StreamKey = StreamKey::new(0, 0);
    const SPEECH: &[u8] = &[0x78, 1, 2, 3];

    fn facts(seq: u64, time: u32) -> PacketFacts {
        PacketFacts {
            seq,
            time,
            arrival: origin(),
            marker: false,
            codec: Codec::Opus,
            vp8: None,
            starts_decoding: true,
            audio_level: None,
            orientation: None,
        }
    }

    /// What leaves: the number of the first, and how many.
    fn parcels(released: impl IntoIterator<Item = Parcel>) -> Vec<(u64, u8)> {
        released.into_iter().map(|own| (own.first, own.makeup.packets())).collect()
    }

    fn packing(merge: Merge) -> Packing {
        Packing { merge, redundant: false }
    }

    /// One packet of a talk: how it differs from the one before, and what it lets go.
    struct Step(u64, u32, bool, &'static [u8], &'static [(u64, u8)]);

    fn talk(merge: Merge, steps: &[Step]) {
        talk_of("", merge, steps);
    }

    fn talk_of(what: &str, merge: Merge, steps: &[Step]) {
        let mut repacketiser = Repacketiser::new(packing(merge)).unwrap();
        for (i, Step(seq, frame, marker, payload, expected)) in steps.iter().enumerate() {
            let facts = PacketFacts { marker: *marker, ..facts(*seq, frame.wrapping_mul(960)) };
            let late = steps[..i].iter().any(|before| before.0 > *seq);
            let released = repacketiser.push(origin(), STREAM, (&facts, payload), late);
            assert_eq!(parcels(released), *expected, "{what}, step {i}");
        }
    }

    #[test]
    fn two_or_three_in_a_row_leave_as_one() {
        let step = |seq, released| Step(seq, seq as u32, false, SPEECH, released);
        talk(Merge::Two, &[step(8, &[]), step(9, &[(8, 2)]), step(10, &[]), step(11, &[(10, 2)])]);
        talk(
            Merge::Three,
            &[
                step(8, &[]),
                step(9, &[]),
                step(10, &[(8, 3)]),
                step(11, &[]),
                step(12, &[]),
                step(13, &[(11, 3)]),
            ],
        );
        assert!(Repacketiser::new(packing(Merge::None)).is_none());
    }

    #[test]
    fn whatever_does_not_go_on_lets_go_what_waits() {
        let start = || Step(8, 8, true, SPEECH, &[]);
        let cases: [(&str, Step); 9] = [
            ("a number is missing", Step(10, 10, false, SPEECH, &[(8, 1)])),
            ("time is missing", Step(9, 10, false, SPEECH, &[(8, 1)])),
            ("a talk spurt begins", Step(9, 9, true, SPEECH, &[(8, 1)])),
            ("another mode", Step(9, 9, false, &[0x68, 1, 2, 3], &[(8, 1)])),
            ("stereo", Step(9, 9, false, &[0x7c, 1, 2, 3], &[(8, 1)])),
            ("silence leaves at once", Step(9, 9, false, &[0x78, 0], &[(8, 1), (9, 1)])),
            ("two frames already", Step(9, 9, false, &[0x79, 1, 2, 3, 4], &[(8, 1), (9, 1)])),
            ("10 ms", Step(9, 9, false, &[0x70, 1, 2, 3], &[(8, 1), (9, 1)])),
            ("60 ms already", Step(9, 9, false, &[0x58, 1, 2, 3, 4], &[(8, 1), (9, 1)])),
        ];
        for (case, step) in cases {
            talk_of(case, Merge::Three, &[start(), step]);
        }
    }

    #[test]
    fn late_packets_leave_at_once_and_disturb_nothing() {
        let step = |seq, released| Step(seq, seq as u32, false, SPEECH, released);
        talk(
            Merge::Three,
            &[
                step(8, &[]),
                step(10, &[(8, 1)]),
                step(9, &[(9, 1)]),
                step(11, &[]),
                step(12, &[(10, 3)]),
                step(7, &[(7, 1)]),
            ],
        );
    }

    #[test]
    fn timestamps_may_wrap() {
        let at = |frame: u32| u32::MAX.wrapping_sub(1).wrapping_add(frame * 960);
        let mut repacketiser = Repacketiser::new(packing(Merge::Three)).unwrap();
        let released = (0..3).flat_map(|i| {
            repacketiser.push(origin(), STREAM, (&facts(65_535 + i, at(i as u32)), SPEECH), false)
        });
        assert_eq!(parcels(released), [(65_535, 3)]);
    }

    #[test]
    fn nothing_waits_longer_than_45_ms() {
        let start = origin();
        let mut repacketiser = Repacketiser::new(packing(Merge::Three)).unwrap();
        assert_eq!(repacketiser.poll_timeout(), None);
        repacketiser.push(start, STREAM, (&facts(8, 0), SPEECH), false);
        repacketiser.push(start + Duration::from_millis(30), STREAM, (&facts(9, 960), SPEECH), false);
        assert_eq!(repacketiser.poll_timeout(), Some(start + MAX_WAIT));
        assert_eq!(parcels(repacketiser.flush()), [(8, 2)]);
        assert_eq!((repacketiser.poll_timeout(), repacketiser.flush()), (None, None));
    }

    #[test]
    fn what_would_not_fit_a_datagram_is_not_merged() {
        let music: &[u8] = &[0xfc; 500];
        let step = |seq, released| Step(seq, seq as u32, false, music, released);
        talk(Merge::Three, &[step(8, &[]), step(9, &[]), step(10, &[(8, 2)]), step(11, &[])]);
        talk(Merge::Three, &[Step(8, 8, false, &[0xfc; 1200], &[(8, 1)])]);
    }

    #[test]
    fn each_repeats_the_one_before_where_sound_goes_on() {
        // The merge, and of each packet: number, frame, payload, and what leaves with how many repeated.
        type Row = (u64, u32, &'static [u8], &'static [(u64, u8, u8)]);
        let loud: &[u8] = &[0xfc; 700];
        let table: [(Merge, &[Row]); 5] = [
            (
                Merge::None,
                &[
                    (8, 8, SPEECH, &[(8, 1, 0)]),
                    (9, 9, SPEECH, &[(9, 1, 1)]),
                    (10, 10, SPEECH, &[(10, 1, 1)]),
                ],
            ),
            // Something is missing, silence, and on again.
            (
                Merge::None,
                &[
                    (8, 8, SPEECH, &[(8, 1, 0)]),
                    (10, 10, SPEECH, &[(10, 1, 0)]),
                    (11, 11, &[0x78], &[(11, 1, 0)]),
                    (12, 12, SPEECH, &[(12, 1, 0)]),
                    (9, 9, SPEECH, &[(9, 1, 0)]),
                    (13, 13, SPEECH, &[(13, 1, 1)]),
                ],
            ),
            // 60 ms that came as one packet.
            (Merge::None, &[(8, 8, &[0x58, 1, 2, 3], &[(8, 1, 0)]), (9, 11, SPEECH, &[(9, 1, 1)])]),
            (
                Merge::Two,
                &[
                    (8, 8, SPEECH, &[]),
                    (9, 9, SPEECH, &[(8, 2, 0)]),
                    (10, 10, SPEECH, &[]),
                    (11, 11, SPEECH, &[(10, 2, 2)]),
                ],
            ),
            (Merge::None, &[(8, 8, loud, &[(8, 1, 0)]), (9, 9, loud, &[(9, 1, 0)])]),
        ];
        for (merge, rows) in table {
            let mut repacketiser = Repacketiser::new(Packing { merge, redundant: true }).unwrap();
            for (i, &(seq, frame, payload, expected)) in rows.iter().enumerate() {
                let late = rows[..i].iter().any(|before| before.0 > seq);
                let released = repacketiser.push(origin(), STREAM, (&facts(seq, frame * 960), payload), late);
                let left =
                    released.iter().map(|own| (own.first, own.makeup.packets(), own.makeup.repeated()));
                assert_eq!(left.collect::<Vec<_>>(), expected, "{merge:?}, packet {seq}");
            }
        }
    }

    fn numbers(released: impl IntoIterator<Item = Parcel>) -> Vec<u64> {
        released.into_iter().flat_map(|own| own.first..own.first + u64::from(own.makeup.packets())).collect()
    }

    #[test]
    fn each_packet_leaves_once_and_in_order_but_for_late_ones() {
        for seed in 1..=50 {
            let mut random = Random::new(seed);
            let merge = [Merge::Two, Merge::Three][random.below(2) as usize];
            let mut repacketiser = Repacketiser::new(packing(merge)).unwrap();
            let (mut arrived, mut left) = (Vec::new(), Vec::new());
            let mut next = 100;
            for _ in 0..500 {
                next += 1 + u64::from(random.chance(100));
                let late = random.chance(50) && !arrived.contains(&(next - 7));
                let seq = if late { next - 7 } else { next };
                let payload: &[u8] = if random.chance(100) { &[0x78] } else { SPEECH };
                let facts = PacketFacts { marker: random.chance(30), ..facts(seq, seq as u32 * 960) };
                let mut released: Vec<_> =
                    repacketiser.push(origin(), STREAM, (&facts, payload), late).into_iter().collect();
                arrived.push(seq);
                if random.chance(100) {
                    released.extend(repacketiser.flush());
                }
                left.extend(numbers(released));
            }
            left.extend(numbers(repacketiser.flush()));
            let newest = left.iter().scan(0, |top, &seq| {
                let late = seq < *top;
                *top = seq.max(*top);
                Some((late, seq))
            });
            assert!(newest.filter(|(late, _)| !late).map(|(_, seq)| seq).is_sorted(), "seed {seed}");
            arrived.sort_unstable();
            left.sort_unstable();
            assert_eq!(left, arrived, "seed {seed}");
        }
    }
}
