//! Sealing and opening an SRTP packet in place, by the calls that the product makes: AES-GCM (RFC 7714) and AES in
//! counter mode with HMAC-SHA1 (RFC 3711).
//!
//! Nothing here is secret and nothing keeps an index from coming twice: not for use outside of a measurement.

use std::rc::Rc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use clap::ValueEnum;

use super::clock::thread_cpu;
use super::rounds::{Pass, Stage};
use super::{HEADER, MAX_TAG, PACKET};

/// The SRTP protection profiles of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// AEAD_AES_128_GCM.
    Gcm,
    /// AES_CM_128_HMAC_SHA1_80.
    Sha1,
}

impl Profile {
    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcm => "AES-GCM 128",
            Self::Sha1 => "AES-CM 128, SHA1_80",
        }
    }
}

/// The session key of one destination.
pub enum Key {
    /// AES-GCM and the salt of its nonces.
    Gcm(LessSafeKey, [u8; 12]),
    /// Counter mode and the key that signs; boxed as in the product.
    Cm(Box<(EncryptingKey, hmac::Key)>),
}

impl Key {
    /// `count` keys that differ.
    pub fn set(profile: Profile, count: usize) -> Rc<[Self]> {
        (0..count).map(|n| Self::numbered(profile, n)).collect()
    }

    fn numbered(profile: Profile, n: usize) -> Self {
        let mut bytes = [0x5a; 20];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        match profile {
            Profile::Gcm => {
                let key = UnboundKey::new(&AES_128_GCM, &bytes[..16]).expect("16 bytes are an AES-128 key");
                Self::Gcm(LessSafeKey::new(key), [0xa5; 12])
            }
            Profile::Sha1 => {
                let key = UnboundCipherKey::new(&AES_128, &bytes[..16]).expect("16 bytes are an AES-128 key");
                let key = EncryptingKey::ctr(key).expect("AES-128 has a counter mode");
                let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes);
                Self::Cm(Box::new((key, auth)))
            }
        }
    }

    /// Seals the packet at the start of `buf`, which has room for [`MAX_TAG`] more; returns its length on the wire.
    pub fn seal(&self, buf: &mut [u8], index: u64) -> usize {
        let (packet, rest) = buf.split_at_mut(PACKET);
        match self {
            Self::Gcm(key, salt) => {
                let (header, payload) = packet.split_at_mut(HEADER);
                let tag = key.seal_in_place_separate_tag(nonce(salt, index), Aad::from(&*header), payload);
                let tag = tag.expect("AES-GCM seals anything that fits a datagram");
                rest[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
                PACKET + tag.as_ref().len()
            }
            Self::Cm(keys) => {
                let (key, auth) = keys.as_ref();
                apply_keystream(key, index, &mut packet[HEADER..]);
                rest[..CM_TAG].copy_from_slice(&cm_tag(auth, packet, index));
                PACKET + CM_TAG
            }
        }
    }

    /// Opens a packet as it came from the wire.
    ///
    /// # Errors
    /// When it was not sealed with this key and index.
    pub fn open(&self, packet: &mut [u8], index: u64) -> anyhow::Result<()> {
        anyhow::ensure!(packet.len() > PACKET, "a packet of {} bytes is none of ours", packet.len());
        let opened = match self {
            Self::Gcm(key, salt) => {
                let (header, sealed) = packet.split_at_mut(HEADER);
                key.open_in_place(nonce(salt, index), Aad::from(&*header), sealed).map(|_| ())
            }
            Self::Cm(keys) => {
                let (key, auth) = keys.as_ref();
                let (packet, tag) = packet.split_at_mut(PACKET);
                let verified = verify_slices_are_equal(&cm_tag(auth, packet, index), tag);
                apply_keystream(key, index, &mut packet[HEADER..]);
                verified
            }
        };
        opened.map_err(|_| anyhow::anyhow!("packet {index} is not authentic"))
    }
}

fn nonce(salt: &[u8; 12], index: u64) -> Nonce {
    let mut nonce = *salt;
    nonce[4..].iter_mut().zip(index.to_be_bytes()).for_each(|(byte, index)| *byte ^= index);
    Nonce::assume_unique_for_key(nonce)
}

fn apply_keystream(key: &EncryptingKey, index: u64, bytes: &mut [u8]) {
    let iv = (u128::from(index) << 16).to_be_bytes();
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(bytes, context).expect("counter mode takes any length and a 128-bit IV");
}

fn cm_tag(auth: &hmac::Key, signed: &[u8], index: u64) -> [u8; CM_TAG] {
    let mut context = hmac::Context::with_key(auth);
    context.update(signed);
    context.update(&((index >> 16) as u32).to_be_bytes());
    *context.sign().as_ref().first_chunk().expect("SHA-1 has 20 bytes")
}

/// Bytes of an HMAC-SHA1-80 tag.
const CM_TAG: usize = 10;

/// Sealing alone, with each destination's key in turn.
pub struct Seal {
    keys: Rc<[Key]>,
    buf: [u8; PACKET + MAX_TAG],
    index: u64,
}

impl Seal {
    /// With `keys` in turn.
    pub fn new(keys: Rc<[Key]>) -> Self {
        Self { keys, buf: [0; PACKET + MAX_TAG], index: 0 }
    }
}

impl Stage for Seal {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let rounds = BATCH.div_ceil(self.keys.len());
        let start = thread_cpu();
        for _ in 0..rounds {
            for key in self.keys.iter() {
                key.seal(&mut self.buf, self.index);
            }
            self.index += 1;
        }
        Ok(Pass { spent: thread_cpu() - start, packets: (rounds * self.keys.len()) as u64 })
    }
}

/// Opening alone; all packets come from one client.
pub struct Open {
    keys: Rc<[Key]>,
    packets: Vec<[u8; PACKET + MAX_TAG]>,
}

impl Open {
    /// With the first of `keys`.
    pub fn new(keys: Rc<[Key]>) -> Self {
        Self { keys, packets: vec![[0; PACKET + MAX_TAG]; BATCH] }
    }
}

impl Stage for Open {
    fn pass(&mut self) -> anyhow::Result<Pass> {
        let key = &self.keys[0];
        let mut len = 0;
        for (index, packet) in (0..).zip(&mut self.packets) {
            len = key.seal(packet, index);
        }
        let start = thread_cpu();
        for (index, packet) in (0..).zip(&mut self.packets) {
            key.open(&mut packet[..len], index)?;
        }
        Ok(Pass { spent: thread_cpu() - start, packets: self.packets.len() as u64 })
    }
}

/// Packets between two looks at the clock, so that these cost next to nothing.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [(Profile, usize); 2] = [(Profile::Gcm, 16), (Profile::Sha1, 10)];

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_index_alone() {
        for (profile, tag) in PROFILES {
            let keys = Key::set(profile, 2);
            let mut sealed = [7; PACKET + MAX_TAG];
            let len = keys[0].seal(&mut sealed, 1 << 20);
            assert_eq!(len, PACKET + tag);
            for (key, index, ok) in [(0, 1 << 20, true), (0, 1, false), (1, 1 << 20, false)] {
                let mut packet = sealed;
                let opened = keys[key].open(&mut packet[..len], index);
                assert_eq!(opened.is_ok(), ok, "{profile:?} key {key} index {index}");
                assert_eq!(packet[..PACKET] == [7; PACKET], ok, "{profile:?} key {key} index {index}");
            }
        }
    }

    #[test]
    fn a_packet_cut_short_is_refused() {
        for (profile, _) in PROFILES {
            assert!(Key::set(profile, 1)[0].open(&mut [0; PACKET], 0).is_err());
        }
    }

    #[test]
    fn a_pass_seals_with_each_key_and_opens_a_batch() {
        for (profile, _) in PROFILES {
            let pass = Seal::new(Key::set(profile, 300)).pass().unwrap();
            assert_eq!(pass.packets, 300);
            let pass = Open::new(Key::set(profile, 1)).pass().unwrap();
            assert_eq!(pass.packets, BATCH as u64);
        }
    }
}
