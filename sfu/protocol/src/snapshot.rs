//! What an SFU has, for a signaling service that cannot know it: one of the two has started anew, or what was
//! between them has been lost.

use serde::{Deserialize, Serialize};

use crate::ids::{RoomId, TrackId, TransportId};

/// A part of a snapshot: short, as frames are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// It begins; parts of an earlier one that never ended count no more.
    Begin,
    /// A room; its transports follow.
    Room(RoomId),
    /// A transport in the room before.
    Transport(TransportSnapshot),
    /// That was all.
    End,
}

/// A transport as the SFU has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportSnapshot {
    /// The transport.
    pub transport: TransportId,
    /// Whether its DTLS handshake is done.
    pub connected: bool,
    /// Whether every track that it wants, and that is sent, has an m-line.
    pub settled: bool,
    /// The tracks that it has announced, in the order of their ids.
    pub published: Vec<TrackId>,
    /// The tracks that it wants, in the order of their ids.
    pub wanted: Vec<TrackId>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The rooms, with their transports.
    pub rooms: Vec<(RoomId, Vec<TransportSnapshot>)>,
}

/// Most parts of a snapshot: more than twice what an SFU may have. One that has more is not believed, it never
/// becomes a whole.
pub const MAX_PARTS: usize = 16_384;

/// Puts the parts together.
#[derive(Debug)]
pub struct Collector {
    of: u64,
    snapshot: Option<Snapshot>,
    parts: usize,
}

impl Collector {
    /// For the snapshot of this number.
    pub fn new(of: u64) -> Self {
        Self { of, snapshot: None, parts: 0 }
    }

    /// Takes a part; the last one gives the whole. Parts of another snapshot are none of ours.
    pub fn push(&mut self, of: u64, part: SnapshotPart) -> Option<Snapshot> {
        if of != self.of {
            return None;
        }
        self.parts = if part == SnapshotPart::Begin { 0 } else { self.parts + 1 };
        if self.parts > MAX_PARTS {
            self.snapshot = None;
        }
        match (part, &mut self.snapshot) {
            (SnapshotPart::Begin, snapshot) => *snapshot = Some(Snapshot::default()),
            (SnapshotPart::Room(room), Some(snapshot)) => snapshot.rooms.push((room, Vec::new())),
            (SnapshotPart::Transport(transport), Some(snapshot)) => {
                if let Some((_, transports)) = snapshot.rooms.last_mut() {
                    transports.push(transport);
                }
            }
            (SnapshotPart::End, snapshot) => return snapshot.take(),
            (SnapshotPart::Room(_) | SnapshotPart::Transport(_), None) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_whole_and_those_of_another_are_left_out() {
        let transport = |id| TransportSnapshot {
            transport: TransportId(id),
            connected: true,
            settled: true,
            published: vec![TrackId(1)],
            wanted: Vec::new(),
        };
        let mut collector = Collector::new(2);
        for (of, part) in [
            (1, SnapshotPart::Begin),
            (1, SnapshotPart::Room(RoomId(9))),
            (2, SnapshotPart::Room(RoomId(8))),
            (1, SnapshotPart::End),
            (2, SnapshotPart::Begin),
            (2, SnapshotPart::Room(RoomId(1))),
            (2, SnapshotPart::Transport(transport(5))),
            (2, SnapshotPart::Transport(transport(6))),
            (2, SnapshotPart::Room(RoomId(2))),
        ] {
            assert_eq!(collector.push(of, part), None);
        }
        let rooms = vec![(RoomId(1), vec![transport(5), transport(6)]), (RoomId(2), Vec::new())];
        assert_eq!(collector.push(2, SnapshotPart::End), Some(Snapshot { rooms }));
        assert_eq!(collector.push(2, SnapshotPart::End), None, "only once");
    }

    #[test]
    fn what_is_longer_than_any_is_no_snapshot() {
        for (rooms, is_whole) in [(MAX_PARTS - 1, true), (MAX_PARTS, false), (2 * MAX_PARTS, false)] {
            let mut collector = Collector::new(1);
            collector.push(1, SnapshotPart::Begin);
            for room in 0..rooms as u64 {
                collector.push(1, SnapshotPart::Room(RoomId(room)));
            }
            assert_eq!(collector.push(1, SnapshotPart::End).is_some(), is_whole, "{rooms} rooms");
        }
    }
}
