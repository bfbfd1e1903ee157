//! Synthetic sound: RTP packets that look like Opus at 20 ms a packet (RFC 7587), with random bytes for speech.

use std::time::Duration;

use bytes::Bytes;
use rtc::rtp::{Packet, header::Header};

use crate::seed::Random;

/// Time between packets, and what each of them lasts.
pub const PACKET_INTERVAL: Duration = Duration::from_millis(20);

/// Ticks of the 48 kHz RTP clock in a packet (RFC 7587 §4.1: always 48 kHz).
pub const TICKS_PER_PACKET: u32 = 960;

/// One microphone.
#[derive(Debug)]
pub struct OpusSource {
    random: Random,
    payload_len: usize,
    next: Header,
}

impl OpusSource {
    /// A source of `kbps` kbit/s of Opus, packet headers not counted. Numbers start at random values, as
    /// RFC 3550 §5.1 wants it; `seed` makes them repeatable.
    pub fn new(ssrc: u32, payload_type: u8, kbps: u32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let bytes = u64::from(kbps) * 1000 / 8 * PACKET_INTERVAL.as_millis() as u64 / 1000;
        Self {
            payload_len: (bytes as usize).clamp(MIN_PAYLOAD, MAX_PAYLOAD),
            next: Header {
                version: 2,
                marker: true,
                payload_type,
                sequence_number: random.bits() as u16,
                timestamp: random.bits() as u32,
                ssrc,
                ..Header::default()
            },
            random,
        }
    }

    /// The next packet.
    pub fn packet(&mut self) -> Packet {
        let mut payload = vec![0; self.payload_len];
        self.random.fill(&mut payload[1..]);
        payload[0] = TOC;
        let packet = Packet { header: self.next.clone(), payload: Bytes::from(payload) };
        self.next.marker = false;
        self.next.sequence_number = self.next.sequence_number.wrapping_add(1);
        self.next.timestamp = self.next.timestamp.wrapping_add(TICKS_PER_PACKET);
        packet
    }

    /// Lets the time of one packet pass in silence. Numbers stay, the timestamp goes on, and the next packet
    /// starts a talkspurt (RFC 3551 §4.1).
    pub fn skip(&mut self) {
        self.next.marker = true;
        self.next.timestamp = self.next.timestamp.wrapping_add(TICKS_PER_PACKET);
    }
}

/// RFC 6716 §3.1: configuration 31 (CELT, fullband, 20 ms), mono, one frame.
const TOC: u8 = 31 << 3;

/// The table of contents and something to hear.
const MIN_PAYLOAD: usize = 3;

/// RFC 6716 §3.4: the longest frame.
const MAX_PAYLOAD: usize = 1275;

#[cfg(test)]
mod tests {
    use rtc::shared::marshal::{Marshal, Unmarshal};

    use super::*;

    #[test]
    fn packets_are_rtp_with_opus_of_twenty_milliseconds() {
        let mut source = OpusSource::new(7, 111, 32, 1);
        let wire = source.packet().marshal().unwrap();
        let packet = Packet::unmarshal(&mut wire.clone()).unwrap();
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (7, 111));
        assert_eq!(packet.payload.len(), 80, "32 kbit/s at 50 packets/s");
        assert_eq!(packet.payload[0] >> 3, 31);
        assert_eq!(packet.payload[0] & 0b111, 0, "mono, one frame");
    }

    #[test]
    fn numbers_go_up_by_one_and_time_by_twenty_milliseconds() {
        let mut source = OpusSource::new(7, 111, 32, 1);
        // Longer than the sequence numbers' circle.
        let mut last = source.packet().header;
        for _ in 0..70_000 {
            let header = source.packet().header;
            assert_eq!(header.sequence_number, last.sequence_number.wrapping_add(1));
            assert_eq!(header.timestamp, last.timestamp.wrapping_add(960));
            assert!(!header.marker, "only the first packet of a talkspurt is marked");
            last = header;
        }
    }

    #[test]
    fn silence_costs_time_but_no_numbers() {
        let mut source = OpusSource::new(7, 111, 32, 1);
        let before = source.packet().header;
        source.skip();
        source.skip();
        let after = source.packet().header;
        assert!(after.marker);
        assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1));
        assert_eq!(after.timestamp, before.timestamp.wrapping_add(3 * 960));
    }
}
