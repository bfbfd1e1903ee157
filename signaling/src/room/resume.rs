//! A client whose WebSocket broke comes back to its session on another one: nothing that it published or
//! received has ended. Whatever it was told meanwhile may be lost, so it is told how everything is now.

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{ParticipantUpdate, ReconnectResponse, RoomUpdate};
use sfu_protocol::control::ToSfu;
use sfu_protocol::ids::TransportId;

use super::{Room, server_info};
use crate::ids::SocketId;
use crate::protocol::Protocol;
use crate::session::{Context, Session};

/// A session that has gone on.
pub(crate) struct Resumed {
    pub(crate) id: TransportId,
    /// Its WebSocket until now, where that still seemed open. It has been closed.
    pub(crate) former: Option<SocketId>,
}

impl Room {
    /// Gives a session another WebSocket. None: the identity has no such session, or one of the other protocol, or
    /// its client has missed more than it can be told.
    pub(crate) fn resume(
        &mut self,
        context: &mut Context<'_>,
        socket: SocketId,
        identity: &str,
        sid: &str,
        protocol: Protocol,
    ) -> Option<Resumed> {
        let is_meant = |session: &&mut Session| {
            session.sid == sid
                && session.profile.identity == identity
                && session.receiver.is_some() == (protocol == Protocol::V0)
        };
        let session = self.sessions.values_mut().find(is_meant)?;
        let missed = self.departures.missed_by(session.heard)?;
        let (id, former) = (session.id, session.move_to(context.now, socket));
        context.out.close(former);
        let response = ReconnectResponse {
            server_info: Some(server_info()),
            last_message_seq: session.last_message,
            ..ReconnectResponse::default()
        };
        context.out.tell(Some(socket), Response::Reconnect(response));

        // One who left and came back is told of as it is now: clients look people up by identity.
        let visible = |session: &&Session| session.id == id || !session.profile.grant.hidden;
        let is_here = |identity: &str| {
            self.sessions.values().filter(visible).any(|session| session.profile.identity == identity)
        };
        let gone = missed.filter(|departure| !is_here(&departure.identity)).map(|departure| departure.info());
        let here = self.sessions.values().filter(visible).map(Session::info);
        let update = ParticipantUpdate { participants: gone.chain(here).collect() };
        context.out.tell(Some(socket), Response::Update(update));
        context.out.tell(Some(socket), Response::RoomUpdate(RoomUpdate { room: Some(self.info()) }));
        self.repeat_speakers(context, id);
        self.repeat_demands(context, id);
        self.repeat_stream_states(context, id);
        if let Some(session) = self.sessions.get_mut(&id) {
            match &session.receiver {
                // What the client receives is offered to it; what it sends, it offers itself.
                Some(receiver) => context.out.command(ToSfu::RestartIce { transport: receiver.transport }),
                None => session.repeat_needs(context),
            }
        }
        Some(Resumed { id, former })
    }
}
