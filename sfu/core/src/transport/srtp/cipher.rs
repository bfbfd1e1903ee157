//! The two SRTP transforms, stateless and in place: AES in counter mode with HMAC-SHA1 (RFC 3711 §4) and
//! AES-GCM (RFC 7714), and the derivation of their session keys from a master key (RFC 3711 §4.3).
//!
//! ```text
//!  SRTP    | header .. CSRC, extension | payload (encrypted) .. | tag |
//!  SRTCP   | header, SSRC (8 B) | rest (encrypted) .. | tag | E, index |      AES-GCM
//!  SRTCP   | header, SSRC (8 B) | rest (encrypted) .. | E, index | tag |      AES-CM
//! ```

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::{RTCP_HEADER, RTCP_INDEX, SrtpError, SrtpProfile};

const KEY: usize = 16;
const GCM_SALT: usize = 12;
const CM_SALT: usize = 14;
const HMAC_KEY: usize = 20;
/// The E bit: the packet is encrypted (RFC 3711 §3.4).
const ENCRYPTED: u32 = 1 << 31;

/// The session keys of one direction, of either RTP or RTCP.
pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; GCM_SALT],
    },
    /// Boxed: its keys take 1.7 kB, and few clients need them.
    Cm(Box<CounterMode>),
    /// Nothing is done, in the room of a GCM tag. No handshake leads here.
    #[cfg(feature = "bench")]
    Null,
}

pub(super) struct CounterMode {
    key: EncryptingKey,
    auth: hmac::Key,
    salt: [u8; CM_SALT],
}

/// Which of the session keys of a master key: the label of the encryption key (RFC 3711 §4.3.2); those of the
/// authentication key and of the salt follow it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Rtp = 0,
    Rtcp = 3,
}

impl Cipher {
    /// From a master key and salt of the profile's lengths.
    pub(super) fn derive(
        profile: SrtpProfile,
        usage: Usage,
        master_key: &[u8; KEY],
        master_salt: &[u8],
    ) -> Self {
        // A GCM salt is two bytes shorter; on the right, RFC 7714 §11.
        let mut padded_salt = [0; CM_SALT];
        padded_salt[..master_salt.len()].copy_from_slice(master_salt);
        let (mut key, mut auth, mut salt) = ([0; KEY], [0; HMAC_KEY], [0; CM_SALT]);
        let prf = counter_mode_key(master_key);
        derive_into(&prf, &padded_salt, usage as u8, &mut key);
        derive_into(&prf, &padded_salt, usage as u8 + 1, &mut auth);
        derive_into(&prf, &padded_salt, usage as u8 + 2, &mut salt);
        match profile {
            SrtpProfile::AeadAes128Gcm => {
                Self::gcm(&key, *salt.first_chunk().expect("a GCM salt is shorter than a CM salt"))
            }
            SrtpProfile::AesCm128HmacSha1_80 => Self::cm(&key, &auth, salt),
        }
    }

    fn gcm(key: &[u8; KEY], salt: [u8; GCM_SALT]) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("the key has AES-128's length");
        Self::Gcm { key: LessSafeKey::new(key), salt }
    }

    fn cm(key: &[u8; KEY], auth: &[u8; HMAC_KEY], salt: [u8; CM_SALT]) -> Self {
        let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth);
        Self::Cm(Box::new(CounterMode { key: counter_mode_key(key), auth, salt }))
    }

    /// Seals the packet in `buf[..len]` and returns its length on the wire. `buf` has room for the tag.
    pub(super) fn seal_rtp(&self, buf: &mut [u8], header: usize, len: usize, ssrc: u32, index: u64) -> usize {
        match self {
            Self::Gcm { key, salt } => {
                let (aad, rest) = buf.split_at_mut(header);
                let (payload, rest) = rest.split_at_mut(len - header);
                let nonce = gcm_nonce(salt, ssrc, index);
                let tag = seal(key, nonce, aad, payload);
                rest[..tag.len()].copy_from_slice(&tag);
                len + tag.len()
            }
            Self::Cm(keys) => {
                let CounterMode { key, auth, salt } = keys.as_ref();
                apply_keystream(key, cm_iv(salt, ssrc, index), &mut buf[header..len]);
                let tag = cm_tag(auth, &buf[..len], rollover(index));
                buf[len..len + tag.len()].copy_from_slice(&tag);
                len + tag.len()
            }
            #[cfg(feature = "bench")]
            Self::Null => len + GCM_TAG,
        }
    }

    /// Opens a packet and returns its length without the tag; the packet is at least header and tag long.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm { key, salt } => {
                let (aad, sealed) = packet.split_at_mut(header);
                let nonce = gcm_nonce(salt, ssrc, index);
                Ok(header + open(key, nonce, aad, sealed)?)
            }
            Self::Cm(keys) => {
                let CounterMode { key, auth, salt } = keys.as_ref();
                let len = packet.len() - CM_TAG;
                let (packet, tag) = packet.split_at_mut(len);
                verify(&cm_tag(auth, packet, rollover(index)), tag)?;
                apply_keystream(key, cm_iv(salt, ssrc, index), &mut packet[header..]);
                Ok(len)
            }
            #[cfg(feature = "bench")]
            Self::Null => Ok(packet.len() - GCM_TAG),
        }
    }

    /// As [`Self::seal_rtp`]; `buf` has room for tag and index.
    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, ssrc: u32, index: u32) -> usize {
        let word = (ENCRYPTED | index).to_be_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(buf, word);
                let (payload, rest) = buf[RTCP_HEADER..].split_at_mut(len - RTCP_HEADER);
                let tag = seal(key, gcm_nonce(salt, ssrc, index.into()), &aad, payload);
                rest[..tag.len()].copy_from_slice(&tag);
                rest[tag.len()..tag.len() + RTCP_INDEX].copy_from_slice(&word);
                len + tag.len() + RTCP_INDEX
            }
            Self::Cm(keys) => {
                let CounterMode { key, auth, salt } = keys.as_ref();
                apply_keystream(key, cm_iv(salt, ssrc, index.into()), &mut buf[RTCP_HEADER..len]);
                let signed = len + RTCP_INDEX;
                buf[len..signed].copy_from_slice(&word);
                let tag = cm_tag(auth, &buf[..signed], None);
                buf[signed..signed + tag.len()].copy_from_slice(&tag);
                signed + tag.len()
            }
            #[cfg(feature = "bench")]
            Self::Null => {
                let end = len + GCM_TAG + RTCP_INDEX;
                buf[end - RTCP_INDEX..end].copy_from_slice(&word);
                end
            }
        }
    }

    /// The index that an SRTCP packet names; the packet is at least header, tag and index long.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let end = match self {
            Self::Gcm { .. } => packet.len(),
            Self::Cm(_) => packet.len() - CM_TAG,
            #[cfg(feature = "bench")]
            Self::Null => packet.len(),
        };
        let word = packet[..end].last_chunk().map_or(0, |word| u32::from_be_bytes(*word));
        // Both profiles of RFC 5764 and RFC 7714 encrypt RTCP; without the E bit something was stripped.
        if word & ENCRYPTED == 0 { Err(SrtpError::Unencrypted) } else { Ok(word & !ENCRYPTED) }
    }

    /// As [`Self::open_rtp`], with the index that [`Self::rtcp_index`] read.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index: u32) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(packet, (ENCRYPTED | index).to_be_bytes());
                let end = packet.len() - RTCP_INDEX;
                let sealed = &mut packet[RTCP_HEADER..end];
                Ok(RTCP_HEADER + open(key, gcm_nonce(salt, ssrc, index.into()), &aad, sealed)?)
            }
            Self::Cm(keys) => {
                let CounterMode { key, auth, salt } = keys.as_ref();
                let end = packet.len() - CM_TAG;
                let (signed, tag) = packet.split_at_mut(end);
                verify(&cm_tag(auth, signed, None), tag)?;
                let len = signed.len() - RTCP_INDEX;
                apply_keystream(key, cm_iv(salt, ssrc, index.into()), &mut signed[RTCP_HEADER..len]);
                Ok(len)
            }
            #[cfg(feature = "bench")]
            Self::Null => Ok(packet.len() - RTCP_INDEX - GCM_TAG),
        }
    }
}

fn seal(key: &LessSafeKey, nonce: [u8; GCM_SALT], aad: &[u8], payload: &mut [u8]) -> [u8; GCM_TAG] {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), payload);
    let tag = tag.expect("AES-GCM seals anything that fits a datagram");
    tag.as_ref().try_into().expect("an AES-GCM tag has 16 bytes")
}

fn open(key: &LessSafeKey, nonce: [u8; GCM_SALT], aad: &[u8], sealed: &mut [u8]) -> Result<usize, SrtpError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place(nonce, Aad::from(aad), sealed);
    opened.map(|payload| payload.len()).map_err(|_| SrtpError::Unauthentic)
}

/// Salt XOR `00 00 | SSRC | index (48 bits)` (RFC 7714 §8.1; §9.1 for RTCP, whose index has 31 bits).
fn gcm_nonce(salt: &[u8; GCM_SALT], ssrc: u32, index: u64) -> [u8; GCM_SALT] {
    let value = u128::from(ssrc) << 48 | u128::from(index);
    xor(*salt, value.to_be_bytes().last_chunk().expect("12 of 16 bytes"))
}

/// The RTCP header and the word with the E bit and the index (RFC 7714 §9.2).
fn gcm_rtcp_aad(packet: &[u8], word: [u8; RTCP_INDEX]) -> [u8; RTCP_HEADER + RTCP_INDEX] {
    let mut aad = [0; RTCP_HEADER + RTCP_INDEX];
    aad[..RTCP_HEADER].copy_from_slice(&packet[..RTCP_HEADER]);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    aad
}

/// (salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16) (RFC 3711 §4.1.1).
fn cm_iv(salt: &[u8; CM_SALT], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..CM_SALT].copy_from_slice(salt);
    xor(iv, &(u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes())
}

fn cm_tag(auth: &hmac::Key, signed: &[u8], rollover: Option<[u8; 4]>) -> [u8; CM_TAG] {
    let mut context = hmac::Context::with_key(auth);
    context.update(signed);
    if let Some(rollover) = rollover {
        context.update(&rollover);
    }
    *context.sign().as_ref().first_chunk().expect("SHA-1 has 20 bytes")
}

/// The rollover counter is signed, not sent (RFC 3711 §4.2).
fn rollover(index: u64) -> Option<[u8; 4]> {
    Some(((index >> 16) as u32).to_be_bytes())
}

fn verify(expected: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
    verify_slices_are_equal(expected, tag).map_err(|_| SrtpError::Unauthentic)
}

fn counter_mode_key(key: &[u8; KEY]) -> EncryptingKey {
    let key = UnboundCipherKey::new(&AES_128, key).expect("the key has AES-128's length");
    EncryptingKey::ctr(key).expect("AES-128 has a counter mode")
}

fn apply_keystream(key: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) {
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(bytes, context).expect("counter mode takes any length and a 128-bit IV");
}

/// The key derivation of RFC 3711 §4.3.1 with a derivation rate of zero.
fn derive_into(prf: &EncryptingKey, master_salt: &[u8; CM_SALT], label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..CM_SALT].copy_from_slice(master_salt);
    iv[7] ^= label;
    out.fill(0);
    apply_keystream(prf, iv, out);
}

fn xor<const N: usize>(mut left: [u8; N], right: &[u8; N]) -> [u8; N] {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

/// Bytes of an AES-GCM tag (RFC 7714 §13.2: the 8-byte tags are gone).
pub(super) const GCM_TAG: usize = 16;
/// Bytes of an HMAC-SHA1-80 tag.
pub(super) const CM_TAG: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn array<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    fn rfc7714() -> Cipher {
        Cipher::gcm(&array("000102030405060708090a0b0c0d0e0f"), array("517569642070726f2071756f"))
    }

    #[test]
    fn gcm_seals_the_rtp_packet_of_rfc_7714_16_1_1() {
        let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
             69736120 696e2070 61727465 73207472 6573");
        let sealed = hex("8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
             0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce");
        let mut buf = plain.clone();
        buf.resize(sealed.len(), 0);
        assert_eq!(rfc7714().seal_rtp(&mut buf, 12, plain.len(), 0x5501_a0b2, 0xf17b), sealed.len());
        assert_eq!(buf, sealed);
        assert_eq!(rfc7714().open_rtp(&mut buf, 12, 0x5501_a0b2, 0xf17b), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }

    #[test]
    fn gcm_seals_the_rtcp_packet_of_rfc_7714_17_1() {
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
             deadbeef deadbeef deadbeef deadbeef deadbeef");
        let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
             c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
             45d9eade 800005d4");
        let mut buf = plain.clone();
        buf.resize(sealed.len(), 0);
        assert_eq!(rfc7714().seal_rtcp(&mut buf, plain.len(), 0x4d61_7273, 0x5d4), sealed.len());
        assert_eq!(buf, sealed);
        assert_eq!(rfc7714().rtcp_index(&buf), Ok(0x5d4));
        assert_eq!(rfc7714().open_rtcp(&mut buf, 0x4d61_7273, 0x5d4), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }

    #[test]
    fn counter_mode_makes_the_keystream_of_rfc_3711_b_2() {
        let key = counter_mode_key(&array("2B7E151628AED2A6ABF7158809CF4F3C"));
        let iv = cm_iv(&array("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"), 0, 0);
        let mut keystream = [0; 48];
        apply_keystream(&key, iv, &mut keystream);
        let expected = hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
             41E95B3BB0A2E8DD477901E4FCA894C0");
        assert_eq!(keystream[..], expected);
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_b_3() {
        let prf = counter_mode_key(&array("E1F97A0D3E018BE0D64FA32C06DE4139"));
        let salt = array("0EC675AD498AFEEBB6960B3AABE6");
        for (label, expected) in [
            (0, "C61E7A93744F39EE10734AFE3FF7A087"),
            (1, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
            (2, "30CBBC08863D8C85D49DB34A9AE1"),
        ] {
            let mut key = vec![0; hex(expected).len()];
            derive_into(&prf, &salt, label, &mut key);
            assert_eq!(key, hex(expected), "label {label}");
        }
    }

    /// The reference packet of libsrtp's test driver, for want of one in RFC 3711.
    #[test]
    fn counter_mode_with_hmac_seals_libsrtps_reference_packet() {
        let cipher = Cipher::derive(
            SrtpProfile::AesCm128HmacSha1_80,
            Usage::Rtp,
            &array("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        );
        let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
        let sealed =
            hex("800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb");
        let mut buf = plain.clone();
        buf.resize(sealed.len(), 0);
        assert_eq!(cipher.seal_rtp(&mut buf, 12, plain.len(), 0xcafe_babe, 0x1234), sealed.len());
        assert_eq!(buf, sealed);
        assert_eq!(cipher.open_rtp(&mut buf, 12, 0xcafe_babe, 0x1234), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }
}
