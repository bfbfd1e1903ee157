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

use std::num::NonZeroU64;
use std::time::Instant;

use super::segments::{Segment, Segments};
use crate::rtp::vp8::{PictureId, Vp8Descriptor};
use crate::track::StreamKey;
use crate::track::packet_cache::PacketFacts;
use crate::track::receive_stats::ticks;

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

/// The mapping of one down track. In this order in memory: each packet needs the fields up to the newest segment.
#[derive(Debug)]
#[repr(C)]
pub struct Rewriter {
    /// The highest source number admitted to or skipped in the open segment.
    frontier: u64,
    /// The highest source number of the present stream that is to leave.
    admitted: u64,
    /// The frame that the frontier's packet belongs to, where its sender counts frames.
    tail: Option<Tail>,
    /// The highest output number that departed.
    departed: Option<NonZeroU64>,
    /// Oldest first, their output numbers ascending and without gaps between them. Only the last one is open.
    segments: Segments,
    last: Last,
    alignment: Alignment,
    /// The output number with which the first segment begins.
    first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tail {
    /// The picture id and the timestamp that the packet came with.
    picture: PictureId,
    time: u32,
    /// Whether no packet of that frame comes behind it.
    ended: bool,
    /// Whether the frame was left out.
    left_out: bool,
}

/// How well the timestamps of the open segment continue those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alignment {
    /// As well as is known.
    Settled,
    /// By the time gone by: the sender's reports did not tell yet. `before` was forwarded with `offset`; the
    /// stream since then began at `time`.
    Guessed { before: StreamKey, offset: u32, time: u32 },
    /// Another offset is better, from the next frame on.
    Due { offset: u32 },
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
            segments: Segments::default(),
            frontier: 0,
            admitted: 0,
            first: u64::from(first & 0x7fff) + (1 << 16),
            departed: None,
            last: Last::default(),
            tail: None,
            alignment: Alignment::Settled,
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
        let (output, offsets) = match self.segments.newest().copied() {
            None => (self.next_departure(), Offsets::default()),
            Some(before) => (self.end(before.stream), self.continued(&before, stream, facts, aligned)),
        };
        self.segments.push(Segment { stream, start: facts.seq, end: u64::MAX, output, offsets });
        (self.frontier, self.admitted) = (facts.seq, facts.seq);
        self.tail = tail(facts, false);
        self.note(facts, offsets);
    }

    /// A packet is going to leave. `false` where it has no number: it is older than all that is forwarded.
    #[inline]
    pub fn admit(&mut self, stream: StreamKey, facts: &PacketFacts) -> bool {
        if facts.seq >= self.frontier
            && self.segments.newest().is_some_and(|open| open.holds(stream, facts.seq))
        {
            self.admitted = self.admitted.max(facts.seq);
            self.go_on(facts);
            return true;
        }
        let Some(index) = self.segments.of(stream, facts.seq) else { return false };
        if self.segments.newest().is_some_and(|open| open.stream == stream) {
            self.admitted = self.admitted.max(facts.seq);
            // It may be newer than all that leaves: what overtook it may have been left out.
            self.note(facts, self.segments[index].offsets);
        }
        true
    }

    /// A packet of a frame that this receiver does not get: neither its number nor the frame's picture id leaves
    /// a hole, unless it comes so late that the receiver has seen the hole already.
    pub fn leave_out(&mut self, stream: StreamKey, facts: &PacketFacts) -> Skip {
        let open = self.segments.newest().is_some_and(|open| open.stream == stream);
        if !open || facts.seq <= self.frontier {
            return self.skip(stream, facts.seq);
        }
        let picture = facts.vp8.and_then(|vp8| vp8.picture_id);
        let of_tail = |tail: Tail| Some(tail.picture) == picture;
        let behind = |tail: Tail| picture.is_some_and(|picture| follows(picture, tail.picture));
        // What is missing in between is left out, too, where it cannot be of any other frame.
        let gap =
            self.tail.is_some_and(|tail| of_tail(tail) || behind(tail) && (tail.ended || tail.left_out));
        let first = !self.tail.is_some_and(|tail| of_tail(tail) && tail.left_out);
        self.close(if gap { self.frontier + 1 } else { facts.seq }, facts.seq + 1);
        if let Some(open) = self.segments.newest_mut().filter(|_| first) {
            open.offsets.picture = open.offsets.picture.wrapping_sub(1);
            let offsets = open.offsets;
            // The frame before, which has its picture id now, may be yet to come, and so may some of its own
            // packets where the receiver sees a hole.
            self.note(facts, offsets);
        }
        self.tail = tail(facts, true);
        Skip::Closed
    }

    /// Which timestamp has to be translated between which streams for [`align`](Self::align): what the present
    /// one stamped so, as the one before would have.
    pub fn unaligned(&self) -> Option<(u32, StreamKey, StreamKey)> {
        match self.alignment {
            Alignment::Guessed { before, time, .. } => Some((time, self.segments.newest()?.stream, before)),
            Alignment::Settled | Alignment::Due { .. } => None,
        }
    }

    /// The sender's reports tell now: the timestamps are corrected from the next frame on, this once.
    pub fn align(&mut self, translated: u32, clock_rate: u32) {
        let (Alignment::Guessed { offset, time, .. }, Some(open)) = (self.alignment, self.segments.newest())
        else {
            return;
        };
        let offset = translated.wrapping_add(offset).wrapping_sub(time);
        let error = (offset.wrapping_sub(open.offsets.time) as i32).unsigned_abs();
        let better = error > 0 && error < clock_rate * MAX_CLOCK_ERROR_SECONDS;
        self.alignment = if better { Alignment::Due { offset } } else { Alignment::Settled };
    }

    /// Whether a number waits for this packet among those that have been given, or will be, to packets around
    /// it.
    #[inline]
    pub fn awaits(&self, stream: StreamKey, seq: u64) -> bool {
        match self.segments.newest() {
            Some(open) if open.stream == stream && seq >= open.start => seq < self.frontier,
            _ => self.segments.of(stream, seq).is_some(),
        }
    }

    /// A packet of the forwarded stream will not leave, although its number was counted on: closes the hole.
    pub fn skip(&mut self, stream: StreamKey, seq: u64) -> Skip {
        let Some(index) = self.segments.of(stream, seq) else { return Skip::Closed };
        let segment = self.segments[index];
        let output = segment.output + (seq - segment.start);
        if self.departed.is_some_and(|departed| departed.get() > output) {
            return Skip::Hole;
        }
        if index + 1 == self.segments.len() {
            self.frontier = self.frontier.max(seq);
        }
        for later in index + 1..self.segments.len() {
            self.segments[later].output -= 1;
        }
        let before = Segment { end: seq, ..segment };
        let behind = Segment { start: seq + 1, output, ..segment };
        // An empty half is left out, but for the open one: what comes next belongs to it.
        if before.start == before.end {
            self.segments[index] = behind;
        } else {
            self.segments[index] = before;
            if behind.start < behind.end {
                self.segments.insert(index + 1, behind);
            }
        }
        Skip::Closed
    }

    /// Takes back every number behind the highest that departed: what was admitted with them must not leave.
    pub fn abandon(&mut self) {
        let next = self.next_departure();
        let present = self.segments.newest().map(|segment| segment.stream);
        while self.segments.pop_if(|segment| segment.output >= next).is_some() {}
        if self.segments.newest().map(|segment| segment.stream) != present {
            // It was about the timestamps of a stream that the receiver has seen nothing of.
            self.alignment = Alignment::Settled;
        }
        if let Some(last) = self.segments.newest_mut() {
            last.end = last.end.min(last.start + (next - last.output));
            self.frontier = last.end - 1;
        }
        self.admitted = self.frontier;
        self.tail = None;
    }

    /// Whether an admitted packet comes behind all others that leave.
    pub fn leads(&self, stream: StreamKey, seq: u64) -> bool {
        self.segments.newest().is_some_and(|open| open.stream == stream) && seq >= self.frontier
    }

    /// Whether this packet has a number.
    pub fn numbers(&self, stream: StreamKey, seq: u64) -> bool {
        self.segments.of(stream, seq).is_some()
    }

    /// The number of a packet that leaves now, `None` where it has none (any more).
    #[inline]
    pub fn number(&mut self, stream: StreamKey, seq: u64) -> Option<Numbered> {
        let segment = self.segments.find(stream, seq)?;
        let numbered = Numbered { seq: segment.output + (seq - segment.start), offsets: segment.offsets };
        self.departed = self.departed.max(NonZeroU64::new(numbered.seq));
        Some(numbered)
    }

    /// The stream forwarded now or last, and what is added to the timestamps of its next frame.
    pub fn current(&self) -> Option<(StreamKey, u32)> {
        let open = self.segments.newest()?;
        let offset = match self.alignment {
            Alignment::Due { offset } => offset,
            Alignment::Settled | Alignment::Guessed { .. } => open.offsets.time,
        };
        Some((open.stream, offset))
    }

    /// Ends a stream, the present one, with its last admitted packet: nobody waits for what is missing behind
    /// it. Returns the next output number.
    fn end(&mut self, stream: StreamKey) -> u64 {
        let end = self.admitted + 1;
        let mut next = self.next_departure();
        while let Some(last) = self.segments.pop_if(|last| last.stream == stream && last.start >= end) {
            next = last.output;
        }
        if let Some(last) = self.segments.newest_mut() {
            if last.stream == stream {
                last.end = last.end.min(end);
            }
            next = last.output + (last.end - last.start);
        }
        next
    }

    /// One behind the highest number that departed.
    fn next_departure(&self) -> u64 {
        self.departed.map_or(self.first, |departed| departed.get() + 1)
    }

    /// A packet behind all others of the open segment.
    #[inline]
    fn go_on(&mut self, facts: &PacketFacts) {
        if let Some(tail) = &mut self.tail
            && tail.continues_in(facts)
        {
            // Nothing that the packet before did not bring.
            (self.frontier, tail.ended) = (facts.seq, facts.marker);
            return;
        }
        let frame_start = facts.vp8.is_some_and(|vp8| vp8.frame_start());
        if let (true, Some(tail), Some(picture)) =
            (frame_start, self.tail, facts.vp8.and_then(|vp8| vp8.picture_id))
            && tail.left_out
            && facts.seq > self.frontier + 1
            && follows(picture, tail.picture)
        {
            // The rest of the frame that was left out.
            self.close(self.frontier + 1, facts.seq);
        }
        if let (true, Alignment::Due { offset }) = (frame_start, self.alignment)
            && facts.seq == self.frontier + 1
        {
            // No frame before is yet to come with the offset until now.
            self.correct_time(facts, offset);
        }
        self.frontier = facts.seq;
        self.tail = tail(facts, false);
        if let Some(open) = self.segments.newest() {
            let offsets = open.offsets;
            self.note(facts, offsets);
        }
    }

    /// From this frame on the timestamps get a better offset, as far as they stay in order.
    #[cold]
    fn correct_time(&mut self, facts: &PacketFacts, offset: u32) {
        self.alignment = Alignment::Settled;
        let Some(open) = self.segments.newest_mut() else { return };
        let time = facts.time.wrapping_add(offset);
        let offset = match self.last.time {
            Some((last, _)) if !is_later(time, last) => last.wrapping_add(1).wrapping_sub(facts.time),
            _ => offset,
        };
        let offsets = Offsets { time: offset, ..open.offsets };
        if open.start == facts.seq {
            open.offsets = offsets;
            return;
        }
        open.end = facts.seq;
        let output = open.output + (facts.seq - open.start);
        let stream = open.stream;
        self.segments.push(Segment { stream, start: facts.seq, end: u64::MAX, output, offsets });
    }

    /// The numbers `from..to` of the open segment, behind its frontier, are not used: the next is `to`.
    fn close(&mut self, from: u64, to: u64) {
        let Some(open) = self.segments.newest_mut() else { return };
        self.frontier = to - 1;
        if open.start == from {
            open.start = to;
            return;
        }
        open.end = from;
        let behind = Segment { start: to, end: u64::MAX, output: open.output + (from - open.start), ..*open };
        self.segments.push(behind);
    }

    /// How a stream continues the one before it.
    fn continued(
        &mut self,
        before: &Segment,
        stream: StreamKey,
        facts: &PacketFacts,
        aligned: Option<u32>,
    ) -> Offsets {
        let time = if before.stream == stream {
            // Its clock ran on while it was paused, and so it does for the receiver.
            before.offsets.time
        } else {
            let time = self.continued_time(before, facts, aligned);
            time.wrapping_sub(facts.time)
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
    /// to the time gone by, else the time gone by; always later than the last one. What this is short of the
    /// sender's clocks is made up for later.
    fn continued_time(&mut self, before: &Segment, facts: &PacketFacts, aligned: Option<u32>) -> u32 {
        self.alignment = Alignment::Settled;
        let Some((last, arrival)) = self.last.time else { return facts.time };
        let rate = facts.codec.clock_rate();
        let elapsed = ticks(facts.arrival.saturating_duration_since(arrival), rate) as u32;
        let guess = last.wrapping_add(elapsed.max(1));
        let Some(aligned) = aligned.map(|time| time.wrapping_add(before.offsets.time)) else {
            let Segment { stream, offsets, .. } = *before;
            self.alignment = Alignment::Guessed { before: stream, offset: offsets.time, time: facts.time };
            return guess;
        };
        let error = (aligned.wrapping_sub(guess) as i32).unsigned_abs();
        if error >= rate * MAX_CLOCK_ERROR_SECONDS {
            return guess;
        }
        if is_later(aligned, last) {
            return aligned;
        }
        // The key frame shows a moment that the receiver has seen already.
        self.alignment = Alignment::Due { offset: aligned.wrapping_sub(facts.time) };
        last.wrapping_add(1)
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
}

impl Tail {
    /// Whether a packet is of the same frame, which is forwarded.
    #[inline]
    fn continues_in(&self, facts: &PacketFacts) -> bool {
        let same = |picture| picture == self.picture && facts.time == self.time;
        !self.left_out && facts.vp8.and_then(|vp8| vp8.picture_id).is_some_and(same)
    }
}

/// The frame of a packet that none of its stream is behind yet.
fn tail(facts: &PacketFacts, left_out: bool) -> Option<Tail> {
    let picture = facts.vp8?.picture_id?;
    Some(Tail { picture, time: facts.time, ended: facts.marker, left_out })
}

/// Whether a frame is the one behind another, by their picture ids.
fn follows(picture: PictureId, before: PictureId) -> bool {
    picture.value().wrapping_sub(before.value()) & picture.mask() == 1
}

/// Whether a timestamp is later than another, modulo 2^32.
fn is_later(time: u32, than: u32) -> bool {
    (time.wrapping_sub(than) as i32) > 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::forward::segments::MAX_SEGMENTS;
    use crate::testing::origin;
    use crate::track::testing::facts;

    const A: StreamKey = StreamKey::new(0, 0);
    const B: StreamKey = StreamKey::new(1, 0);
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
        let start = origin();
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
    fn a_guess_is_corrected_once_the_reports_tell_and_only_forwards() {
        let start = origin();
        // The guess is 19,000. As the reports say, the second frame (3,000 ticks later) is at:
        for (translated, second) in
            [(18_100, 21_100), (20_000, 23_000), (15_000, 19_001), (9_000_000, 22_000)]
        {
            let mut rewriter = Rewriter::new(0);
            rewriter.begin(A, &PacketFacts { arrival: start, ..facts(1, 10_000) }, None);
            let arrival = start + Duration::from_millis(100);
            rewriter.begin(B, &PacketFacts { arrival, ..facts(70, 500) }, None);
            assert_eq!(rewriter.unaligned(), Some((500, B, A)));
            rewriter.align(translated, 90_000);
            assert_eq!(rewriter.unaligned(), None);
            let frame = |seq, time| PacketFacts { time, ..picture(seq, 1, 1) };
            rewriter.admit(B, &frame(71, 3500));
            rewriter.admit(B, &frame(73, 9500));
            let time = |rewriter: &mut Rewriter, seq, time: u32| {
                let numbered = rewriter.number(B, seq).unwrap();
                (numbered.seq, time.wrapping_add(numbered.offsets.time))
            };
            let first = (1 << 16) + 1;
            assert_eq!(time(&mut rewriter, 70, 500), (first, 19_000), "what was said stays");
            assert_eq!(time(&mut rewriter, 71, 3500), (first + 1, second));
            assert!(rewriter.awaits(B, 72));
        }
    }

    #[test]
    fn an_abandoned_stream_does_not_shift_the_timestamps_of_the_one_before() {
        // Due at once, or guessed and due once the reports tell.
        for aligned in [Some(9_000), None] {
            let mut rewriter = Rewriter::new(0);
            rewriter.begin(A, &PacketFacts { time: 10_000, ..picture(100, 1, 1) }, None);
            assert!(rewriter.number(A, 100).is_some());
            rewriter.begin(B, &PacketFacts { time: 500, ..picture(7000, 1, 1) }, aligned);
            rewriter.abandon();
            assert_eq!(rewriter.unaligned(), None);
            rewriter.begin(A, &PacketFacts { time: 20_000, ..picture(200, 2, 1) }, None);
            assert!(rewriter.admit(A, &PacketFacts { time: 23_000, ..picture(201, 3, 1) }));
            for seq in [200, 201] {
                assert_eq!(rewriter.number(A, seq).unwrap().offsets.time, 0, "{aligned:?} {seq}");
            }
        }
    }

    #[test]
    fn a_frame_left_out_leaves_no_hole_in_numbers_and_picture_ids() {
        // packets that arrive (number, picture, whether it is its frame's last), those of picture 8 are left out
        for (name, arrive, expected) in [
            (
                "all of it",
                vec![(1, 7, true), (2, 8, false), (3, 8, true), (4, 9, true)],
                vec![(1, Some(0)), (2, None), (3, None), (4, Some(1))],
            ),
            (
                "its begin is lost",
                vec![(1, 7, true), (3, 8, true), (4, 9, true)],
                vec![(2, None), (3, None), (4, Some(1))],
            ),
            (
                "its end is lost",
                vec![(1, 7, true), (2, 8, false), (4, 9, true)],
                vec![(2, None), (3, None), (4, Some(1))],
            ),
            (
                "the end of the one before is lost",
                vec![(1, 7, false), (3, 8, true), (4, 9, true)],
                vec![(2, Some(1)), (3, None), (4, Some(2))],
            ),
        ] {
            let mut rewriter = Rewriter::new(500);
            for &(seq, id, last) in &arrive {
                let facts = PacketFacts { marker: last, ..picture(seq, id, 0) };
                match id {
                    8 => assert_eq!(rewriter.leave_out(A, &facts), Skip::Closed),
                    7 => rewriter.begin(A, &facts, None),
                    _ => assert!(rewriter.admit(A, &facts)),
                }
            }
            for (seq, output) in expected {
                assert_eq!(outputs(&mut rewriter, A, &[seq]), [output], "{name}: {seq}");
            }
            assert_eq!(rewriter.number(A, 4).unwrap().offsets.picture, u16::MAX, "{name}: 9 becomes 8");
        }
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
