//! Whose datagram is it? Finds a transport by address, by ICE username, by id.

use arrayvec::ArrayVec;
use rustc_hash::FxHashMap;

use crate::transport::Tuple;
use crate::units::TransportId;

/// Most addresses that one transport is known by: as many as its ICE session keeps. When it shows another, the
/// one bound longest ago is forgotten.
const MAX_TUPLES: usize = 16;

/// Most ICE usernames that one transport answers to: the current one and, while a restart is under way, the
/// one before.
const MAX_UFRAGS: usize = 2;

/// The names of all transports of a worker. Only authenticated addresses and our own usernames get in, so a
/// fast hash that is open to collisions is safe here.
#[derive(Debug, Default)]
pub(super) struct Routes {
    tuples: FxHashMap<Tuple, u32>,
    ufrags: FxHashMap<String, u32>,
    ids: FxHashMap<TransportId, u32>,
}

/// The names of one transport, kept with it so that they can be taken back.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) id: TransportId,
    tuples: ArrayVec<Tuple, MAX_TUPLES>,
    ufrags: ArrayVec<String, MAX_UFRAGS>,
}

impl Names {
    pub(super) fn new(id: TransportId) -> Self {
        Self { id, tuples: ArrayVec::new(), ufrags: ArrayVec::new() }
    }
}

impl Routes {
    #[inline]
    pub(super) fn by_tuple(&self, tuple: &Tuple) -> Option<u32> {
        self.tuples.get(tuple).copied()
    }

    pub(super) fn by_ufrag(&self, ufrag: &str) -> Option<u32> {
        self.ufrags.get(ufrag).copied()
    }

    pub(super) fn by_id(&self, id: TransportId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    pub(super) fn add_id(&mut self, key: u32, names: &Names) {
        self.ids.insert(names.id, key);
    }

    pub(super) fn add_ufrag(&mut self, key: u32, names: &mut Names, ufrag: String) {
        if names.ufrags.contains(&ufrag) {
            return;
        }
        if names.ufrags.is_full() {
            self.ufrags.remove(&names.ufrags.remove(0));
        }
        self.ufrags.insert(ufrag.clone(), key);
        names.ufrags.push(ufrag);
    }

    /// Binds an authenticated address. An address moves to the transport that authenticated it last: a client
    /// that rejoins from the same port proves itself with the new password.
    pub(super) fn bind(&mut self, key: u32, names: &mut Names, tuple: Tuple) {
        if names.tuples.contains(&tuple) && self.by_tuple(&tuple) == Some(key) {
            return;
        }
        names.tuples.retain(|known| *known != tuple);
        if names.tuples.is_full() {
            let oldest = names.tuples.remove(0);
            self.forget(key, &oldest);
        }
        self.tuples.insert(tuple, key);
        names.tuples.push(tuple);
    }

    /// Takes back an address that the client has given up for newer ones.
    pub(super) fn unbind(&mut self, key: u32, names: &mut Names, tuple: Tuple) {
        names.tuples.retain(|known| *known != tuple);
        self.forget(key, &tuple);
    }

    /// Takes the id back: commands no longer reach the transport.
    pub(super) fn remove_id(&mut self, names: &Names) {
        self.ids.remove(&names.id);
    }

    /// Takes every name back.
    pub(super) fn remove(&mut self, key: u32, names: &Names) {
        for tuple in &names.tuples {
            self.forget(key, tuple);
        }
        for ufrag in &names.ufrags {
            self.ufrags.remove(ufrag);
        }
        if self.by_id(names.id) == Some(key) {
            self.remove_id(names);
        }
    }

    fn forget(&mut self, key: u32, tuple: &Tuple) {
        if self.by_tuple(tuple) == Some(key) {
            self.tuples.remove(tuple);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple { local: ([192, 0, 2, 1], 7882).into(), remote: ([198, 51, 100, 7], port).into() }
    }

    #[test]
    fn a_client_that_sprays_addresses_keeps_only_its_newest() {
        let mut routes = Routes::default();
        let mut names = Names::new(TransportId(1));
        for port in 1..=100 {
            routes.bind(4, &mut names, tuple(port));
        }
        assert_eq!(routes.tuples.len(), MAX_TUPLES);
        assert_eq!(routes.by_tuple(&tuple(100)), Some(4));
        assert_eq!(routes.by_tuple(&tuple(1)), None);
    }

    #[test]
    fn a_username_told_again_does_not_displace_the_one_before() {
        let mut routes = Routes::default();
        let mut names = Names::new(TransportId(1));
        for ufrag in ["00old", "00new", "00new"] {
            routes.add_ufrag(4, &mut names, ufrag.into());
        }
        assert_eq!(routes.by_ufrag("00old"), Some(4), "it counts until the restart is done");
    }

    #[test]
    fn an_address_that_moved_on_is_not_taken_along_when_its_old_transport_goes() {
        let mut routes = Routes::default();
        let (mut old, mut new) = (Names::new(TransportId(1)), Names::new(TransportId(2)));
        routes.add_ufrag(0, &mut old, "00old".into());
        routes.bind(0, &mut old, tuple(5));
        routes.bind(1, &mut new, tuple(5));
        routes.remove(0, &old);
        assert_eq!(routes.by_tuple(&tuple(5)), Some(1));
        assert_eq!(routes.by_ufrag("00old"), None);
    }
}
