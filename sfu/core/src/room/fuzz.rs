//! Arbitrary packets into a small room: nothing panics, and what leaves is well-formed.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::{Merge, PacketKind, ParticipantKey, Room, RoomConfig};
use crate::rtp::packet::RtpView;
use crate::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, Mid, ReceiveParams, Rid, SendParams, Ssrc,
};
use crate::rtp::rtcp;
use crate::testing::origin;
use crate::units::{MediaKind, Source, TrackId, TransportId};

/// Reads `data` as packets, each behind a byte that says whose and what it is (bit 0: the receiver's, bit 1:
/// RTCP) and how sound is packed (bits 2 and 3: how many as one, bit 4: repeated), a byte of milliseconds that pass
/// before it, and a byte of length.
pub fn fuzz(data: &[u8]) {
    let mut now = origin();
    let (mut room, sender, receiver) = lesson(now);
    let mut rest = data;
    while let Some((&[what, wait, len], behind)) = rest.split_first_chunk() {
        let (packet, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        now += Duration::from_millis(u64::from(wait));
        let merge = [Merge::None, Merge::Two, Merge::Three, Merge::None][usize::from(what >> 2 & 3)];
        room.set_merge(now, receiver, merge);
        room.set_redundant(now, receiver, what & 16 != 0);
        let from = if what & 1 == 0 { sender } else { receiver };
        if what & 2 == 0 {
            let _ = room.handle_rtp(now, from, packet);
        } else {
            room.handle_rtcp(now, from, packet);
        }
        room.handle_timeout(now);
        drain(&mut room, now);
    }
}

fn drain(room: &mut Room, now: Instant) {
    let mut out = [0; 1500];
    while let Some(outgoing) = room.poll_packet(now, None, &mut out) {
        let bytes = &out[..outgoing.len];
        match outgoing.kind {
            PacketKind::Rtp => assert!(RtpView::parse(bytes).is_ok()),
            PacketKind::Rtcp => assert!(rtcp::packets(bytes).all(|packet| packet.is_ok())),
        }
    }
    while room.poll_event().is_some() {}
}

/// Sound on the SSRC 1, simulcast video by name, and somebody who receives both as 11 and 12 (repaired: 13).
fn lesson(now: Instant) -> (Room, ParticipantKey, ParticipantKey) {
    let mut extensions = ExtensionMap::default();
    for (id, extension) in (1..).zip(Extension::ALL) {
        extensions.insert(id, extension);
    }
    let opus =
        CodecParams { codec: Codec::Opus, pt: 111, rtx_pt: None, red_pt: Some(63), nack: true, pli: false };
    let vp8 =
        CodecParams { codec: Codec::Vp8, pt: 96, rtx_pt: Some(97), red_pt: None, nack: true, pli: true };
    let named = |rid| EncodingParams { rid: Rid::new(rid), ..EncodingParams::default() };
    let sound = EncodingParams { ssrc: Some(Ssrc(1)), ..EncodingParams::default() };
    let mid = |name| Mid::new(name).expect("it is short and not empty");

    let mut room = Room::new(RoomConfig::default());
    let mut join = |id| room.add_participant(now, TransportId(id)).expect("there is room for two");
    let (sender, receiver) = (join(1), join(2));
    for (track, kind, codec, encodings) in [
        (1, MediaKind::Audio, opus, ArrayVec::from_iter([sound])),
        (2, MediaKind::Video, vp8, ArrayVec::from_iter([named("q"), named("h")])),
    ] {
        let (id, codecs) = (TrackId(track), ArrayVec::from_iter([codec]));
        let source = if kind == MediaKind::Audio { Source::Microphone } else { Source::Camera };
        let params = ReceiveParams {
            mid: mid("0"),
            kind,
            codecs: codecs.clone(),
            extensions,
            encodings,
            encrypted: false,
        };
        let ssrc = Ssrc(10 + track as u32);
        let rtx_ssrc = codec.rtx_pt.map(|_| Ssrc(13));
        let send = SendParams { mid: mid("1"), kind, codecs, extensions, ssrc, rtx_ssrc };
        room.publish(now, sender, id, source, params).expect("it is new");
        room.subscribe(now, receiver, id, send).expect("it is there");
    }
    (room, sender, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn random_packets_are_survived() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let mut data = Vec::new();
            let merge = random.below(8) as u8;
            for _ in 0..40 {
                let rtcp = random.below(3) == 0;
                let who = random.below(4) == 0;
                let mut packet: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
                // Likely headers, or little would get past the parsers.
                let likely: &[u8] = if rtcp {
                    &[0x81, [200, 201, 205, 206][random.below(4) as usize], 0, 7]
                } else {
                    &[0x80, [111, 96, 97, 224, 63][random.below(5) as usize], 0, random.below(8) as u8]
                };
                packet.splice(..likely.len().min(packet.len()), likely.iter().copied());
                if packet.len() > 12 {
                    packet[8..12].copy_from_slice(&(random.below(14) as u32).to_be_bytes());
                }
                data.extend([
                    u8::from(who) | u8::from(rtcp) << 1 | merge << 2,
                    random.below(40) as u8,
                    packet.len() as u8,
                ]);
                data.extend(packet);
            }
            fuzz(&data);
        }
    }
}
