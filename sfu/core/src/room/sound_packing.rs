//! How sound is packed on a link: several packets as one where headers take too much of it, each said twice where much
//! is lost and there is room for that.
//!
//! Each change costs a listener a moment, as the time that packets wait jumps: what is done has to have had a reason for
//! a while, and is undone only when there has been none for longer.

use std::time::{Duration, Instant};

use crate::cc::lesson_allocator::LinkView;
use crate::forward::repacketiser::{Merge, Packing};
use crate::rtp::red;
use crate::units::Bitrate;

/// What there is to hear for a receiver, as it came in the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sound {
    /// All of it, bit/s on the wire.
    bps: u64,
    /// Packets a second of those that may leave as one.
    packets: u64,
    /// Bit/s of the payloads that may be said twice.
    repeatable: u64,
}

/// How the packets of a voice may be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packable {
    /// Not at all: they are encrypted end to end.
    AsTheyAre,
    /// Several as one.
    Merged,
    /// That, and each repeating the one before: the receiver agreed to it.
    Repeated,
}

/// What a packet takes besides its payload, bits: IPv4, UDP, RTP with its extensions, and the tag.
const BITS_AROUND: u64 = (20 + 8 + 12 + 16 + 16) * 8;

impl Sound {
    /// Another voice, of that rate on the wire in so many packets a second.
    pub(super) fn add(&mut self, rate: Bitrate, packets: u64, packable: Packable) {
        let bps = rate.as_bps();
        // What was counted may be of the second before.
        let packets = packets.min(bps / BITS_AROUND);
        self.bps += bps;
        if packable != Packable::AsTheyAre {
            self.packets += packets;
        }
        if packable == Packable::Repeated {
            self.repeatable += bps.saturating_sub(packets * BITS_AROUND);
        }
    }

    /// What it takes on the wire when it is packed so.
    pub(super) fn cost(&self, packing: Packing) -> Bitrate {
        let left = self.packets / packing.merge.packets() as u64;
        let merged = self.bps.saturating_sub((self.packets - left) * BITS_AROUND);
        let again = if packing.redundant { self.repeatable + left * RED_BITS } else { 0 };
        Bitrate::bps(merged + again)
    }
}

const RED_BITS: u64 = red::OVERHEAD as u64 * 8;

/// How the sound of one link is packed.
#[derive(Debug, Default)]
pub(super) struct SoundPacking {
    packing: Packing,
    /// Of what was sent, by the mean of the last few seconds, and when that was looked at.
    loss: f64,
    looked: Option<Instant>,
    /// Whether a lost packet is not rare, and whether much is lost.
    patchy: bool,
    lossy: bool,
    /// Since when there is reason to pack otherwise than now as far as the link's rate is concerned.
    changing: Option<Instant>,
}

/// Packets are merged below this, and where sound takes more than that percentage of what there is.
const THIN: Bitrate = Bitrate::kbps(150);
const MUCH_PERCENT: u64 = 35;
/// A tenth more than that is not thin any more.
const WIDE_PERCENT: u64 = 110;
/// It takes so long to see that a link is thin, and that it no longer is.
const THIN_FOR: Duration = Duration::from_millis(500);
const WIDE_FOR: Duration = Duration::from_secs(5);

/// A queue that tells that a link is full, unless more is usual on it.
const QUEUED: Duration = Duration::from_millis(40);
/// The mean of losses forgets in this time: two seconds of a lesson are too few packets to tell 1 % from 3 %.
const MEMORY: Duration = Duration::from_secs(5);
/// Above the first no more than two packets are merged, until less than half of it is lost: what is lost of three is
/// heard, and in-band FEC mends only the last frame of a packet.
const PATCHY: f64 = 0.01;
/// Above this, until less than half of it is lost, packets are said twice.
const LOSSY: f64 = 0.03;

/// What is said twice may take so much of what there is; once it is said so, a little more.
const REPEATED_PERCENT: u64 = 35;
const STILL_REPEATED_PERCENT: u64 = 45;

impl SoundPacking {
    /// Decides anew.
    pub(super) fn decide(&mut self, now: Instant, link: &LinkView, sound: &Sound) -> Packing {
        let elapsed = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        self.looked = Some(now);
        if link.outage {
            // Nothing is known of it, and nothing leaves.
            self.changing = None;
            return self.packing;
        }
        // What a full queue drops is no reason to send more.
        if link.queue <= link.calm.max(QUEUED) && !link.draining {
            self.learn(elapsed, f64::from(link.loss));
        }
        let merge = match self.thin(now, link, sound) {
            false => Merge::None,
            true if self.patchy => Merge::Two,
            true => Merge::Three,
        };
        let share = if self.packing.redundant { STILL_REPEATED_PERCENT } else { REPEATED_PERCENT };
        let fits = takes_at_most(share, sound.cost(Packing { merge, redundant: true }), link.budget());
        self.packing = Packing { merge, redundant: self.lossy && fits };
        self.packing
    }

    fn learn(&mut self, elapsed: Duration, loss: f64) {
        self.loss += (loss - self.loss) * (1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp());
        let above = |limit: f64, before: bool| self.loss > if before { limit / 2.0 } else { limit };
        (self.patchy, self.lossy) = (above(PATCHY, self.patchy), above(LOSSY, self.lossy));
    }

    /// Whether headers take too much of the link.
    fn thin(&mut self, now: Instant, link: &LinkView, sound: &Sound) -> bool {
        let before = self.packing.merge != Merge::None;
        let percent = if before { WIDE_PERCENT } else { 100 };
        let carries = |bitrate: Bitrate| bitrate.as_bps() * 100 / percent;
        let plain = sound.cost(Packing::default());
        let thin = carries(link.estimate) < THIN.as_bps()
            || !takes_at_most(MUCH_PERCENT, plain, Bitrate::bps(carries(link.budget())));
        if thin == before {
            self.changing = None;
            return before;
        }
        let since = *self.changing.get_or_insert(now);
        let lasts = now.saturating_duration_since(since) >= if thin { THIN_FOR } else { WIDE_FOR };
        before != lasts
    }
}

fn takes_at_most(percent: u64, cost: Bitrate, budget: Bitrate) -> bool {
    cost.as_bps() * 100 <= budget.as_bps() * percent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    const MS: Duration = Duration::from_millis(1);

    /// 24 kbit/s in packets of 20 ms.
    fn voice(packable: Packable) -> Sound {
        let mut sound = Sound::default();
        sound.add(Bitrate::bps(24_000 + 50 * BITS_AROUND), 50, packable);
        sound
    }

    fn link(kbps: u64, loss: f32) -> LinkView {
        LinkView {
            estimate: Bitrate::kbps(kbps),
            ceiling: None,
            cap: None,
            queue: Duration::ZERO,
            calm: 30 * MS,
            overdue: Duration::ZERO,
            loss,
            draining: false,
            outage: false,
        }
    }

    /// A link that is looked at each 100 ms: what was decided last in each phase of (ms, kbit/s, loss).
    fn run(sound: &Sound, phases: &[(u32, u64, f32)]) -> Vec<(Merge, bool)> {
        let (mut packing, mut now) = (SoundPacking::default(), origin());
        let phase = |&(ms, kbps, loss): &(u32, u64, f32)| {
            let mut last = Packing::default();
            for _ in 0..ms / 100 {
                last = packing.decide(now, &link(kbps, loss), sound);
                now += 100 * MS;
            }
            (last.merge, last.redundant)
        };
        phases.iter().map(phase).collect()
    }

    #[test]
    fn packing_costs_what_its_headers_and_repetitions_take() {
        let cases = [
            (Packable::Repeated, Merge::None, false, 24_000 + 50 * 576),
            (Packable::Repeated, Merge::Two, false, 24_000 + 25 * 576),
            (Packable::Merged, Merge::Three, false, 24_000 + 16 * 576),
            (Packable::Repeated, Merge::Two, true, 48_000 + 25 * (576 + 40)),
            (Packable::AsTheyAre, Merge::Three, true, 24_000 + 50 * 576),
        ];
        for (packable, merge, redundant, bps) in cases {
            let cost = voice(packable).cost(Packing { merge, redundant });
            assert_eq!(cost.as_bps(), bps, "{packable:?} {merge:?} {redundant}");
        }
    }

    #[test]
    fn packets_are_merged_on_thin_links_alone() {
        let one = voice(Packable::Repeated);
        let mut three = one;
        (0..2).for_each(|_| three.add(Bitrate::bps(24_000 + 50 * BITS_AROUND), 50, Packable::Repeated));
        for (sound, kbps, merge) in [
            (&one, 64, Merge::Three),
            (&one, 149, Merge::Three),
            (&one, 160, Merge::None),
            (&three, 300, Merge::Three),
            (&three, 500, Merge::None),
        ] {
            assert_eq!(run(sound, &[(2000, kbps, 0.0)]), [(merge, false)], "{kbps} kbit/s");
        }
    }

    #[test]
    fn a_moment_changes_nothing_and_going_back_takes_longer() {
        let phases = [
            (400, 100, 0.0),
            (100, 300, 0.0),
            (700, 100, 0.0),
            (4000, 300, 0.0),
            (100, 140, 0.0),
            (5000, 300, 0.0),
            (300, 300, 0.0),
            (9000, 155, 0.0),
        ];
        let merges: Vec<_> = run(&voice(Packable::Merged), &phases).iter().map(|&(merge, _)| merge).collect();
        use Merge::{None, Three};
        assert_eq!(merges, [None, None, Three, Three, Three, Three, None, None]);
        let merged = [(2000, 140, 0.0), (60_000, 160, 0.0)];
        assert_eq!(run(&voice(Packable::Merged), &merged)[1].0, Three, "a tenth more is not wide");
    }

    #[test]
    fn where_packets_are_lost_two_are_merged() {
        let phases = [(20_000, 90, 0.005), (20_000, 90, 0.02), (20_000, 90, 0.007), (30_000, 90, 0.0)];
        let merges = [Merge::Three, Merge::Two, Merge::Two, Merge::Three].map(|merge| (merge, false));
        assert_eq!(run(&voice(Packable::Repeated), &phases), merges);
    }

    #[test]
    fn where_much_is_lost_what_fits_is_said_twice() {
        let phases = [
            (20_000, 500, 0.01),
            (20_000, 500, 0.05),
            (60_000, 500, 0.02),
            (30_000, 500, 0.01),
            (20_000, 90, 0.05),
            (20_000, 30, 0.05),
        ];
        let expected = [
            (Merge::None, false),
            (Merge::None, true),
            (Merge::None, true),
            (Merge::None, false),
            (Merge::Two, false),
            (Merge::Two, false),
        ];
        assert_eq!(run(&voice(Packable::Repeated), &phases), expected);
    }

    #[test]
    fn what_a_full_queue_drops_is_not_said_twice() {
        let mut packing = SoundPacking::default();
        let sound = voice(Packable::Repeated);
        for second in 0..60 {
            let full = LinkView { queue: 200 * MS, ..link(500, 0.1) };
            let decided = packing.decide(origin() + Duration::from_secs(second), &full, &sound);
            assert_eq!(decided, Packing::default());
        }
    }

    #[test]
    fn an_outage_decides_nothing() {
        let mut packing = SoundPacking::default();
        let sound = voice(Packable::Merged);
        for second in 0..10 {
            let silent = LinkView { outage: true, ..link(10, 1.0) };
            let decided = packing.decide(origin() + Duration::from_secs(second), &silent, &sound);
            assert_eq!(decided, Packing::default());
        }
    }
}
