//! The numbers of a down track: source sequence numbers, timestamps and VP8 picture ids to those that the
//! receiver sees. Which numbers were given cannot be taken back, so the mapping is a list of segments:
//!
//! ```text
//! source   100 101 102  x  104 105 106 107        x    missing at ingress: its number waits for it
//!                               |skipped           105  not meant for this receiver: its number is reused
//! output    1   2   3   4   5       6   7
//!          [ segment from 100 on ]  [ from 106 on
//! ```
//!
//! A packet's number follows from its segment alone, whatever the order of arrival or departure. A skip splits
//! a segment, and moves the numbers behind it one down: possible until one of these has departed.

use std::collections::VecDeque;
use std::time::Instant;

use crate::rtp::vp8::{PictureId, Vp8Descriptor};
use crate::track::StreamKey;
use crate::track::packet_cache::PacketFacts;
use crate::track::receive_stats::ticks;

/// Segments kept. Each skipped run of packets makes one: what is older than all these holes is no longer news.
const MAX_SEGMENTS: usize = 32;

/// How far two ways to continue the timestamps may lie apart: beyond, the sender's reports are not believed.
const MAX_CLOCK_ERROR_SECONDS: u32 = 2;

/// What is added to the numbers that a packet carries besides its sequence number, modulo their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// To the RTP timestamp.
    pub time: u32,
    /// To the VP8 picture id.
    pub picture: u16,
    /// To TL0PICIDX.
    pub tl0: u8,
}

/// The number of a packet about to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Extended sequence number.
    pub seq: u64,
    /// For the rest.
    pub offsets: Offsets,
}

/// What became of the number of a packet that does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The next packet takes it.
    Closed,
    /// A later number has departed already: the receiver sees a hole.
    Hole,
}

/// The mapping of one down track.
#[derive(Debug)]
pub struct Rewriter {
    /// Oldest first, their output numbers ascending and without gaps between them. Only the last one is open.
    segments: VecDeque<Segment>,
    /// The highest source number admitted to or skipped in the open segment.
    frontier: u64,
    /// The output number with which the first segment begins.
    first: u64,
    /// The highest output number that departed.
    departed: Option<u64>,
    last: Last,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    stream: StreamKey,
    /// Source numbers `start..end`; `u64::MAX` while it is open.
    start: u64,
    end: u64,
    /// The output number of `start`.
    output: u64,
    offsets: Offsets,
}

impl Segment {
    fn is_open(&self) -> bool {
        self.end == u64::MAX
    }
}

/// The newest of what the receiver will see, for the next stream to continue.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    time: Option<(u32, Instant)>,
    picture: Option<PictureId>,
    tl0: Option<u8>,
}

impl Rewriter {
    /// Numbers from `first` on. RFC 3550 §5.1 wants a number that nobody can guess; libsrtp wants one in the
    /// lower half of the 16 bits, so that an early packet cannot seem to be of the cycle before.
    pub fn new(first: u16) -> Self {
        Self {
            segments: VecDeque::with_capacity(MAX_SEGMENTS),
            frontier: 0,
            first: u64::from(first & 0x7fff) + (1 << 16),
            departed: None,
            last: Last::default(),
        }
    }

    /// One behind the highest source number of a stream that has, or waits for, an output number.
    pub fn behind(&self, stream: StreamKey) -> u64 {
        let segments = self.segments.iter().filter(|segment| segment.stream == stream);
        let end = |segment: &Segment| if segment.is_open() { self.frontier + 1 } else { segment.end };
        segments.map(end).max().unwrap_or_default()
    }

    /// From this packet on `stream` is forwarded, not before [`behind`](Self::behind): else its segment would
    /// overlap those before it. What was before it ends with its last admitted packet.
    /// `aligned` is the packet's timestamp as the stream before would have stamped it, where that is known.
    pub fn begin(&mut self, stream: StreamKey, facts: &PacketFacts, aligned: Option<u32>) {
        debug_assert!(facts.seq >= self.behind(stream), "a source number must not get two output numbers");
        let (output, offsets) = match self.segments.back_mut() {
            None => (self.next_departure(), Offsets::default()),
            Some(before) => {
                before.end = self.frontier + 1;
                let before = *before;
                if before.end <= before.start {
                    self.segments.pop_back();
                }
                let offsets = self.continued(&before, stream, facts, aligned);
                (before.output + before.end.saturating_sub(before.start), offsets)
            }
        };
        self.push(Segment { stream, start: facts.seq, end: u64::MAX, output, offsets });
        self.frontier = facts.seq;
        self.note(facts, offsets);
    }

    /// A packet is going to leave. `false` where it has no number: it is older than all that is forwarded.
    #[inline]
    pub fn admit(&mut self, stream: StreamKey, facts: &PacketFacts) -> bool {
        let Some(index) = self.segment(stream, facts.seq) else { return false };
        if index + 1 == self.segments.len() && facts.seq >= self.frontier {
            self.frontier = facts.seq;
            let offsets = self.segments[index].offsets;
            self.note(facts, offsets);
        }
        true
    }

    /// Whether a number waits for this packet among those that have been given, or will be, to packets around
    /// it.
    #[inline]
    pub fn awaits(&self, stream: StreamKey, seq: u64) -> bool {
        match self.segments.back() {
            Some(open) if open.stream == stream && seq >= open.start => seq < self.frontier,
            _ => self.segment(stream, seq).is_some(),
        }
    }

    /// A packet of the forwarded stream will not leave, although its number was counted on: closes the hole.
    pub fn skip(&mut self, stream: StreamKey, seq: u64) -> Skip {
        let Some(index) = self.segment(stream, seq) else { return Skip::Closed };
        let segment = self.segments[index];
        let output = segment.output + (seq - segment.start);
        if self.departed.is_some_and(|departed| departed > output) {
            return Skip::Hole;
        }
        if index + 1 == self.segments.len() {
            self.frontier = self.frontier.max(seq);
        }
        for later in self.segments.range_mut(index + 1..) {
            later.output -= 1;
        }
        let before = Segment { end: seq, ..segment };
        let behind = Segment { start: seq + 1, output, ..segment };
        // An empty half is left out, but for the open one: what comes next belongs to it.
        if before.start == before.end {
            self.segments[index] = behind;
        } else {
            self.segments[index] = before;
            if behind.start < behind.end {
                self.insert(index + 1, behind);
            }
        }
        Skip::Closed
    }

    /// Takes back every number behind the highest that departed: what was admitted with them must not leave.
    pub fn abandon(&mut self) {
        let next = self.next_departure();
        while self.segments.pop_back_if(|segment| segment.output >= next).is_some() {}
        if let Some(last) = self.segments.back_mut() {
            last.end = last.end.min(last.start + (next - last.output));
            self.frontier = last.end - 1;
        }
    }

    /// Whether this packet has a number.
    pub fn numbers(&self, stream: StreamKey, seq: u64) -> bool {
        self.segment(stream, seq).is_some()
    }

    /// The number of a packet that leaves now, `None` where it has none (any more).
    #[inline]
    pub fn number(&mut self, stream: StreamKey, seq: u64) -> Option<Numbered> {
        let segment = &self.segments[self.segment(stream, seq)?];
        let numbered = Numbered { seq: segment.output + (seq - segment.start), offsets: segment.offsets };
        self.departed = self.departed.max(Some(numbered.seq));
        Some(numbered)
    }

    /// The stream forwarded now or last, and what is added to its timestamps.
    pub fn current(&self) -> Option<(StreamKey, Offsets)> {
        self.segments.back().map(|segment| (segment.stream, segment.offsets))
    }

    /// One behind the highest number that departed.
    fn next_departure(&self) -> u64 {
        self.departed.map_or(self.first, |departed| departed + 1)
    }

    /// The segment of a packet; nearly always the last one.
    #[inline]
    fn segment(&self, stream: StreamKey, seq: u64) -> Option<usize> {
        self.segments
            .iter()
            .rposition(|segment| segment.stream == stream && (segment.start..segment.end).contains(&seq))
    }

    /// How a stream continues the one before it.
    fn continued(
        &self,
        before: &Segment,
        stream: StreamKey,
        facts: &PacketFacts,
        aligned: Option<u32>,
    ) -> Offsets {
        let time = if before.stream == stream {
            // Its clock ran on while it was paused, and so it does for the receiver.
            before.offsets.time
        } else {
            self.continued_time(before, facts, aligned).wrapping_sub(facts.time)
        };
        let vp8 = facts.vp8;
        let picture = vp8
            .and_then(|vp8| vp8.picture_id)
            .zip(self.last.picture)
            .map(|(first, last)| last.value().wrapping_add(1).wrapping_sub(first.value()));
        let tl0 = vp8
            .and_then(|vp8| vp8.tl0_pic_idx)
            .zip(self.last.tl0)
            .map(|(first, last)| last.wrapping_add(1).wrapping_sub(first));
        Offsets {
            time,
            picture: picture.unwrap_or(before.offsets.picture),
            tl0: tl0.unwrap_or(before.offsets.tl0),
        }
    }

    /// The output timestamp of another stream's first packet: what the sender's clocks say, where that is near
    /// to the time gone by, else the time gone by; always later than the last one.
    fn continued_time(&self, before: &Segment, facts: &PacketFacts, aligned: Option<u32>) -> u32 {
        let Some((last, arrival)) = self.last.time else { return facts.time };
        let rate = facts.codec.clock_rate();
        let elapsed = ticks(facts.arrival.saturating_duration_since(arrival), rate) as u32;
        let guess = last.wrapping_add(elapsed.max(1));
        let aligned = aligned.map(|time| time.wrapping_add(before.offsets.time)).filter(|&aligned| {
            let error = (aligned.wrapping_sub(guess) as i32).unsigned_abs();
            error < rate * MAX_CLOCK_ERROR_SECONDS
        });
        let time = aligned.unwrap_or(guess);
        if is_later(time, last) { time } else { last.wrapping_add(1) }
    }

    /// Remembers the newest of what the receiver will see.
    #[inline]
    fn note(&mut self, facts: &PacketFacts, offsets: Offsets) {
        let time = facts.time.wrapping_add(offsets.time);
        if self.last.time.is_none_or(|(last, _)| is_later(time, last)) {
            self.last.time = Some((time, facts.arrival));
        }
        if let Some(vp8) = facts.vp8 {
            self.note_picture(&vp8, offsets);
        }
    }

    fn note_picture(&mut self, vp8: &Vp8Descriptor, offsets: Offsets) {
        if let Some(picture) = vp8.picture_id {
            let value = picture.value().wrapping_add(offsets.picture) & picture.mask();
            let newer = self
                .last
                .picture
                .is_none_or(|last| value.wrapping_sub(last.value()) & picture.mask() <= picture.mask() / 2);
            if newer {
                self.last.picture = Some(match picture {
                    PictureId::Short(_) => PictureId::Short(value as u8),
                    PictureId::Long(_) => PictureId::Long(value),
                });
            }
        }
        if let Some(tl0) = vp8.tl0_pic_idx.map(|tl0| tl0.wrapping_add(offsets.tl0))
            && self.last.tl0.is_none_or(|last| tl0.wrapping_sub(last) < 0x80)
        {
            self.last.tl0 = Some(tl0);
        }
    }

    fn push(&mut self, segment: Segment) {
        self.insert(self.segments.len(), segment);
    }

    /// Inserts a segment; the oldest one makes room.
    fn insert(&mut self, index: usize, segment: Segment) {
        let full = self.segments.len() == MAX_SEGMENTS;
        if full {
            self.segments.pop_front();
        }
        self.segments.insert(index - usize::from(full), segment);
    }
}

/// Whether a timestamp is later than another, modulo 2^32.
fn is_later(time: u32, than: u32) -> bool {
    (time.wrapping_sub(than) as i32) > 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::track::testing::{facts, start};

    const A: StreamKey = StreamKey { encoding: 0, epoch: 0 };
    const B: StreamKey = StreamKey { encoding: 1, epoch: 0 };
    const FIRST: u64 = (1 << 16) + 500;

    fn picture(seq: u64, picture: u16, tl0: u8) -> PacketFacts {
        let [high, low] = (picture | 0x8000).to_be_bytes();
        let vp8 = Vp8Descriptor::parse(&[0x90, 0xc0, high, low, tl0, 0]).unwrap();
        PacketFacts { vp8: Some(vp8), ..facts(seq, seq as u32) }
    }

    fn begun(seq: u64) -> Rewriter {
        let mut rewriter = Rewriter::new(500);
        rewriter.begin(A, &facts(seq, 0), None);
        rewriter
    }

    fn admit(rewriter: &mut Rewriter, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            assert!(rewriter.admit(A, &facts(seq, 0)), "{seq}");
        }
    }

    fn outputs(rewriter: &mut Rewriter, stream: StreamKey, seqs: &[u64]) -> Vec<Option<u64>> {
        let number = |&seq| Some(rewriter.number(stream, seq)?.seq - FIRST);
        seqs.iter().map(number).collect()
    }

    #[test]
    fn a_missing_packet_leaves_a_hole_and_fills_it_when_it_comes() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101, 103, 104]);
        assert_eq!(outputs(&mut rewriter, A, &[100, 101, 103, 104]), [Some(0), Some(1), Some(3), Some(4)]);
        assert!(rewriter.awaits(A, 102));
        admit(&mut rewriter, [102]);
        assert_eq!(outputs(&mut rewriter, A, &[102]), [Some(2)]);
    }

    #[test]
    fn a_skip_closes_the_hole_before_anything_behind_it_departs() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101]);
        assert_eq!(rewriter.skip(A, 102), Skip::Closed);
        assert_eq!(rewriter.skip(A, 103), Skip::Closed);
        admit(&mut rewriter, [104, 105]);
        // 101 is dropped out of the queue: everything behind it moves down.
        assert_eq!(rewriter.skip(A, 101), Skip::Closed);
        assert_eq!(
            outputs(&mut rewriter, A, &[100, 101, 102, 103, 104, 105]),
            [Some(0), None, None, None, Some(1), Some(2)]
        );
    }

    #[test]
    fn a_skip_behind_a_departed_number_leaves_its_hole() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101, 102]);
        assert_eq!(outputs(&mut rewriter, A, &[100, 102]), [Some(0), Some(2)]);
        assert_eq!(rewriter.skip(A, 101), Skip::Hole);
        admit(&mut rewriter, [103]);
        assert_eq!(outputs(&mut rewriter, A, &[103, 101]), [Some(3), Some(1)]);
    }

    #[test]
    fn a_late_packet_keeps_its_place_before_a_skip() {
        let mut rewriter = begun(100);
        assert_eq!(rewriter.skip(A, 102), Skip::Closed);
        admit(&mut rewriter, [103]);
        assert_eq!(outputs(&mut rewriter, A, &[100, 103]), [Some(0), Some(2)]);
        admit(&mut rewriter, [101]);
        assert_eq!(outputs(&mut rewriter, A, &[101]), [Some(1)]);
    }

    #[test]
    fn skipping_the_very_first_packet_reuses_its_number() {
        let mut rewriter = begun(100);
        assert_eq!(rewriter.skip(A, 100), Skip::Closed);
        admit(&mut rewriter, [101]);
        assert_eq!(outputs(&mut rewriter, A, &[101]), [Some(0)]);
    }

    #[test]
    fn a_pause_leaves_no_hole_and_old_holes_can_still_be_filled() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [102]);
        rewriter.begin(A, &facts(200, 9000), None);
        assert_eq!(outputs(&mut rewriter, A, &[100, 102, 200]), [Some(0), Some(2), Some(3)]);
        assert!(rewriter.awaits(A, 101));
        for paused in [103, 150, 199] {
            assert!(!rewriter.awaits(A, paused) && !rewriter.admit(A, &facts(paused, 0)));
        }
        assert_eq!(outputs(&mut rewriter, A, &[101]), [Some(1)]);
    }

    #[test]
    fn another_stream_continues_numbers_and_leaves_room_for_what_is_queued() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101, 102]);
        rewriter.begin(B, &facts(7000, 0), None);
        assert_eq!(outputs(&mut rewriter, B, &[7000]), [Some(3)]);
        assert_eq!(outputs(&mut rewriter, A, &[101, 102, 103]), [Some(1), Some(2), None]);
    }

    #[test]
    fn a_queued_packet_dropped_before_a_switch_moves_the_next_stream_down() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101]);
        rewriter.begin(B, &facts(7000, 0), None);
        assert_eq!(rewriter.skip(A, 101), Skip::Closed);
        assert_eq!(outputs(&mut rewriter, A, &[100, 101]), [Some(0), None]);
        assert_eq!(outputs(&mut rewriter, B, &[7000, 7001]), [Some(1), Some(2)]);
    }

    #[test]
    fn abandoned_numbers_are_given_anew_and_departed_ones_are_not() {
        let mut rewriter = begun(100);
        admit(&mut rewriter, [101, 103, 104, 106]);
        rewriter.begin(B, &facts(7000, 0), None);
        assert_eq!(outputs(&mut rewriter, A, &[100, 101, 103]), [Some(0), Some(1), Some(3)]);
        rewriter.abandon();
        assert!(rewriter.numbers(A, 102), "a hole that the receiver sees");
        assert!(![104, 105, 106].iter().any(|&seq| rewriter.numbers(A, seq)));
        assert!(!rewriter.numbers(B, 7000));
        rewriter.begin(B, &facts(7050, 0), None);
        assert_eq!(outputs(&mut rewriter, B, &[7050]), [Some(4)]);
        rewriter.abandon();
        rewriter.begin(A, &facts(200, 0), None);
        assert_eq!(outputs(&mut rewriter, A, &[200, 102]), [Some(5), Some(2)]);
    }

    #[test]
    fn picture_ids_go_on_where_the_last_frame_ended() {
        let mut rewriter = Rewriter::new(0);
        let patched = |rewriter: &mut Rewriter, stream, facts: PacketFacts| {
            let offsets = rewriter.number(stream, facts.seq).unwrap().offsets;
            let vp8 = facts.vp8.unwrap();
            let id = vp8.picture_id.unwrap().value().wrapping_add(offsets.picture) & 0x7fff;
            (id, vp8.tl0_pic_idx.unwrap().wrapping_add(offsets.tl0))
        };
        let (first, second) = (picture(1, 0x7ffe, 254), picture(2, 0x7fff, 255));
        rewriter.begin(A, &first, None);
        assert!(rewriter.admit(A, &second));
        assert_eq!(patched(&mut rewriter, A, first), (0x7ffe, 254));
        assert_eq!(patched(&mut rewriter, A, second), (0x7fff, 255));
        let other = picture(900, 77, 9);
        rewriter.begin(B, &other, None);
        assert_eq!(patched(&mut rewriter, B, other), (0, 0));
        let back = picture(50, 300, 100);
        rewriter.begin(A, &back, None);
        assert_eq!(patched(&mut rewriter, A, back), (1, 1));
    }

    #[test]
    fn timestamps_of_another_stream_follow_the_senders_clock_and_else_the_time_gone_by() {
        let start = start();
        let (first, second) = (facts(1, 10_000), facts(70, 500));
        let first = PacketFacts { arrival: start, ..first };
        let second = PacketFacts { arrival: start + Duration::from_millis(100), ..second };
        // name, aligned timestamp, expected
        for (name, aligned, expected) in [
            ("nothing known: 100 ms later", None, 19_000),
            ("the reports say 90 ms", Some(18_100), 18_100),
            ("the reports are absurd", Some(9_000_000), 19_000),
            ("never backwards", Some(9_999), 10_001),
        ] {
            let mut rewriter = Rewriter::new(0);
            rewriter.begin(A, &first, None);
            rewriter.begin(B, &second, aligned);
            let offset = rewriter.number(B, 70).unwrap().offsets.time;
            assert_eq!(500u32.wrapping_add(offset), expected, "{name}");
        }
    }

    #[test]
    fn the_same_stream_keeps_its_clock_over_a_pause() {
        let mut rewriter = begun(100);
        rewriter.begin(A, &facts(200, 123_456), None);
        assert_eq!(rewriter.number(A, 200).unwrap().offsets.time, 0);
    }

    #[test]
    fn segments_are_bounded_and_the_oldest_is_forgotten() {
        let mut rewriter = begun(1000);
        for i in 0..MAX_SEGMENTS as u64 {
            assert_eq!(rewriter.skip(A, 1001 + 2 * i), Skip::Closed);
            admit(&mut rewriter, [1002 + 2 * i]);
        }
        assert_eq!(rewriter.segments.len(), MAX_SEGMENTS);
        assert_eq!(outputs(&mut rewriter, A, &[1000, 1002, 1064]), [None, Some(1), Some(32)]);
    }
}
