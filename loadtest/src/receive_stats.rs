//! What a receiver can tell of one track: counted from sequence numbers (RFC 3550 §6.4.1 and appendix A.1), with
//! late and repeated packets told apart.

use std::time::Duration;

use serde::Serialize;

use crate::ms;
use crate::vp8_source::Vp8Facts;

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Opus.
    Sound,
    /// VP8.
    Picture,
}

/// The parts of a packet that count.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The stream. A track that changes it starts its numbers anew.
    pub ssrc: u32,
    /// RTP sequence number.
    pub sequence_number: u16,
    /// RTP payload.
    pub payload: &'a [u8],
    /// Since the receiver began to join.
    pub at: Duration,
}

/// Counters of one received track.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiveStats {
    /// Sound or picture.
    pub kind: MediaKind,
    /// Different packets received, late ones included.
    pub packets: u64,
    /// Packets that their numbers say were sent, from the first to the highest received.
    pub expected: u64,
    /// Bytes of RTP payload.
    pub bytes: u64,
    /// Packets that came twice, or so late that nobody can tell.
    pub repeated: u64,
    /// Times that a packet's number was not the one after the highest so far. Late packets count too.
    pub discontinuities: u64,
    /// First packets of key frames.
    pub key_frames: u64,
    /// Times that the picture's number neither stayed nor went up by one.
    pub picture_id_jumps: u64,
    /// When the first packet came, since the receiver began to join. None: nothing came.
    #[serde(serialize_with = "ms::option::serialize", rename = "first_packet_ms")]
    pub first_packet: Option<Duration>,
    /// When the latest packet came, likewise.
    #[serde(serialize_with = "ms::option::serialize", rename = "last_packet_ms")]
    pub last_packet: Option<Duration>,
    #[serde(skip)]
    stream: Option<Stream>,
}

impl ReceiveStats {
    /// Nothing received yet.
    pub fn new(kind: MediaKind) -> Self {
        Self {
            kind,
            packets: 0,
            expected: 0,
            bytes: 0,
            repeated: 0,
            discontinuities: 0,
            key_frames: 0,
            picture_id_jumps: 0,
            first_packet: None,
            last_packet: None,
            stream: None,
        }
    }

    /// Counts a packet.
    pub fn arrived(&mut self, packet: Arrival<'_>) {
        let stream = match &mut self.stream {
            Some(stream) if stream.ssrc == packet.ssrc => stream,
            stream => stream.insert(Stream::new(packet.ssrc)),
        };
        match stream.place(packet.sequence_number) {
            Place::Next => self.expected += 1,
            Place::Ahead(missing) => {
                self.expected += 1 + missing;
                self.discontinuities += 1;
            }
            Place::Late => self.discontinuities += 1,
            Place::Repeated => {
                self.repeated += 1;
                return;
            }
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.first_packet.get_or_insert(packet.at);
        self.last_packet = Some(packet.at);
        if self.kind == MediaKind::Picture {
            self.picture(packet.payload);
        }
    }

    /// Packets that never came.
    pub fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.packets)
    }

    /// The share of packets that never came, 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.missing() as f64 / self.expected as f64 }
    }

    /// Mean bitrate of the payload between the first and the latest packet, kbit/s.
    pub fn kbps(&self) -> f64 {
        match (self.first_packet, self.last_packet) {
            (Some(first), Some(last)) if last > first => {
                self.bytes as f64 * 8.0 / 1000.0 / (last - first).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    fn picture(&mut self, payload: &[u8]) {
        let Some(facts) = Vp8Facts::of(payload) else { return };
        self.key_frames += u64::from(facts.key_frame_start);
        let Some(stream) = &mut self.stream else { return };
        if let Some(id) = facts.picture_id {
            // A late packet belongs to a picture that was counted: only steps ahead can be jumps.
            let step = stream.picture_id.map_or(0, |last| id.wrapping_sub(last) & 0x7FFF);
            if step < 0x4000 {
                self.picture_id_jumps += u64::from(step > 1);
                stream.picture_id = Some(id);
            }
        }
    }
}

/// Where a sequence number lies.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Right after the highest so far, or the first of all.
    Next,
    /// Higher still: so many are missing between.
    Ahead(u64),
    /// Below the highest, for the first time.
    Late,
    /// Seen before, or too old to tell.
    Repeated,
}

/// The numbers of one SSRC: the highest, and which of those below it came.
#[derive(Clone, Debug)]
struct Stream {
    ssrc: u32,
    /// None until the first packet was placed.
    highest: Option<u16>,
    /// One bit for each of the last [`WINDOW`] numbers, by number modulo the window.
    seen: Box<[u64; WINDOW / 64]>,
    picture_id: Option<u16>,
}

impl Stream {
    fn new(ssrc: u32) -> Self {
        // All marked: what was sent before the first packet that came was never expected, so it is no news.
        Self { ssrc, highest: None, seen: Box::new([u64::MAX; WINDOW / 64]), picture_id: None }
    }

    fn place(&mut self, number: u16) -> Place {
        let Some(highest) = self.highest else {
            self.highest = Some(number);
            return Place::Next;
        };
        let ahead = number.wrapping_sub(highest);
        if ahead != 0 && ahead < 0x8000 {
            for missing in 1..ahead.min(WINDOW as u16) {
                self.clear(number.wrapping_sub(missing));
            }
            self.highest = Some(number);
            self.mark(number);
            return if ahead == 1 { Place::Next } else { Place::Ahead(u64::from(ahead) - 1) };
        }
        let behind = highest.wrapping_sub(number);
        if usize::from(behind) >= WINDOW || self.marked(number) {
            return Place::Repeated;
        }
        self.mark(number);
        Place::Late
    }

    fn mark(&mut self, number: u16) {
        let (word, bit) = position(number);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, number: u16) {
        let (word, bit) = position(number);
        self.seen[word] &= !bit;
    }

    fn marked(&self, number: u16) -> bool {
        let (word, bit) = position(number);
        self.seen[word] & bit != 0
    }
}

fn position(number: u16) -> (usize, u64) {
    let slot = usize::from(number) % WINDOW;
    (slot / 64, 1 << (slot % 64))
}

/// How far back a late packet is recognised: several seconds of a busy picture.
const WINDOW: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: MediaKind, numbers: impl IntoIterator<Item = u16>) -> ReceiveStats {
        let mut stats = ReceiveStats::new(kind);
        for (index, sequence_number) in numbers.into_iter().enumerate() {
            let at = Duration::from_millis(20 * (index as u64 + 1));
            stats.arrived(Arrival { ssrc: 1, sequence_number, payload: &[0; 10], at });
        }
        stats
    }

    #[test]
    fn losses_lateness_and_repetition_are_told_apart() {
        // numbers, then packets, expected, repeated, discontinuities
        let table: [(&[u16], [u64; 4]); 8] = [
            (&[], [0, 0, 0, 0]),
            (&[5, 6, 7], [3, 3, 0, 0]),
            (&[65535, 0, 1], [3, 3, 0, 0]),
            (&[5, 8], [2, 4, 0, 1]),
            (&[5, 8, 6, 7], [4, 4, 0, 3]),
            (&[5, 6, 6, 6, 7], [3, 3, 2, 0]),
            (&[65534, 1, 65535, 1, 65535], [3, 4, 2, 2]),
            // Sent before the first that came: not expected, so not counted.
            (&[5, 4, 6], [2, 2, 1, 0]),
        ];
        for (numbers, expected) in table {
            let stats = run(MediaKind::Sound, numbers.iter().copied());
            let got = [stats.packets, stats.expected, stats.repeated, stats.discontinuities];
            assert_eq!(got, expected, "{numbers:?}");
        }
    }

    #[test]
    fn long_streams_wrap_and_a_gap_longer_than_the_window_forgets_what_was_seen() {
        let stats = run(MediaKind::Sound, (0..200_000_u32).map(|n| n as u16));
        assert_eq!((stats.packets, stats.missing(), stats.repeated), (200_000, 0, 0));
        let gap = WINDOW as u16 * 2;
        let stats = run(MediaKind::Sound, [0, 1, 2, gap, gap - WINDOW as u16 + 1]);
        assert_eq!((stats.packets, stats.repeated), (5, 0), "late by less than the window");
    }

    #[test]
    fn another_stream_of_the_track_starts_anew() {
        let mut stats = run(MediaKind::Sound, [100, 101]);
        let at = Duration::from_secs(1);
        stats.arrived(Arrival { ssrc: 2, sequence_number: 40_000, payload: &[], at });
        assert_eq!((stats.packets, stats.expected, stats.discontinuities), (3, 3, 0));
    }

    #[test]
    fn pictures_are_followed_across_the_wrap_of_their_numbers() {
        let mut stats = ReceiveStats::new(MediaKind::Picture);
        let ids = [0x7FFE, 0x7FFE, 0x7FFF, 0, 1, 4, 3, 5];
        for (index, id) in ids.into_iter().enumerate() {
            let [high, low] = (0x8000_u16 | id).to_be_bytes();
            let key_frame = index == 0;
            let payload = [0x90, 0x80, high, low, u8::from(!key_frame)];
            let sequence_number = index as u16;
            stats.arrived(Arrival { ssrc: 1, sequence_number, payload: &payload, at: Duration::ZERO });
        }
        assert_eq!((stats.key_frames, stats.picture_id_jumps), (1, 1), "only 1 -> 4 is a jump");
    }

    #[test]
    fn rates_need_two_packets() {
        assert_eq!(run(MediaKind::Sound, [1]).kbps(), 0.0);
        let stats = run(MediaKind::Sound, 0..51);
        assert!((stats.kbps() - 51.0 * 80.0 / 1000.0).abs() < 1e-9, "{}", stats.kbps());
        assert_eq!(run(MediaKind::Sound, [1, 5]).loss(), 0.6);
    }
}
