//! The way to a receiver: the queue in front of it, and the counters that all its packets share.

use std::time::{Duration, Instant};

use super::budget::Lesson;
use super::probing::Probing;
use super::subscription::DownKey;
use crate::cc::link_control::LinkControl;
use crate::cc::pacer::{Pacer, PacerConfig, Priority};
use crate::forward::down_track::{Clock, Moment};
use crate::forward::repacketiser::{Makeup, Packing};
use crate::rtp::ext::AbsSendTime;
use crate::track::StreamKey;
use crate::units::Millis;

/// What waits in a queue: names only, looked up at departure. One whose subscription or packet is gone by then
/// is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    /// A packet of the source.
    Media { down: DownKey, stream: StreamKey, named: Named },
    /// A packet of our own.
    Own { down: DownKey, packet: Own },
}

/// One that left before, by its output number; or so much padding, as a part of a probe. In one word: a name is
/// three, and half a cache line with what else the queue knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own(u64);

impl Own {
    const SEQ_BITS: u32 = 56;

    pub(super) fn again(seq: u64) -> Self {
        Self(seq & ((1 << Self::SEQ_BITS) - 1))
    }

    /// 1..=255 bytes of padding.
    pub(super) fn padding(len: u8) -> Self {
        Self(u64::from(len) << Self::SEQ_BITS)
    }

    pub(super) fn seq(self) -> u64 {
        Self::again(self.0).0
    }

    /// 0: it is a packet that left before.
    pub(super) fn padding_len(self) -> u8 {
        (self.0 >> Self::SEQ_BITS) as u8
    }
}

/// A packet of a stream by the source's number, that of the first new one where it is made of several. In eight bytes,
/// so that two entries of a queue fit a cache line: numbers stay far below 2^60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named(u64);

impl Named {
    const SEQ_BITS: u32 = 60;

    #[inline]
    pub(super) fn new(seq: u64, makeup: Makeup) -> Self {
        Self(u64::from(makeup.to_bits()) << Self::SEQ_BITS | seq)
    }

    #[inline]
    pub(super) fn seq(self) -> u64 {
        self.0 & ((1 << Self::SEQ_BITS) - 1)
    }

    #[inline]
    pub(super) fn makeup(self) -> Makeup {
        Makeup::from_bits((self.0 >> Self::SEQ_BITS) as u8)
    }
}

/// Where the room looks for a link's next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing waits.
    Idle,
    /// Among those that may have a packet now.
    Ready,
    /// Among those whose packets have to wait.
    Waiting,
}

/// IPv4, UDP and the longest SRTP tag: what a packet costs besides itself.
pub(super) const WIRE_OVERHEAD: usize = 20 + 8 + 16;

/// One receiver's link. In this order in memory: what each packet touches lies together, the pacer's beginning
/// included.
#[repr(C)]
pub(super) struct Link {
    pub(super) turn: Turn,
    transport_seq: u16,
    /// The transport-wide number behind the last packet that the control knows of.
    recorded: u16,
    /// What it carries; `None` while nothing is sent that counts transport-wide.
    pub(super) control: Option<Box<LinkControl>>,
    pub(super) pacer: Pacer<Queued>,
    /// What it carries of what its receiver wishes, where it is controlled.
    pub(super) lesson: Option<Box<Lesson>>,
    /// The probe that is leaving.
    pub(super) probing: Option<Probing>,
    /// The last round trip measured.
    pub(super) rtt: Option<Duration>,
    /// How sound is packed.
    pub(super) packing: Packing,
}

impl Link {
    pub(super) fn new(now: Instant, pacer: PacerConfig) -> Self {
        Self {
            pacer: Pacer::new(pacer, now),
            turn: Turn::Idle,
            rtt: None,
            packing: Packing::default(),
            control: None,
            lesson: None,
            probing: None,
            transport_seq: 0,
            recorded: 0,
        }
    }

    /// Whether a packet of this source waits.
    pub(super) fn holds(&self, source: DownKey) -> bool {
        self.pacer.any(|item| matches!(item, Queued::Media { down, .. } if *down == source))
    }

    /// What a packet that leaves now is stamped with.
    #[inline]
    pub(super) fn moment(&mut self, now: Clock) -> Moment<'_> {
        Moment { now, transport_seq: &mut self.transport_seq }
    }

    /// A packet was written. One that has a transport-wide number becomes known to the control. Returns when that
    /// is due, where it was not before.
    #[inline]
    pub(super) fn departed(&mut self, now: Instant, len: usize, priority: Priority) -> Option<Instant> {
        if self.recorded == self.transport_seq {
            return None;
        }
        self.recorded = self.transport_seq;
        let control = self.control.as_mut()?;
        let slept = control.poll_timeout().is_none();
        let audio = priority == Priority::Audio;
        // What leaves among a probe's packets belongs to it: all of it met the link at that rate.
        let probe = priority == Priority::Probe || self.pacer.len_of(Priority::Probe) > 0;
        control.on_sent(now, self.transport_seq.wrapping_sub(1), len + WIRE_OVERHEAD, audio, probe);
        let due = control.poll_timeout().filter(|_| slept);
        if priority == Priority::Probe && self.pacer.len_of(Priority::Probe) == 0 {
            self.follow(now);
        }
        due
    }
}

/// The time as the packet path counts it, worked out once for all packets of a turn.
#[derive(Default)]
pub(super) struct TurnClock {
    /// Where it counts from: only differences matter.
    epoch: Option<Instant>,
    last: Option<(Instant, Clock)>,
}

impl TurnClock {
    #[inline]
    pub(super) fn at(&mut self, now: Instant) -> Clock {
        match self.last {
            Some((at, clock)) if at == now => clock,
            _ => self.look(now),
        }
    }

    fn look(&mut self, now: Instant) -> Clock {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch);
        let clock =
            Clock { millis: Millis::from_duration(since), send_time: AbsSendTime::from_duration(since) };
        self.last = Some((now, clock));
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::super::participant::Participant;
    use super::super::table::SLOT_HEAD;
    use super::*;

    #[test]
    fn a_name_tells_number_and_makeup() {
        for (seq, packets, repeated) in [(0, 1, 0), (65_536, 3, 3), ((1 << 60) - 1, 2, 1)] {
            let named = Named::new(seq, Makeup::new(packets, repeated));
            assert_eq!((named.seq(), named.makeup()), (seq, Makeup::new(packets, repeated)));
        }
    }

    #[test]
    fn what_each_packet_touches_of_a_link_fits_a_cache_line_and_two_names_fit_another() {
        let pacer_hot = Pacer::<Queued>::HOT_BYTES;
        let before = SLOT_HEAD + std::mem::offset_of!(Participant, link) + std::mem::offset_of!(Link, pacer);
        assert!(before + pacer_hot <= 64, "{before} + {pacer_hot}");
        assert_eq!(Pacer::<Queued>::BYTES_WAITING, 32);
    }
}
