//! What the state machines want done: messages to clients and commands to the SFU.

use std::collections::VecDeque;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, LeaveRequest, leave_request};
use sfu_protocol::control::ToSfu;

use crate::ids::SocketId;
use crate::nodes::NodeId;

/// One thing to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Sends a message to a client.
    ToClient {
        /// Its WebSocket.
        socket: SocketId,
        /// The message.
        message: Box<Message>,
    },
    /// Closes a client's WebSocket once the messages before this have left.
    Close {
        /// Its WebSocket.
        socket: SocketId,
    },
    /// Sends a command to an SFU.
    ToSfu(NodeId, ToSfu),
}

/// Collects outputs until the shell takes them.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
    /// The node of the room that is spoken of.
    node: NodeId,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { queue: VecDeque::new(), node: NodeId::LOCAL }
    }
}

impl Outbox {
    /// To a client; one without a WebSocket misses it, and learns the present state when it joins again.
    pub(crate) fn tell(&mut self, socket: Option<SocketId>, message: Message) {
        if let Some(socket) = socket {
            self.queue.push_back(Output::ToClient { socket, message: Box::new(message) });
        }
    }

    pub(crate) fn close(&mut self, socket: Option<SocketId>) {
        if let Some(socket) = socket {
            self.queue.push_back(Output::Close { socket });
        }
    }

    /// Tells a client that its session is over and what to do next, then closes its WebSocket.
    pub(crate) fn dismiss(&mut self, socket: Option<SocketId>, farewell: Farewell) {
        self.tell(socket, farewell.message());
        self.close(socket);
    }

    /// Further commands go to this node.
    pub(crate) fn direct(&mut self, node: NodeId) {
        self.node = node;
    }

    pub(crate) fn command(&mut self, command: ToSfu) {
        self.queue.push_back(Output::ToSfu(self.node, command));
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }
}

/// How the server ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Do not come back by yourself.
    Final(DisconnectReason),
    /// Join anew, with a fresh transport.
    JoinAgain(DisconnectReason),
}

impl Farewell {
    pub(crate) fn reason(self) -> DisconnectReason {
        match self {
            Self::Final(reason) | Self::JoinAgain(reason) => reason,
        }
    }

    fn message(self) -> Message {
        let action = match self {
            Self::Final(_) => leave_request::Action::Disconnect,
            Self::JoinAgain(_) => leave_request::Action::Reconnect,
        };
        Message::Leave(LeaveRequest {
            // What clients before protocol 13 read instead of the action.
            can_reconnect: action == leave_request::Action::Reconnect,
            reason: self.reason().into(),
            action: action.into(),
            regions: None,
        })
    }
}
