//! What rooms find out about people: who speaks, how good the way to each is.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::{MAX_EVENTS, RoomSlot, Worker};
use crate::command::{Event, LinkQuality, Speaker};
use crate::room::ParticipantKey;
use crate::units::{LINK_BATCH, TransportId};

impl Worker {
    /// Takes a room's findings, unless signaling is slow: then they wait, and newer ones take their place.
    pub(super) fn report_people(&mut self, key: u32) {
        let Self { rooms, transports, events, .. } = self;
        let RoomSlot { id, room, members } = &mut rooms[key];
        let transport = |participant: ParticipantKey| -> Option<TransportId> {
            members[participant.index()].map(|member| transports[member].names.id)
        };
        if events.len() < MAX_EVENTS
            && let Some(speaking) = room.poll_speakers()
        {
            let speakers = speaking
                .iter()
                .filter_map(|one| Some(Speaker { transport: transport(one.participant)?, level: one.level }));
            events.push_back(Event::Speakers { room: *id, speakers: speakers.collect() });
        }
        let mut reports = ArrayVec::new();
        while events.len() < MAX_EVENTS {
            room.poll_links(&mut reports);
            let links: ArrayVec<_, LINK_BATCH> = reports
                .iter()
                .filter_map(|report| {
                    Some(LinkQuality {
                        transport: transport(report.participant)?,
                        score: report.score,
                        rtt_ms: report.rtt.map(millis),
                        loss: report.loss,
                    })
                })
                .collect();
            if links.is_empty() {
                return;
            }
            events.push_back(Event::LinkQuality { room: *id, links });
        }
    }
}

fn millis(duration: Duration) -> u16 {
    u16::try_from(duration.as_millis()).unwrap_or(u16::MAX)
}
