//! Measures links: a probe is packets of nothing but padding, among the retransmissions of a picture, which leave
//! at the rate that is asked about. They need nothing that was sent before, so a link that has nothing left for any
//! picture is measured as well.

use std::time::{Duration, Instant};

use super::budget::view;
use super::link::{Own, Queued, WIRE_OVERHEAD};
use super::room::{ParticipantKey, Room};
use super::subscription::DownKey;
use crate::cc::pacer::Priority;
use crate::units::Bitrate;

/// A probe that is leaving: the pacer lets it out at its own rate, for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    pub(super) rate: Bitrate,
    pub(super) until: Instant,
}

/// What has not left in this time is left out.
const TIME: Duration = Duration::from_millis(150);

/// A probe of 3 Mbit/s in full packets.
const MAX_PACKETS: usize = 64;

impl Room {
    /// Asks the link to a participant whether the next step fits, if it is time to.
    pub(super) fn probe(&mut self, now: Instant, to: ParticipantKey) {
        let Some((down, bare)) = self.padded(to) else { return };
        let at = self.clock.at(now).millis;
        let Some(participant) = self.participants.get_mut(to) else { return };
        let link = &mut participant.link;
        let (Some(control), Some(lesson)) = (&mut link.control, &mut link.lesson) else { return };
        // What waits would be in its way, or it in theirs.
        if link.pacer.len_of(Priority::Video) + link.pacer.len_of(Priority::Slides) > 0 {
            return;
        }
        let (need, acked) = (lesson.allocator.next_need(), control.monitor().acked());
        let view = view(control, link.pacer.overdue(at));
        let Some(probe) = lesson.prober.poll(now, need, acked, &view) else { return };
        let (bytes, on_wire) = (probe.bytes as usize, bare + WIRE_OVERHEAD);
        let fullest = on_wire + usize::from(u8::MAX);
        let packets = bytes.div_ceil(fullest).clamp(probe.packets.into(), MAX_PACKETS);
        let padding = bytes.div_ceil(packets).saturating_sub(on_wire).clamp(1, u8::MAX.into()) as u8;
        control.begin_probe(&probe);
        link.probing = Some(Probing { rate: probe.rate, until: now + TIME });
        for _ in 0..packets {
            let item = Queued::Own { down, packet: Own::padding(padding) };
            self.queue(now, to, Priority::Probe, bare + usize::from(padding), item);
        }
        self.participants[to].link.follow(now);
    }

    /// A picture that a participant subscribed to and whose retransmissions padding can be among, and the length of a
    /// packet without any.
    fn padded(&self, to: ParticipantKey) -> Option<(DownKey, usize)> {
        let subscriptions = &self.participants.get(to)?.subscriptions;
        subscriptions.iter().find_map(|&key| Some((key, self.downs.get(key)?.down.padding_len(0)?)))
    }
}
