//! Quantities and small names that every module shares.

use std::fmt;
use std::time::Duration;

pub use sfu_protocol::control::{MediaKind, Size, Source, Wish};
pub use sfu_protocol::ids::{RoomId, TrackId, TransportId};

/// Most links that are reported on at a time: their list needs no allocation.
pub const LINK_BATCH: usize = 8;

/// A rate in bits per second, counted at IP level: IPv4 20 + UDP 8 + RTP header, extensions and SRTP tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// From bits per second.
    pub const fn bps(bps: u64) -> Self {
        Self(bps)
    }

    /// From thousands of bits per second.
    pub const fn kbps(kbps: u64) -> Self {
        Self(kbps * 1000)
    }

    /// In bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} kbit/s", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Milliseconds from an arbitrary moment, modulo 2^32: only differences mean anything. What is compared often is
/// counted so, once a turn, as arithmetic with `Instant` costs ten times that of integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// From a time since that moment.
    pub const fn from_duration(since: Duration) -> Self {
        Self((since.as_secs() as u32).wrapping_mul(1000).wrapping_add(since.subsec_millis()))
    }

    /// How many have gone by since an earlier moment.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// Largest datagram that we send, bytes of UDP payload: fits IPv6's minimum MTU of 1280 with its headers, so
/// that no tunnel on a school's line has to fragment it.
pub const MAX_DATAGRAM_OUT: usize = 1232;

/// Largest datagram that we read, bytes. Browsers send at most ~1250; a longer one is counted and dropped.
pub const MAX_DATAGRAM_IN: usize = 1500;
