//! Counters of one worker: plain `u64`s, written on the packet path and copied out for a metrics scrape.

use std::ops::Add;

/// Defines a struct of counters that can be added up.
#[macro_export]
macro_rules! counters {
    (
        $(#[doc = $struct_doc:literal])*
        $name:ident { $($(#[doc = $doc:literal])* $field:ident,)* }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl ::std::ops::Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field,)* }
            }
        }
    };
}

counters! {
    /// What a worker counts itself; rooms add their own. Monotone over the worker's life.
    WorkerStats {
        /// Datagrams handed in.
        datagrams_in,
        /// Bytes of UDP payload handed in.
        bytes_in,
        /// Of the datagrams: another worker's.
        foreign_in,
        /// Datagrams that other workers found to be this one's, beside those handed in.
        handed_over_in,
        /// Other workers' addresses forgotten for want of room; told again when their clients are next checked.
        foreign_evicted,
        /// Datagrams handed out.
        datagrams_out,
        /// Bytes of UDP payload handed out.
        bytes_out,
        /// Runs handed out: each is one send call, whatever number of datagrams it holds.
        runs_out,
        /// Packets that could not leave: their transport closed between departure and protection.
        unsendable,
        /// Commands that named something which is not there any more, or could not be carried out.
        commands_ignored,
        /// Data messages from clients.
        data_in,
        /// Data messages dropped: a recipient has no such channel, or a queue is full.
        data_dropped,
        /// Handshakes completed.
        handshakes,
    }
}

counters! {
    /// What a room counts. Monotone over its life.
    RoomStats {
        /// Packets of media handed in.
        packets_in,
        /// Their bytes, headers included.
        bytes_in,
        /// Of these: repaired by a retransmission.
        repaired_in,
        /// Of these: arrived before.
        duplicates_in,
        /// Of these: retransmissions of nothing, which only probe the way.
        padding_in,
        /// Of these: malformed, of unknown origin, or of no use.
        refused_in,
        /// Packets of media that left.
        packets_out,
        /// Their bytes, headers included.
        bytes_out,
        /// Of these: sent again because a receiver missed them.
        resent_out,
        /// Of these: several packets of sound in one.
        merged_out,
        /// Of these: sound that repeats what left before it.
        redundant_out,
        /// Changes of a receiver from one encoding to another.
        encoding_switches,
        /// Datagrams of reports and feedback that left.
        rtcp_out,
        /// Not forwarded: the track is muted, or its receiver wants nothing of it at present.
        not_meant_paused,
        /// Not forwarded: decoding cannot start with it.
        not_meant_awaiting_key_frame,
        /// Not forwarded: the receiver gets another encoding.
        not_meant_other_encoding,
        /// Not forwarded: its temporal layer is above the receiver's.
        not_meant_temporal_layer,
        /// Not forwarded: padding, or older than all that was.
        useless,
        /// Dropped out of a queue: displaced by a newer packet.
        dropped_queue_full,
        /// Dropped out of a queue: its payload has been overwritten.
        dropped_stale,
        /// Dropped out of a queue: nobody receives it any more.
        dropped_unsubscribed,
        /// Dropped out of a queue: its number is taken back, its codec not agreed, or it is too long.
        dropped_unsendable,
        /// Dropped out of a queue: video that builds upon a packet which was dropped there.
        dropped_undecodable,
        /// Drops whose number was followed by others already: the receiver asks for it in vain.
        holes_left,
        /// Packets that we asked publishers for.
        nacked_to_publishers,
        /// Packets that receivers asked us for.
        nacked_by_receivers,
        /// Of these: sent again just before, or often enough.
        not_resent_too_soon,
        /// Of these: unknown, gone, or too late to be shown.
        not_resent_gone,
        /// Key frames that we asked publishers for.
        key_frames_asked_of_publishers,
        /// Key frames that receivers asked us for.
        key_frames_asked_by_receivers,
        /// RTCP packets that are malformed.
        rtcp_malformed,
        /// RTCP packets of a type that we do not use.
        rtcp_unknown,
        /// Reports and feedback about streams that are not there.
        rtcp_foreign,
    }
}

/// How many datagrams were not used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// Counts a datagram that was not used.
    #[inline]
    pub fn count(&mut self, why: Refusal) {
        self.0[why as usize] += 1;
    }

    /// How many were not used for this reason.
    pub fn of(&self, why: Refusal) -> u64 {
        self.0[why as usize]
    }

    /// How many were not used at all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Add for Refusals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

/// Why a datagram was not used. Every one of them is harmless: it is counted, and nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// No protocol that we speak starts like this (RFC 7983).
    Unrecognised,
    /// Longer than [`crate::units::MAX_DATAGRAM_IN`].
    Oversized,
    /// DTLS or SRTP from an address that no transport has authenticated.
    UnknownTuple,
    /// STUN for a username that is not ours.
    UnknownUfrag,
    /// STUN that does not parse, or is not a binding request.
    StunMalformed,
    /// STUN with a wrong MESSAGE-INTEGRITY.
    StunUnauthentic,
    /// DTLS that does not parse, or does not fit the state of the handshake.
    Dtls,
    /// DTLS while more than enough of it waits already.
    DtlsTooMany,
    /// SRTP or SRTCP before the handshake is done.
    SrtpTooEarly,
    /// SRTP or SRTCP too short to be one.
    SrtpMalformed,
    /// SRTP or SRTCP whose authentication tag is wrong.
    SrtpUnauthentic,
    /// SRTP or SRTCP seen before, or older than the replay window.
    SrtpReplayed,
    /// SRTP with more SSRCs than a transport may use.
    SrtpTooManySsrcs,
    /// RTP that does not parse.
    RtpMalformed,
    /// RTP of an SSRC, rid or mid that belongs to no published track.
    RtpUnknownSource,
    /// RTP of a known track that could not be used: a duplicate, too old, or an unknown payload type.
    RtpUnusable,
    /// RTCP that does not parse.
    RtcpMalformed,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 17] = [
        Self::Unrecognised,
        Self::Oversized,
        Self::UnknownTuple,
        Self::UnknownUfrag,
        Self::StunMalformed,
        Self::StunUnauthentic,
        Self::Dtls,
        Self::DtlsTooMany,
        Self::SrtpTooEarly,
        Self::SrtpMalformed,
        Self::SrtpUnauthentic,
        Self::SrtpReplayed,
        Self::SrtpTooManySsrcs,
        Self::RtpMalformed,
        Self::RtpUnknownSource,
        Self::RtpUnusable,
        Self::RtcpMalformed,
    ];

    /// As a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unrecognised => "unrecognised",
            Self::Oversized => "oversized",
            Self::UnknownTuple => "unknown_tuple",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::StunMalformed => "stun_malformed",
            Self::StunUnauthentic => "stun_unauthentic",
            Self::Dtls => "dtls",
            Self::DtlsTooMany => "dtls_too_many",
            Self::SrtpTooEarly => "srtp_too_early",
            Self::SrtpMalformed => "srtp_malformed",
            Self::SrtpUnauthentic => "srtp_unauthentic",
            Self::SrtpReplayed => "srtp_replayed",
            Self::SrtpTooManySsrcs => "srtp_too_many_ssrcs",
            Self::RtpMalformed => "rtp_malformed",
            Self::RtpUnknownSource => "rtp_unknown_source",
            Self::RtpUnusable => "rtp_unusable",
            Self::RtcpMalformed => "rtcp_malformed",
        }
    }
}

/// All of a worker's numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The worker's own counters.
    pub worker: WorkerStats,
    /// The sum of its rooms' counters, closed rooms included.
    pub rooms: RoomStats,
    /// Datagrams not used, by reason.
    pub refused: Refusals,
    /// Rooms open now.
    pub open_rooms: u64,
    /// Transports open now.
    pub open_transports: u64,
}

impl Add for Snapshot {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            worker: self.worker + other.worker,
            rooms: self.rooms + other.rooms,
            refused: self.refused + other.refused,
            open_rooms: self.open_rooms + other.open_rooms,
            open_transports: self.open_transports + other.open_transports,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_label() {
        let mut refused = Refusals::default();
        for (i, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, i);
            refused.count(why);
            assert_eq!(refused.of(why), 1);
        }
        assert_eq!(refused.total(), Refusal::ALL.len() as u64);
        let mut labels = Refusal::ALL.map(Refusal::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn counters_add_up() {
        let one = WorkerStats { data_in: 2, ..WorkerStats::default() };
        assert_eq!((one + one).data_in, 4);
        assert_eq!((one + one).data_dropped, 0);
    }
}
