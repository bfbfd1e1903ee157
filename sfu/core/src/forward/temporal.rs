//! Which frames of a stream a receiver gets: all up to a temporal layer. Fewer from the next frame on, more only
//! where decoding can step up (RFC 7741 §4.2, Y).

use crate::track::packet_cache::PacketFacts;

/// The temporal layers of one forwarded stream.
#[derive(Clone, Debug)]
pub struct Temporal {
    /// The highest layer that is forwarded, and the highest that is wanted.
    present: u8,
    wanted: u8,
    /// Timestamp of the frame that arrives, and whether it is forwarded: a frame goes as a whole.
    frame: Option<(u32, bool)>,
    /// Timestamps of the last frames that were not, and the place of the next: a ring. Apart, as few packets ask
    /// for it.
    left_out: Box<[Option<u32>; LEFT_OUT]>,
    next: u8,
}

/// Half a second of left-out frames: later, nobody waits for the rest of one.
const LEFT_OUT: usize = 16;

impl Temporal {
    /// For a stream that begins at a key frame.
    pub fn new(wanted: u8) -> Self {
        Self { present: wanted, wanted, frame: None, left_out: Box::new([None; LEFT_OUT]), next: 0 }
    }

    /// The same for another stream.
    pub fn begin(&mut self, wanted: u8) {
        (self.present, self.wanted, self.frame, self.next) = (wanted, wanted, None, 0);
        self.left_out.fill(None);
    }

    /// From the next frame on no layer above this is wanted, and each below.
    pub fn aim(&mut self, wanted: u8) {
        self.wanted = wanted;
    }

    /// Whether a packet that none overtook is forwarded.
    #[inline]
    pub fn admits(&mut self, facts: &PacketFacts) -> bool {
        let Some(layer) = facts.vp8.and_then(|vp8| vp8.temporal) else { return true };
        if let Some((time, admitted)) = self.frame
            && time == facts.time
        {
            return admitted;
        }
        // One step at a time: a frame that refers to the base layer alone says nothing of the layers between.
        let step = layer.layer_sync && layer.tid == self.present + 1 && layer.tid <= self.wanted;
        if facts.starts_decoding || self.wanted < self.present {
            self.present = self.wanted;
        } else if step {
            self.present = layer.tid;
        }
        let admitted = layer.tid <= self.present;
        self.frame = Some((facts.time, admitted));
        if !admitted {
            self.left_out[usize::from(self.next) % LEFT_OUT] = Some(facts.time);
            self.next = self.next.wrapping_add(1);
        }
        admitted
    }

    /// Whether the frame of a packet that was overtaken has been left out.
    pub fn has_left_out(&self, facts: &PacketFacts) -> bool {
        self.left_out.contains(&Some(facts.time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::vp8::Vp8Descriptor;
    use crate::track::testing::facts;

    /// A packet of a frame: timestamp, temporal layer, whether it refers to the base layer only.
    fn packet(time: u32, tid: u8, sync: bool) -> PacketFacts {
        let vp8 = Vp8Descriptor::parse(&[0x90, 0x20, tid << 6 | u8::from(sync) << 5, 1]).unwrap();
        PacketFacts { vp8: Some(vp8), starts_decoding: false, ..facts(u64::from(time), time) }
    }

    #[test]
    fn fewer_layers_from_the_next_frame_and_more_only_where_decoding_can_step_up() {
        let mut temporal = Temporal::new(2);
        // wanted, timestamp, layer, sync, admitted
        for (wanted, time, tid, sync, admitted) in [
            (2, 0, 0, false, true),
            (2, 1, 2, true, true),
            (0, 1, 2, true, true), // the rest of a frame that has begun
            (0, 2, 1, true, false),
            (0, 3, 2, false, false),
            (2, 3, 2, true, false), // the rest of one that was left out
            (2, 4, 0, false, true),
            (2, 5, 2, true, false), // not before the layer below it
            (2, 6, 1, false, false),
            (2, 7, 1, true, true),
            (2, 8, 2, false, false),
            (2, 9, 2, true, true),
            (1, 10, 2, false, false),
        ] {
            temporal.aim(wanted);
            assert_eq!(temporal.admits(&packet(time, tid, sync)), admitted, "{time}");
        }
    }

    #[test]
    fn a_key_frame_is_a_step_up_to_all_layers_and_frames_without_layers_always_go() {
        let mut temporal = Temporal::new(0);
        temporal.aim(2);
        assert!(!temporal.admits(&packet(0, 2, false)));
        assert!(temporal.admits(&PacketFacts { starts_decoding: true, ..packet(1, 0, false) }));
        assert!(temporal.admits(&packet(2, 2, false)));
        temporal.aim(0);
        assert!(temporal.admits(&facts(3, 3)));
    }

    #[test]
    fn the_rest_of_a_frame_that_was_left_out_is_known() {
        let mut temporal = Temporal::new(0);
        for time in 0..40 {
            temporal.admits(&packet(time, if time % 2 == 0 { 0 } else { 2 }, false));
        }
        for (time, left_out) in [(39, true), (38, false), (37, true), (9, true), (7, false)] {
            assert_eq!(temporal.has_left_out(&packet(time, 2, false)), left_out, "{time}");
        }
    }
}
