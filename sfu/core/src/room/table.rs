//! A slot map for what packets pass through. That of the crate `slotmap`, whose keys these are, keeps a slot's version
//! behind its value and puts slots end to end: to find out whether a key is still good costs a cache line, and each
//! value begins somewhere in another one. Here a slot begins a line, its version first.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use slotmap::{Key, KeyData};

/// Values under keys that never name a later value in the same place.
pub(super) struct Table<K, V> {
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
    keys: PhantomData<fn() -> K>,
}

/// Its kind is not folded into the value, where it could lie anywhere.
#[repr(u32, align(64))]
enum Slot<V> {
    /// Was given up this often, times two.
    Free { version: u32 },
    /// With the version of its key, which is odd.
    Taken { version: u32, value: V },
}

/// Bytes of a slot in front of a value that is aligned to 8.
#[cfg(test)]
pub(super) const SLOT_HEAD: usize = 8;

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), keys: PhantomData }
    }
}

impl<K: Key, V> Table<K, V> {
    pub(super) fn insert(&mut self, value: V) -> K {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free { version: 0 });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[place as usize];
        let (Slot::Free { version } | Slot::Taken { version, .. }) = *slot;
        let version = version | 1;
        *slot = Slot::Taken { version, value };
        key(place as usize, version)
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (place, version) = place_of(key);
        self.get(key)?;
        let slot = std::mem::replace(&mut self.slots[place], Slot::Free { version: version.wrapping_add(1) });
        self.free.push(place as u32);
        slot.into_value()
    }

    #[inline]
    pub(super) fn get(&self, key: K) -> Option<&V> {
        let (place, named) = place_of(key);
        match self.slots.get(place)? {
            Slot::Taken { version, value } if *version == named => Some(value),
            Slot::Taken { .. } | Slot::Free { .. } => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (place, named) = place_of(key);
        match self.slots.get_mut(place)? {
            Slot::Taken { version, value } if *version == named => Some(value),
            Slot::Taken { .. } | Slot::Free { .. } => None,
        }
    }

    pub(super) fn contains_key(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| match slot {
            Slot::Taken { version, value } => Some((key(place, *version), value)),
            Slot::Free { .. } => None,
        })
    }

    /// The same.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.slots.iter_mut().enumerate().filter_map(|(place, slot)| match slot {
            Slot::Taken { version, value } => Some((key(place, *version), value)),
            Slot::Free { .. } => None,
        })
    }

    /// The same without their keys.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }
}

impl<V> Slot<V> {
    fn into_value(self) -> Option<V> {
        match self {
            Self::Taken { value, .. } => Some(value),
            Self::Free { .. } => None,
        }
    }
}

/// The place a key names, and the version of what it names there. Its halves count as those of a `slotmap` do, where
/// place 0 is nobody's.
#[inline]
fn place_of(key: impl Key) -> (usize, u32) {
    let halves = key.data().as_ffi();
    ((halves as u32).wrapping_sub(1) as usize, (halves >> 32) as u32)
}

fn key<K: Key>(place: usize, version: u32) -> K {
    KeyData::from_ffi(u64::from(version) << 32 | (place as u64 + 1)).into()
}

impl<K: Key, V> Index<K> for Table<K, V> {
    type Output = V;

    #[inline]
    fn index(&self, key: K) -> &V {
        self.get(key).expect("a key is used only while it is good")
    }
}

impl<K: Key, V> IndexMut<K> for Table<K, V> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut V {
        self.get_mut(key).expect("a key is used only while it is good")
    }
}

#[cfg(test)]
mod tests {
    use slotmap::{DefaultKey, SlotMap};

    use super::*;
    use crate::testing::Random;

    #[test]
    fn a_key_never_names_what_took_its_place() {
        let mut table = Table::<DefaultKey, char>::default();
        let (a, b) = (table.insert('a'), table.insert('b'));
        assert_eq!((table.remove(a), table.remove(a)), (Some('a'), None));
        let c = table.insert('c');
        assert_eq!(place_of(a).0, place_of(c).0, "its place is used again");
        assert_eq!((table.get(a), table.contains_key(a)), (None, false));
        assert_eq!(table.get_mut(a), None);
        assert_eq!((table[b], table[c], table.len()), ('b', 'c', 2));
        assert_eq!(table.get(DefaultKey::null()), None);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(c, &'c'), (b, &'b')]);
    }

    #[test]
    fn whatever_happens_it_holds_what_a_slot_map_holds() {
        let mut random = Random::new(7);
        let (mut table, mut model) = (Table::<DefaultKey, u64>::default(), SlotMap::new());
        let mut keys = Vec::new();
        for value in 0..2000 {
            if random.below(5) < 3 || keys.is_empty() {
                keys.push((table.insert(value), model.insert(value)));
            } else {
                // Some for the second time.
                let (own, other) = keys[random.below(keys.len() as u64) as usize];
                assert_eq!(table.remove(own), model.remove(other));
            }
            for (own, other) in &keys {
                assert_eq!(table.get(*own), model.get(*other));
            }
            assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
        }
        assert!(table.iter().map(|(_, value)| value).eq(model.values()));
    }

    #[test]
    fn a_slot_begins_a_cache_line_with_its_version() {
        assert_eq!(align_of::<Slot<u64>>(), 64);
        assert_eq!(size_of::<Slot<[u64; 7]>>(), 64);
        assert_eq!(size_of::<Slot<Box<u64>>>() - SLOT_HEAD, 64 - 8);
    }
}
