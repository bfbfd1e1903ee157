//! One voice in a room of its own: what sound costs, however it is packed.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_core::room::{PacketKind, Packing, ParticipantKey, Room, RoomConfig};
use sfu_core::rtp::packet::{Header, HeaderWriter, RtpMut};
use sfu_core::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, Mid, ReceiveParams, SendParams, Ssrc,
};
use sfu_core::sim::clock;
use sfu_core::units::{MediaKind, Source, TrackId, TransportId};

/// A 20 ms frame of speech at 24 kbit/s, its table of contents in front.
const PAYLOAD_LEN: usize = 60;

/// A teacher who speaks, and those who hear.
pub struct Talk {
    room: Room,
    teacher: ParticipantKey,
    now: Instant,
    packet: Vec<u8>,
    spoken: u32,
}

impl Talk {
    /// With so many receivers, to whom sound is packed so.
    ///
    /// # Panics
    /// Where a room has no place for them.
    pub fn new(receivers: u64, packing: Packing) -> Self {
        let now = clock::origin();
        let mut room = Room::new(RoomConfig { packing, ..RoomConfig::default() });
        let mut join = |id| {
            let key = room.add_participant(now, TransportId(id)).expect("the room has a place");
            room.set_reachable(now, key);
            key
        };
        let teacher = join(0);
        let pupils: Vec<_> = (1..=receivers).map(join).collect();
        let mut extensions = ExtensionMap::default();
        extensions.insert(1, Extension::AudioLevel);
        extensions.insert(3, Extension::TransportCc);
        let opus = CodecParams {
            codec: Codec::Opus,
            pt: 111,
            rtx_pt: None,
            red_pt: Some(63),
            nack: true,
            pli: false,
        };
        let codecs = ArrayVec::from_iter([opus]);
        let (mid, kind, track) = (Mid::new("0").expect("it is short"), MediaKind::Audio, TrackId(1));
        let encodings =
            ArrayVec::from_iter([EncodingParams { ssrc: Some(Ssrc(1)), ..EncodingParams::default() }]);
        let params =
            ReceiveParams { mid, kind, codecs: codecs.clone(), extensions, encodings, encrypted: false };
        room.publish(now, teacher, track, Source::Microphone, params).expect("it is new");
        for (ssrc, &pupil) in (100..).map(Ssrc).zip(&pupils) {
            let codecs = codecs.clone();
            let params = SendParams { mid, kind, codecs, extensions, ssrc, rtx_ssrc: None };
            room.subscribe(now, pupil, track, params).expect("it is there");
        }
        Self { room, teacher, now, packet: packet(), spoken: 0 }
    }

    /// Says 20 ms. Returns the bytes that leave.
    ///
    /// # Panics
    /// Where the room does not take what is said.
    pub fn say(&mut self) -> usize {
        self.spoken += 1;
        self.now += Duration::from_millis(20);
        let mut header = RtpMut::new(&mut self.packet).expect("it is a packet");
        header.set_seq(self.spoken as u16);
        header.set_timestamp(self.spoken.wrapping_mul(960));
        self.room.handle_timeout(self.now);
        self.room.handle_rtp(self.now, self.teacher, &self.packet).expect("it is new");
        let (mut out, mut bytes) = ([0; 1500], 0);
        while let Some(outgoing) = self.room.poll_packet(self.now, None, &mut out) {
            bytes += if outgoing.kind == PacketKind::Rtp { outgoing.len } else { 0 };
        }
        bytes
    }
}

fn packet() -> Vec<u8> {
    let mut packet = vec![0; 200];
    let header = Header { marker: false, pt: 111, seq: 0, timestamp: 0, ssrc: Ssrc(1) };
    let mut writer = HeaderWriter::new(&mut packet, &header).expect("200 bytes hold a header");
    writer.extension(1, &[0x80 | 30]);
    writer.extension(3, &[0, 0]);
    let start = writer.finish();
    packet.truncate(start + PAYLOAD_LEN);
    packet[start] = 0x78;
    packet
}

#[cfg(test)]
mod tests {
    use sfu_core::room::Merge;

    use super::*;

    #[test]
    fn what_is_merged_takes_fewer_bytes_and_what_is_repeated_more() {
        let bytes = |packing| {
            let mut talk = Talk::new(2, packing);
            (0..60).map(|_| talk.say()).sum::<usize>()
        };
        let plain = bytes(Packing::default());
        // 40 packets less to each, with 24 bytes of header.
        assert!(bytes(Packing { merge: Merge::Three, redundant: false }) < plain - 2 * 40 * 24);
        assert!(bytes(Packing { merge: Merge::None, redundant: true }) > plain * 3 / 2);
    }
}
