//! One publisher and many receivers with room on their links, as a steady state to measure: what a forwarded
//! packet costs, without the clients' own work.

use std::time::{Duration, Instant};

use super::clock;
use super::network::{Network, SERVER, take_in};
use super::path::Conditions;
use crate::rtp::params::Codec;
use crate::units::RoomId;
use crate::worker::{TRANSMIT_BUFFER, Tuple, Worker};

/// A connected lesson whose media has flowed for some seconds.
pub struct FanOut {
    network: Network,
    out: Vec<u8>,
}

/// A sealed packet of the publisher and the moment of its arrival.
pub struct Arriving {
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
        Self::in_network(Network::new(clock::origin(), 30), receivers)
    }

    /// The same, but all that clients send reaches another worker first, which passes it on.
    ///
    /// # Panics
    /// Where a client does not get connected.
    pub fn behind_a_neighbour(receivers: usize) -> Self {
        Self::in_network(Network::with_neighbour(clock::origin(), 30), receivers)
    }

    fn in_network(mut network: Network, receivers: usize) -> Self {
        let room = RoomId(1);
        for _ in 0..=receivers {
            network.join(room, Conditions::default());
        }
        let tracks = [Codec::Opus, Codec::Vp8].map(|codec| (network.publish(0, codec), codec));
        for receiver in 1..=receivers {
            for (track, codec) in tracks {
                network.subscribe(receiver, track, codec);
            }
        }
        network.run(Duration::from_secs(10));
        assert!(network.clients.iter().all(super::client::Client::is_connected), "all are connected");
        Self { network, out: vec![0; TRANSMIT_BUFFER] }
    }

    /// Takes the next `count` packets from the publisher, on their way to arrive when they were due.
    pub fn arriving(&mut self, count: usize) -> Vec<Arriving> {
        let mut at = self.network.now;
        let mut arriving = Vec::with_capacity(count);
        while arriving.len() < count {
            match self.network.clients[0].next_packet(at) {
                Some(datagram) => arriving.push(Arriving { at, datagram }),
                None => at += Duration::from_millis(1),
            }
        }
        self.network.now = at;
        arriving
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
        let tuple = Tuple { local: SERVER, remote: self.network.clients[0].address() };
        let Network { worker, neighbour, .. } = &mut self.network;
        if worker.poll_timeout().is_some_and(|due| due <= packet.at) {
            worker.handle_timeout(packet.at);
        }
        take_in(packet.at, worker, neighbour.as_mut(), tuple, &mut packet.datagram);
        let mut datagrams = 0;
        while let Some(transmit) = worker.poll_transmit(packet.at, &mut self.out) {
            datagrams += transmit.segment.map_or(1, |segment| transmit.len.div_ceil(segment));
        }
        while worker.poll_event().is_some() {}
        datagrams
    }
}
