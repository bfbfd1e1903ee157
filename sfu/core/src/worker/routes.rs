//! Whose datagram is it? Finds a transport by address, by ICE username, by id; or the worker that has it.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use rustc_hash::FxHashMap;

use super::elsewhere::Elsewhere;
use super::foreign::{Foreign, News, Notice, WorkerIndex};
use crate::transport::Tuple;
use crate::units::TransportId;

/// Most addresses that one transport is known by: as many as its ICE session keeps. When it shows another, the
/// one bound longest ago is forgotten.
const MAX_TUPLES: usize = 16;

/// Most ICE usernames that one transport answers to: the current one and, while a restart is under way, the
/// one in use before.
const MAX_UFRAGS: usize = 2;

/// The names of all transports of a worker, and the addresses of others' that arrive here. Only authenticated
/// addresses and our own usernames get in, so a fast hash that is open to collisions is safe here.
#[derive(Debug, Default)]
pub(super) struct Routes {
    index: WorkerIndex,
    /// How many workers share the port.
    workers: u16,
    tuples: FxHashMap<Tuple, Bound>,
    ufrags: FxHashMap<String, u32>,
    ids: FxHashMap<TransportId, u32>,
    foreign: Elsewhere,
    /// What other workers have yet to be told.
    notices: VecDeque<(WorkerIndex, Notice)>,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug)]
struct Bound {
    key: u32,
    /// The worker at which its datagrams arrive, where that is another.
    via: Option<WorkerIndex>,
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
    pub(super) fn new(index: WorkerIndex, workers: u16) -> Self {
        Self { index, workers, ..Self::default() }
    }

    #[inline]
    pub(super) fn by_tuple(&self, tuple: &Tuple) -> Option<u32> {
        self.tuples.get(tuple).map(|bound| bound.key)
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

    /// Says what ICE usernames a transport answers to now, instead of those before.
    pub(super) fn set_ufrags<'a>(
        &mut self,
        key: u32,
        names: &mut Names,
        ufrags: impl Iterator<Item = &'a str>,
    ) {
        for old in names.ufrags.drain(..) {
            self.ufrags.remove(&old);
        }
        for ufrag in ufrags.take(MAX_UFRAGS) {
            self.ufrags.insert(ufrag.to_owned(), key);
            names.ufrags.push(ufrag.to_owned());
        }
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
        self.foreign.remove(&tuple);
        self.tuples.insert(tuple, Bound { key, via: None });
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
        if self.by_tuple(tuple) == Some(key)
            && let Some(Bound { via: Some(via), .. }) = self.tuples.remove(tuple)
        {
            self.tell(via, *tuple, News::Unbound);
        }
    }

    // Other workers.

    /// Notes at which worker a check of this transport came in, and lets that one know whose address it is.
    pub(super) fn checked_via(&mut self, key: u32, tuple: Tuple, via: Option<WorkerIndex>) {
        let Some(bound) = self.tuples.get_mut(&tuple).filter(|bound| bound.key == key) else { return };
        bound.via = via;
        if let Some(via) = via {
            self.tell(via, tuple, News::Bound);
        }
    }

    /// Another worker has passed on a datagram from an address that is not bound here: it should not have.
    pub(super) fn correct(&mut self, via: WorkerIndex, tuple: Tuple) {
        if !self.tuples.contains_key(&tuple) {
            self.tell(via, tuple, News::Unbound);
        }
    }

    fn tell(&mut self, to: WorkerIndex, tuple: Tuple, news: News) {
        self.notices.push_back((to, Notice { tuple, owner: self.index, news }));
    }

    /// What the next worker must be told.
    pub(super) fn poll_notice(&mut self) -> Option<(WorkerIndex, Notice)> {
        self.notices.pop_front()
    }

    /// Whether all have been told what they must know before a client is answered.
    pub(super) fn all_told(&self) -> bool {
        self.notices.iter().all(|(_, notice)| notice.news == News::Unbound)
    }

    /// Believes another worker. As with our own, the transport counts that authenticated an address last.
    /// Returns how many addresses had to be forgotten for want of room.
    pub(super) fn learn(&mut self, notice: Notice) -> usize {
        let Notice { tuple, owner, news } = notice;
        match news {
            News::Bound => {
                self.tuples.remove(&tuple);
                return self.foreign.insert(tuple, owner);
            }
            News::Unbound => {
                if self.foreign.owner(&tuple) == Some(owner) {
                    self.foreign.remove(&tuple);
                }
            }
        }
        0
    }

    /// The other worker that has authenticated this address.
    pub(super) fn bound_elsewhere(&self, tuple: &Tuple) -> Option<Foreign> {
        self.foreign.owner(tuple).map(Foreign::Bound)
    }

    /// The other worker that a STUN request names.
    pub(super) fn claimed_elsewhere(&self, request: &[u8]) -> Option<Foreign> {
        let owner = WorkerIndex::of_request(request)?;
        (owner != self.index && owner.0 < self.workers).then_some(Foreign::Claimed(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::elsewhere::GENERATION;

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
    fn a_transport_is_found_by_the_usernames_that_it_answers_to_and_by_no_former_ones() {
        let mut routes = Routes::default();
        let mut names = Names::new(TransportId(1));
        for (now, found) in [
            (&["00first"][..], [Some(4), None, None]),
            (&["00second", "00first"][..], [Some(4), Some(4), None]),
            (&["00third", "00first"][..], [Some(4), None, Some(4)]),
            (&["00third"][..], [None, None, Some(4)]),
        ] {
            routes.set_ufrags(4, &mut names, now.iter().copied());
            assert_eq!(["00first", "00second", "00third"].map(|ufrag| routes.by_ufrag(ufrag)), found);
        }
        routes.remove(4, &names);
        assert_eq!(routes.by_ufrag("00third"), None);
    }

    #[test]
    fn an_address_that_moved_on_is_not_taken_along_when_its_old_transport_goes() {
        let mut routes = Routes::default();
        let (mut old, mut new) = (Names::new(TransportId(1)), Names::new(TransportId(2)));
        routes.set_ufrags(0, &mut old, ["00old"].into_iter());
        routes.bind(0, &mut old, tuple(5));
        routes.bind(1, &mut new, tuple(5));
        routes.remove(0, &old);
        assert_eq!(routes.by_tuple(&tuple(5)), Some(1));
        assert_eq!(routes.by_ufrag("00old"), None);
    }

    const ME: WorkerIndex = WorkerIndex(0);
    const OTHER: WorkerIndex = WorkerIndex(1);

    fn notice(owner: WorkerIndex, tuple: Tuple, news: News) -> Notice {
        Notice { tuple, owner, news }
    }

    #[test]
    fn an_address_belongs_to_whom_authenticated_it_last_on_whichever_worker() {
        let mut routes = Routes::new(ME, 3);
        let mut names = Names::new(TransportId(1));
        let from = |owner, news| notice(owner, tuple(5), news);
        routes.bind(4, &mut names, tuple(5));
        assert_eq!(routes.learn(from(OTHER, News::Bound)), 0);
        assert_eq!(routes.by_tuple(&tuple(5)), None);
        assert_eq!(routes.bound_elsewhere(&tuple(5)), Some(Foreign::Bound(OTHER)));

        // The transport that had it before goes: that changes nothing, here or there.
        routes.remove(4, &names);
        let third = WorkerIndex(2);
        routes.learn(from(third, News::Unbound));
        assert_eq!(routes.bound_elsewhere(&tuple(5)), Some(Foreign::Bound(OTHER)));

        let mut names = Names::new(TransportId(2));
        routes.bind(6, &mut names, tuple(5));
        assert_eq!((routes.by_tuple(&tuple(5)), routes.bound_elsewhere(&tuple(5))), (Some(6), None));
    }

    #[test]
    fn whoever_was_told_of_an_address_is_told_when_it_goes() {
        let mut routes = Routes::new(ME, 2);
        let mut names = Names::new(TransportId(1));
        for port in 1..=3 {
            routes.bind(4, &mut names, tuple(port));
        }
        routes.checked_via(4, tuple(1), Some(OTHER));
        routes.checked_via(4, tuple(2), None);
        routes.checked_via(4, tuple(3), Some(OTHER));
        routes.checked_via(5, tuple(3), Some(OTHER));
        routes.unbind(4, &mut names, tuple(1));
        routes.remove(4, &names);
        let told: Vec<_> = std::iter::from_fn(|| routes.poll_notice()).collect();
        let to_other = |port, news| (OTHER, notice(ME, tuple(port), news));
        assert_eq!(
            told,
            [
                to_other(1, News::Bound),
                to_other(3, News::Bound),
                to_other(1, News::Unbound),
                to_other(3, News::Unbound),
            ]
        );
    }

    #[test]
    fn what_others_tell_is_bounded_and_makes_room_for_what_is_in_use() {
        let mut routes = Routes::new(ME, 2);
        let far = |n: u32| Tuple {
            local: ([192, 0, 2, 1], 7882).into(),
            remote: ((n >> 16 | 0x0A00_0000).to_be_bytes(), n as u16).into(),
        };
        let mut forgotten = 0;
        for n in 0..5 * GENERATION as u32 {
            forgotten += routes.learn(notice(OTHER, far(n), News::Bound));
            if n % 1000 == 0 {
                // The next check of a client.
                forgotten += routes.learn(notice(OTHER, tuple(1), News::Bound));
            }
            assert_eq!(routes.bound_elsewhere(&tuple(1)), Some(Foreign::Bound(OTHER)), "{n}");
            assert_eq!(routes.bound_elsewhere(&far(n)), Some(Foreign::Bound(OTHER)));
        }
        assert_eq!(routes.bound_elsewhere(&far(0)), None);
        assert!(routes.foreign.len() <= 2 * GENERATION);
        assert_eq!(routes.foreign.len() + forgotten, 5 * GENERATION + 1);
        routes.learn(notice(OTHER, tuple(1), News::Unbound));
        assert_eq!(routes.bound_elsewhere(&tuple(1)), None);
    }
}
