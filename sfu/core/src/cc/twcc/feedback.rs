//! Reads the statuses of received feedback.

use super::{ONE_BIT_SYMBOLS, TICK_MICROS, TICKS_PER_REFERENCE, TWO_BIT_SYMBOLS};
use crate::rtp::rtcp::TransportFeedback;

/// Most packets that one feedback may report on, however little it takes to claim more. At 250 ms that is
/// 300 Mbit/s.
const MAX_STATUSES: u16 = 8192;

/// Why a feedback cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FeedbackError {
    /// It reports on no packet, or on more than 8192.
    #[error("status count")]
    StatusCount,
    /// The chunks end before the last packet.
    #[error("status chunks cut")]
    Chunks,
    /// A packet has the reserved symbol 3.
    #[error("reserved symbol")]
    Symbol,
    /// The deltas end before the last packet that arrived.
    #[error("receive deltas cut")]
    Deltas,
}

/// Feedback whose chunks and deltas are all there.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackView<'a> {
    base_seq: u16,
    status_count: u16,
    reference_time: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> FeedbackView<'a> {
    /// Checks that the chunks cover the packets and the deltas those that arrived.
    pub fn parse(feedback: &TransportFeedback<'a>) -> Result<Self, FeedbackError> {
        let &TransportFeedback { base_seq, status_count, reference_time, statuses, .. } = feedback;
        if !(1..=MAX_STATUSES).contains(&status_count) {
            return Err(FeedbackError::StatusCount);
        }
        let (mut left, mut chunks_len, mut deltas_len) = (usize::from(status_count), 0, 0);
        while left > 0 {
            let chunk = statuses.get(chunks_len..).and_then(<[u8]>::first_chunk);
            let mut symbols = Symbols::new(u16::from_be_bytes(*chunk.ok_or(FeedbackError::Chunks)?));
            symbols.left = symbols.left.min(left);
            left -= symbols.left;
            chunks_len += 2;
            deltas_len += symbols.deltas_len().ok_or(FeedbackError::Symbol)?;
        }
        let (chunks, deltas) = statuses.split_at(chunks_len);
        let deltas = deltas.get(..deltas_len).ok_or(FeedbackError::Deltas)?;
        Ok(Self { base_seq, status_count, reference_time, chunks, deltas })
    }

    /// What happened to each packet, in the order of their numbers: at most 8192.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            seq: self.base_seq,
            left: self.status_count,
            time: RemoteTime(i64::from(self.reference_time) * TICKS_PER_REFERENCE as i64),
            symbols: Symbols { chunk: 0, left: 0 },
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }
}

/// What happened to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStatus {
    /// Its transport-wide sequence number.
    pub seq: u16,
    /// When it arrived, `None` where it did not (yet).
    pub arrival: Option<RemoteTime>,
}

/// A moment on the receiver's clock. The clock starts anew every 12 days (2^24 * 64 ms): only nearby moments can
/// be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTime(i64);

impl RemoteTime {
    /// Microseconds since its clock started, in steps of 250; slightly negative where a packet was overtaken.
    pub fn as_micros(self) -> i64 {
        self.0 * TICK_MICROS as i64
    }

    /// Microseconds since `earlier`, negative where that is later, across a restart of the clock.
    pub fn micros_since(self, earlier: Self) -> i64 {
        const CYCLE: i64 = (TICKS_PER_REFERENCE as i64) << 24;
        let ahead = (self.0 - earlier.0).rem_euclid(CYCLE);
        let ticks = if ahead >= CYCLE / 2 { ahead - CYCLE } else { ahead };
        ticks * TICK_MICROS as i64
    }
}

/// See [`FeedbackView::statuses`].
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    seq: u16,
    left: u16,
    time: RemoteTime,
    symbols: Symbols,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl Iterator for Statuses<'_> {
    type Item = PacketStatus;

    fn next(&mut self) -> Option<PacketStatus> {
        self.left = self.left.checked_sub(1)?;
        let symbol = loop {
            if let Some(symbol) = self.symbols.next() {
                break symbol;
            }
            let (&chunk, rest) = self.chunks.split_first_chunk()?;
            (self.symbols, self.chunks) = (Symbols::new(u16::from_be_bytes(chunk)), rest);
        };
        let (delta, rest) = match symbol {
            0 => (None, self.deltas),
            1 => self.deltas.split_first().map(|(&delta, rest)| (Some(i64::from(delta)), rest))?,
            _ => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                (Some(i64::from(i16::from_be_bytes(delta))), rest)
            }
        };
        self.deltas = rest;
        let arrival = delta.map(|delta| {
            self.time = RemoteTime(self.time.0 + delta);
            self.time
        });
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        Some(PacketStatus { seq, arrival })
    }
}

/// The symbols of one chunk that are left.
#[derive(Clone, Debug)]
struct Symbols {
    /// For lists, shifted so that the next symbol stands in front, behind the two bits that say what it is.
    chunk: u16,
    left: usize,
}

impl Symbols {
    fn new(chunk: u16) -> Self {
        let left = match chunk >> 14 {
            0b10 => ONE_BIT_SYMBOLS,
            0b11 => TWO_BIT_SYMBOLS,
            _ => usize::from(chunk & 0x1fff),
        };
        Self { chunk, left }
    }

    /// Bytes that the deltas of these symbols take; `None` where one is reserved.
    fn deltas_len(self) -> Option<usize> {
        // A run may be thousands long: not to be counted one by one.
        if self.chunk >> 15 == 0 {
            let symbol = usize::from(self.chunk >> 13);
            return (symbol < 3).then_some(symbol * self.left);
        }
        self.map(|symbol| (symbol < 3).then_some(usize::from(symbol))).sum()
    }
}

impl Iterator for Symbols {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let (kind, list) = (self.chunk & 0xc000, self.chunk & 0x3fff);
        let width = match kind {
            0x8000 => 1,
            0xc000 => 2,
            _ => return Some(self.chunk >> 13),
        };
        self.chunk = kind | list << width & 0x3fff;
        Some(list >> (14 - width))
    }
}

/// Reads `data` as the statuses of a feedback and expects: an iterator that yields what was checked.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    use crate::rtp::rtcp::{Rtcp, packets};

    for packet in packets(data).flatten() {
        let Rtcp::TransportFeedback(feedback) = packet else { continue };
        let Ok(view) = FeedbackView::parse(&feedback) else { continue };
        let statuses = view.statuses();
        assert_eq!(statuses.clone().count(), usize::from(feedback.status_count));
        for (place, status) in (0..).zip(statuses) {
            assert_eq!(status.seq, feedback.base_seq.wrapping_add(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::{Rtcp, Ssrc, packets};

    fn feedback(status_count: u16, statuses: &[u8]) -> TransportFeedback<'_> {
        TransportFeedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_seq: 65534,
            status_count,
            reference_time: 1,
            feedback_count: 0,
            statuses,
        }
    }

    fn micros(feedback: &TransportFeedback<'_>) -> Vec<(u16, Option<i64>)> {
        let view = FeedbackView::parse(feedback).unwrap();
        view.statuses().map(|status| (status.seq, status.arrival.map(RemoteTime::as_micros))).collect()
    }

    #[test]
    fn reads_feedback_captured_from_a_browser() {
        let wire = [
            0xaf, 0xcd, 0x00, 0x05, 0xfa, 0x17, 0xfa, 0x17, 0x43, 0x03, 0x2f, 0xa0, 0x00, 0x99, 0x00, 0x01,
            0x3d, 0xe8, 0x02, 0x17, 0x20, 0x01, 0x94, 0x01,
        ];
        let Some(Ok(Rtcp::TransportFeedback(feedback))) = packets(&wire).next() else { panic!("feedback") };
        assert_eq!((feedback.reference_time, feedback.feedback_count), (4_057_090, 23));
        assert_eq!(micros(&feedback), [(153, Some(4_057_090 * 64_000 + 37_000))]);
    }

    #[test]
    fn adds_deltas_up_across_chunks() {
        // Two small; small, lost, large; a run of two large, the first of them earlier than the one before.
        let statuses = [0x20, 0x02, 0xd2, 0x00, 0x40, 0x02, 4, 8, 1, 0x10, 0x00, 0xff, 0xfc, 0x00, 0x04];
        let expected = [
            (65534, Some(65_000)),
            (65535, Some(67_000)),
            (0, Some(67_250)),
            (1, None),
            (2, Some(1_091_250)),
            (3, None),
            (4, None),
            (5, None),
            (6, None),
            (7, Some(1_090_250)),
            (8, Some(1_091_250)),
        ];
        assert_eq!(micros(&feedback(11, &statuses)), expected);
    }

    #[test]
    fn refuses_what_it_could_not_finish() {
        let table: [(u16, &[u8], FeedbackError); 8] = [
            (0, &[0x20, 0x01, 0], FeedbackError::StatusCount),
            (8193, &[0x1f, 0xff, 0x1f, 0xff], FeedbackError::StatusCount),
            (1, &[0x20], FeedbackError::Chunks),
            (2, &[0x20, 0x01, 0], FeedbackError::Chunks),
            (1, &[0x60, 0x01], FeedbackError::Symbol),
            (1, &[0xf0, 0x00], FeedbackError::Symbol),
            (2, &[0x20, 0x02, 0], FeedbackError::Deltas),
            (1, &[0x40, 0x01, 0], FeedbackError::Deltas),
        ];
        for (count, statuses, error) in table {
            assert_eq!(
                FeedbackView::parse(&feedback(count, statuses)).unwrap_err(),
                error,
                "{statuses:02x?}"
            );
        }
        // A run may say more than the count: the rest has no deltas.
        assert_eq!(micros(&feedback(1, &[0x20, 0x09, 0])).len(), 1);
    }

    #[test]
    fn compares_moments_across_the_restart_of_the_clock() {
        let (early, late) = (RemoteTime(3), RemoteTime((256 << 24) - 1));
        assert_eq!(early.micros_since(late), 1000);
        assert_eq!(late.micros_since(early), -1000);
    }
}
