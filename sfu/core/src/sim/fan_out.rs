//! One publisher and many receivers with room on their links, as a steady state to measure: what a forwarded
//! packet costs, without the clients' own work.

use std::time::{Duration, Instant};

use super::clock;
use super::network::{Network, SERVER, take_in};
use super::path::Conditions;
use crate::command::Command;
use crate::rtp::params::{Codec, Ssrc};
use crate::rtp::rtcp::Writer;
use crate::units::{RoomId, TrackId, Wish};
use crate::worker::{TRANSMIT_BUFFER, Transmit, Tuple, Worker};

/// A connected lesson whose media has flowed for some seconds.
pub struct FanOut {
    network: Network,
    picture: TrackId,
    out: Vec<u8>,
}

/// A sealed packet of a client and the moment of its arrival.
pub struct Arriving {
    from: usize,
    /// When it arrives.
    pub at: Instant,
    /// The datagram.
    pub datagram: Vec<u8>,
}

impl FanOut {
    /// Connects `receivers` clients to one that publishes sound and picture, and lets ten seconds pass.
    ///
    /// # Panics
    /// Where a client does not get connected.
    pub fn new(receivers: usize) -> Self {
        let publish = |network: &mut Network| network.publish(0, Codec::Vp8);
        Self::in_network(Network::new(clock::origin(), 30), receivers, publish)
    }

    /// The same, but all that clients send reaches another worker first, which passes it on.
    ///
    /// # Panics
    /// Where a client does not get connected.
    pub fn behind_a_neighbour(receivers: usize) -> Self {
        let publish = |network: &mut Network| network.publish(0, Codec::Vp8);
        Self::in_network(Network::with_neighbour(clock::origin(), 30), receivers, publish)
    }

    /// The same, with a picture in three sizes.
    ///
    /// # Panics
    /// Where a client does not get connected.
    pub fn of_simulcast_behind_a_neighbour(receivers: usize) -> Self {
        let network = Network::with_neighbour(clock::origin(), 30);
        Self::in_network(network, receivers, |network| network.publish_simulcast(0))
    }

    fn in_network(
        mut network: Network,
        receivers: usize,
        publish_picture: impl FnOnce(&mut Network) -> TrackId,
    ) -> Self {
        let room = RoomId(1);
        for _ in 0..=receivers {
            network.join(room, Conditions::default());
        }
        let sound = network.publish(0, Codec::Opus);
        let picture = publish_picture(&mut network);
        let tracks = [(sound, Codec::Opus), (picture, Codec::Vp8)];
        for receiver in 1..=receivers {
            for (track, codec) in tracks {
                network.subscribe(receiver, track, codec);
            }
        }
        network.run(Duration::from_secs(10));
        assert!(network.clients.iter().all(super::client::Client::is_connected), "all are connected");
        Self { network, picture, out: vec![0; TRANSMIT_BUFFER] }
    }

    /// Takes the next `count` packets from the publisher, on their way to arrive when they were due.
    pub fn arriving(&mut self, count: usize) -> Vec<Arriving> {
        let mut at = self.network.now;
        let mut arriving = Vec::with_capacity(count);
        while arriving.len() < count {
            match self.network.clients[0].next_packet(at) {
                Some(datagram) => arriving.push(Arriving { from: 0, at, datagram }),
                None => at += Duration::from_millis(1),
            }
        }
        self.network.now = at;
        arriving
    }

    /// Makes the next frame of each picture a key frame.
    pub fn want_key_frames(&mut self) {
        self.network.clients[0].want_key_frames();
    }

    /// A client says how it wants the picture.
    pub fn wish(&mut self, receiver: usize, wish: Wish) {
        let transport = self.network.clients[receiver].id();
        let command = Command::SetWish { transport, track: self.picture, wish };
        self.network.worker.handle_command(self.network.now, command);
    }

    /// A client's request for a packet that it missed, about to arrive.
    ///
    /// # Panics
    /// Never: such a request is small.
    pub fn nack(&mut self, receiver: usize, media: Ssrc, seq: u16) -> Arriving {
        let mut plaintext = [0; 64];
        let mut writer = Writer::new(&mut plaintext);
        writer.nack(Ssrc(1), media, &[seq]).expect("it is small");
        let len = writer.len();
        let datagram = self.network.clients[receiver].seal_rtcp(&plaintext[..len]);
        Arriving { from: receiver, at: self.network.now, datagram }
    }

    /// The worker.
    pub fn worker(&self) -> &Worker {
        &self.network.worker
    }

    /// The other worker of the port, if there is one.
    pub fn neighbour(&self) -> Option<&Worker> {
        self.network.neighbour.as_ref()
    }

    /// Hands one packet to the worker, lets due timers run, and takes everything that leaves. Returns the
    /// number of datagrams that left.
    pub fn forward(&mut self, packet: &mut Arriving) -> usize {
        let mut datagrams = 0;
        self.forward_each(packet, |_, _| datagrams += 1);
        datagrams
    }

    /// The same; calls `left` with each datagram that left and the client that it is for.
    pub fn forward_each(&mut self, packet: &mut Arriving, mut left: impl FnMut(usize, &[u8])) {
        let tuple = Tuple { local: SERVER, remote: self.network.clients[packet.from].address() };
        let Network { worker, neighbour, clients, .. } = &mut self.network;
        if worker.poll_timeout().is_some_and(|due| due <= packet.at) {
            worker.handle_timeout(packet.at);
        }
        take_in(packet.at, worker, neighbour.as_mut(), tuple, &mut packet.datagram);
        while let Some(Transmit { tuple, len, segment, .. }) = worker.poll_transmit(packet.at, &mut self.out)
        {
            let to = clients.iter().position(|client| client.address() == tuple.remote);
            for datagram in self.out[..len].chunks(segment.unwrap_or(len)) {
                to.into_iter().for_each(|to| left(to, datagram));
            }
        }
        while worker.poll_event().is_some() {}
    }
}
