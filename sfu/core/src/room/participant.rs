//! A member of a room: what it sends, what it receives, and its reports.

use std::time::Instant;

use arrayvec::ArrayString;
use rustc_hash::FxHashMap;

use super::link::Link;
use super::quality::Health;
use super::room::TrackKey;
use super::subscription::DownKey;
use crate::cc::pacer::PacerConfig;
use crate::cc::twcc::ArrivalRecorder;
use crate::rtp::params::{ExtensionMap, Ssrc};
use crate::track::up_track::StreamRole;
use crate::units::TransportId;

/// Where the packets of a received SSRC belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) track: TrackKey,
    pub(super) encoding: u8,
    pub(super) role: StreamRole,
}

/// A member of a room. Its link comes first in memory: that is what each packet touches.
#[repr(C)]
pub(super) struct Participant {
    pub(super) link: Link,
    pub(super) health: Health,
    /// Whether packets can be sent to it. Before, what it subscribes to waits.
    pub(super) reachable: bool,

    /// The header extensions of all its m-lines: in a BUNDLE an id means one thing (RFC 8843 §9.1).
    pub(super) extensions: ExtensionMap,
    /// What it publishes.
    pub(super) tracks: Vec<TrackKey>,
    /// Its SSRCs; at most two for each encoding of its tracks.
    pub(super) routes: FxHashMap<Ssrc, Route>,
    /// Where it counts transport-wide.
    pub(super) arrivals: Option<ArrivalRecorder>,

    /// What it receives.
    pub(super) subscriptions: Vec<DownKey>,
    /// The SSRCs that it receives, of media and retransmissions.
    pub(super) sent: FxHashMap<Ssrc, DownKey>,

    pub(super) reports: Reports,
    /// Names its sources to their receivers (RFC 3550 §6.5.1).
    pub(super) cname: ArrayString<32>,
}

/// How far this second's reports have got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reports {
    /// When the next ones are due.
    pub(super) next: Instant,
    /// The next of its tracks to report on to it; behind the last: all done.
    pub(super) track: usize,
    /// The next of its subscriptions to send a sender report for; behind the last: all done.
    pub(super) subscription: usize,
    /// Whether it is among those whose RTCP is being written.
    pub(super) queued: bool,
}

impl Participant {
    pub(super) fn new(
        now: Instant,
        transport: TransportId,
        pacer: PacerConfig,
        first_report: Instant,
    ) -> Self {
        let mut cname = ArrayString::new();
        // Cannot fail: "transport-" and 16 digits fit 32 bytes.
        let _ = std::fmt::Write::write_fmt(&mut cname, format_args!("{transport}"));
        Self {
            link: Link::new(now, pacer),
            health: Health::new(now),
            reachable: false,
            extensions: ExtensionMap::default(),
            tracks: Vec::new(),
            routes: FxHashMap::default(),
            arrivals: None,
            subscriptions: Vec::new(),
            sent: FxHashMap::default(),
            reports: Reports {
                next: first_report,
                track: usize::MAX,
                subscription: usize::MAX,
                queued: false,
            },
            cname,
        }
    }
}
