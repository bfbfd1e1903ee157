//! Commands: what signaling wants changed.

use std::time::Instant;

use bytes::Bytes;

use super::routes::Names;
use super::{Member, Place, RoomSlot, Worker};
use crate::command::{CloseReason, Command, Event};
use crate::room::Room;
use crate::transport::Transport;
use crate::transport::params::{IceCredentials, RemoteParams};
use crate::units::{RoomId, TransportId};

impl Worker {
    /// Carries out a command. One that names what is not there any more is counted and ignored.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let done = match command {
            Command::OpenRoom { room } => {
                self.open_room(room);
                Some(())
            }
            Command::CloseRoom { room } => self.close_room(now, room),
            Command::OpenTransport { room, transport, local, remote } => {
                self.open_transport(now, room, transport, local, remote)
            }
            Command::CloseTransport { transport, reason } => self.close_transport(now, transport, reason),
            Command::Publish { transport, track, source, params } => self
                .in_room_of(transport, |room, place| {
                    room.publish(now, place.participant, track, source, params).is_ok()
                }),
            Command::Unpublish { transport, track } => {
                self.in_room_of(transport, |room, place| room.unpublish(place.participant, track).is_ok())
            }
            Command::SetMuted { transport, track, muted } => self.in_room_of(transport, |room, place| {
                room.set_muted(now, place.participant, track, muted).is_ok()
            }),
            Command::Subscribe { transport, track, params } => self.in_room_of(transport, |room, place| {
                room.subscribe(now, place.participant, track, params).is_ok()
            }),
            Command::Unsubscribe { transport, track } => {
                self.in_room_of(transport, |room, place| room.unsubscribe(place.participant, track).is_ok())
            }
            Command::SetWish { transport, track, wish } => self.in_room_of(transport, |room, place| {
                room.set_wish(now, place.participant, track, wish).is_ok()
            }),
            Command::SendData { recipients, channel, bytes } => {
                self.send_data(now, &recipients, &channel, &bytes);
                Some(())
            }
        };
        if done.is_none() {
            self.stats.commands_ignored += 1;
        }
    }

    fn open_room(&mut self, id: RoomId) {
        if !self.room_ids.contains_key(&id) {
            let room = Room::new(self.config.room);
            let key = self.rooms.insert(RoomSlot { id, room, members: Vec::new() });
            self.room_ids.insert(id, key);
        }
    }

    fn close_room(&mut self, now: Instant, id: RoomId) -> Option<()> {
        let key = self.room_ids.remove(&id)?;
        let members: Vec<u32> = self.rooms[key].members.iter().flatten().copied().collect();
        for member in members {
            self.transports[member].transport.close(now);
            self.leave(member, CloseReason::Requested);
        }
        if let Some(slot) = self.rooms.remove(key) {
            debug_assert_eq!(slot.id, id);
            self.closed_rooms = self.closed_rooms + slot.room.stats();
        }
        self.room_deadlines.set(key, None);
        Some(())
    }

    fn open_transport(
        &mut self,
        now: Instant,
        room: RoomId,
        id: TransportId,
        local: IceCredentials,
        remote: RemoteParams,
    ) -> Option<()> {
        if let Some(key) = self.routes.by_id(id) {
            let Member { names, transport, .. } = &mut self.transports[key];
            transport.restart_ice(local, remote.ice);
            transport.set_sctp(remote.sctp);
            self.routes.set_ufrags(key, names, transport.ufrags());
            self.settle_transport(now, key);
            return Some(());
        }
        let opened = self.join(now, room, id, local, remote);
        if let Err(reason) = opened {
            self.events.push_back(Event::TransportClosed { transport: id, reason });
        }
        opened.ok()
    }

    fn join(
        &mut self,
        now: Instant,
        room: RoomId,
        id: TransportId,
        local: IceCredentials,
        remote: RemoteParams,
    ) -> Result<(), CloseReason> {
        let room = *self.room_ids.get(&room).ok_or(CloseReason::Requested)?;
        if self.transports.len() >= self.config.max_transports {
            return Err(CloseReason::NoCapacity);
        }
        let transport = Transport::new(now, &self.config.transport, local, remote);
        let slot = &mut self.rooms[room];
        let participant = slot.room.add_participant(now, id).map_err(|_| CloseReason::NoCapacity)?;
        let place = Place { room, participant };
        let key = self.transports.insert(Member { names: Names::new(id), transport, place: Some(place) });
        if slot.members.len() <= participant.index() {
            slot.members.resize(participant.index() + 1, None);
        }
        slot.members[participant.index()] = Some(key);
        let Member { names, transport, .. } = &mut self.transports[key];
        self.routes.add_id(key, names);
        self.routes.set_ufrags(key, names, transport.ufrags());
        self.settle_transport(now, key);
        Ok(())
    }

    fn close_transport(&mut self, now: Instant, id: TransportId, reason: CloseReason) -> Option<()> {
        let key = self.routes.by_id(id)?;
        self.transports[key].transport.close(now);
        self.leave(key, reason);
        Some(())
    }

    fn send_data(&mut self, now: Instant, recipients: &[TransportId], channel: &str, bytes: &Bytes) {
        for &id in recipients {
            let sent = self.routes.by_id(id).is_some_and(|key| {
                let sent = self.transports[key].transport.send_data(now, channel, bytes).is_ok();
                self.settle_transport(now, key);
                sent
            });
            self.stats.data_dropped += u64::from(!sent);
        }
    }

    /// Runs `change` on the room of a transport; `None` where it is gone or `change` says no.
    fn in_room_of(
        &mut self,
        transport: TransportId,
        change: impl FnOnce(&mut Room, Place) -> bool,
    ) -> Option<()> {
        let place = self.transports[self.routes.by_id(transport)?].place?;
        self.busy_rooms.mark(place.room);
        change(&mut self.rooms[place.room].room, place).then_some(())
    }
}
