//! Names of things: ours for the SFU, LiveKit's for clients.
//!
//! Clients tell a participant, track or room by its *sid*, text that begins with `PA_`, `TR_` or `RM_`
//! (`livekit-client` tests for `TR`). Sids must not repeat, but need not be secret: a small generator with a
//! random seed makes them, and tests choose the seed. It also chooses where the SFU's ids begin.

use livekit_protocol::TrackSource;
use sfu_protocol::ids::{RoomId, TrackId, TransportId};

/// One client's WebSocket. A participant that comes back has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// Letters and digits that are not mistaken for one another; LiveKit's sids use the same 57.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Characters after the prefix: 57^12 is about 2^70.
const SID_CHARS: usize = 12;

/// Makes ids and sids.
#[derive(Debug)]
pub(crate) struct Ids {
    random: u64,
    next: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        let mut ids = Self { random: seed, next: 0 };
        // An SFU may still have things of a process before this one: theirs must be others.
        ids.next = ids.random() >> 1;
        ids
    }

    pub(crate) fn room(&mut self) -> (RoomId, String) {
        (RoomId(self.count()), self.sid("RM_"))
    }

    pub(crate) fn transport(&mut self) -> (TransportId, String) {
        (TransportId(self.count()), self.sid("PA_"))
    }

    /// Of a participant that has a transport already.
    pub(crate) fn further_transport(&mut self) -> TransportId {
        TransportId(self.count())
    }

    pub(crate) fn track(&mut self, source: TrackSource) -> (TrackId, String) {
        let prefix = match source {
            TrackSource::Camera => "TR_VC",
            TrackSource::Microphone => "TR_AM",
            TrackSource::ScreenShare => "TR_VS",
            TrackSource::ScreenShareAudio => "TR_AS",
            TrackSource::Unknown => "TR_",
        };
        (TrackId(self.count()), self.sid(prefix))
    }

    fn count(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    fn sid(&mut self, prefix: &str) -> String {
        let mut sid = String::with_capacity(prefix.len() + SID_CHARS);
        sid.push_str(prefix);
        for _ in 0..SID_CHARS {
            let index = self.random() % ALPHABET.len() as u64;
            sid.push(char::from(ALPHABET[index as usize]));
        }
        sid
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sids_have_livekits_shape_and_do_not_repeat() {
        let mut ids = Ids::new(7);
        let (_, sid) = ids.transport();
        assert!(sid.starts_with("PA_") && sid.len() == 15);
        assert!(ids.track(TrackSource::Camera).1.starts_with("TR_VC"));
        let sids: HashSet<_> = (0..10_000).map(|_| ids.room().1).collect();
        assert_eq!(sids.len(), 10_000);
    }
}
