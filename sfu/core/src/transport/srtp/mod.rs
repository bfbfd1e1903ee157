//! SRTP and SRTCP in place (RFC 3711, RFC 7714), keyed by DTLS (RFC 5764). Per packet nothing is allocated;
//! the first packets of an SSRC make its entry.
//!
//! Numbering is the caller's: a packet's index follows from its sequence number, so a packet sealed before may
//! be sealed again, byte by byte the same (see `nonce_rule`).

use rustc_hash::FxHashMap;
use thiserror::Error;

use cipher::{Cipher, Usage};
use replay::{ReplayWindow, guess_index};

mod cipher;
#[cfg(debug_assertions)]
mod nonce_rule;
mod replay;

/// Most bytes that protection adds to an RTP packet: an AES-GCM tag.
pub const MAX_RTP_OVERHEAD: usize = cipher::GCM_TAG;

/// Most bytes that protection adds to an RTCP packet: an AES-GCM tag and the index.
pub const MAX_RTCP_OVERHEAD: usize = cipher::GCM_TAG + RTCP_INDEX;

/// A protection profile that we negotiate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SrtpProfile {
    /// RFC 7714; preferred: five times cheaper than the other.
    AeadAes128Gcm,
    /// RFC 3711 and RFC 5764 §4.1.2: every WebRTC endpoint has it.
    AesCm128HmacSha1_80,
}

impl SrtpProfile {
    /// The registry's spelling.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// Bytes that DTLS exports for it: two keys and two salts (RFC 5764 §4.2).
    pub(super) fn keying_material(self) -> usize {
        2 * (MASTER_KEY + self.salt())
    }

    fn salt(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    fn tag(self) -> usize {
        match self {
            Self::AeadAes128Gcm => cipher::GCM_TAG,
            Self::AesCm128HmacSha1_80 => cipher::CM_TAG,
        }
    }
}

/// Why a packet was not protected or unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// There are no keys yet, or no more.
    #[error("no SRTP keys")]
    NotReady,
    /// Not an RTP or RTCP packet, or shorter than its header and tag.
    #[error("malformed")]
    Malformed,
    /// The tag is not that of these bytes.
    #[error("authentication failed")]
    Unauthentic,
    /// The packet came before.
    #[error("replayed")]
    Replayed,
    /// The packet lies behind the replay window.
    #[error("older than the replay window")]
    TooOld,
    /// An RTCP packet says that it is not encrypted.
    #[error("RTCP without encryption")]
    Unencrypted,
    /// There are more SSRCs than we keep state for.
    #[error("too many SSRCs")]
    TooManySsrcs,
    /// The buffer has no room for the tag.
    #[error("no room for the tag")]
    NoRoom,
    /// The indices of the key are used up.
    #[error("the key is used up")]
    Exhausted,
}

/// SSRCs that a client may send on: 25 simulcast tracks with RTX need 150.
const MAX_SSRCS_IN: usize = 1024;

/// SSRCs that we may send on in a transport's life. An entry is never dropped: a forgotten rollover counter
/// would start again, and with it the nonces.
const MAX_SSRCS_OUT: usize = 8192;

const MASTER_KEY: usize = 16;
const RTP_HEADER: usize = 12;
/// The part of an RTCP packet that stays readable: its first header and SSRC.
const RTCP_HEADER: usize = 8;
/// The word with the E bit and the index.
const RTCP_INDEX: usize = 4;

/// Both directions of a transport. In this order in memory, so that what each packet out touches begins here.
#[repr(C)]
pub(super) struct Srtp {
    outbound: Outbound,
    inbound: Inbound,
}

struct Inbound {
    tag: usize,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_windows: FxHashMap<u32, ReplayWindow>,
    rtcp_windows: FxHashMap<u32, ReplayWindow>,
}

#[repr(C)]
struct Outbound {
    tag: usize,
    /// The SSRC of the last packet, which nearly always is that of the next: no table is looked into.
    last: Option<Sent>,
    rtp: Cipher,
    rtcp: Cipher,
    /// The highest index sent on each other SSRC.
    highest: FxHashMap<u32, u64>,
    /// One counter for all SSRCs, which is a counter for each (RFC 3711 §3.2.1).
    next_rtcp_index: u32,
    #[cfg(debug_assertions)]
    nonce_rule: nonce_rule::NonceRule,
}

/// How far an SSRC has got.
#[derive(Clone, Copy)]
struct Sent {
    ssrc: u32,
    /// The highest index sent on it.
    highest: u64,
}

impl Srtp {
    /// From what DTLS exported: client key, server key, client salt, server salt (RFC 5764 §4.2). For the
    /// server's side. `None`: it has another length than [`SrtpProfile::keying_material`].
    pub(super) fn new(profile: SrtpProfile, keying_material: &[u8]) -> Option<Self> {
        let [client, server] = master_keys(profile, keying_material)?;
        Some(Self::with_keys(profile, client, server))
    }

    /// The same for the client's side.
    pub(super) fn client(profile: SrtpProfile, keying_material: &[u8]) -> Option<Self> {
        let [client, server] = master_keys(profile, keying_material)?;
        Some(Self::with_keys(profile, server, client))
    }

    /// Seals nothing any more; opens as before.
    #[cfg(feature = "bench")]
    pub(super) fn without_sealing(mut self) -> Self {
        (self.outbound.rtp, self.outbound.rtcp) = (Cipher::Null, Cipher::Null);
        self
    }

    /// Opens without looking at what it opens; seals as before.
    #[cfg(feature = "bench")]
    pub(super) fn without_opening(mut self) -> Self {
        (self.inbound.rtp, self.inbound.rtcp) = (Cipher::Null, Cipher::Null);
        self
    }

    fn with_keys(profile: SrtpProfile, inbound: MasterKey<'_>, outbound: MasterKey<'_>) -> Self {
        let tag = profile.tag();
        Self {
            inbound: Inbound {
                tag,
                rtp: Cipher::derive(profile, Usage::Rtp, inbound.key, inbound.salt),
                rtcp: Cipher::derive(profile, Usage::Rtcp, inbound.key, inbound.salt),
                rtp_windows: FxHashMap::default(),
                rtcp_windows: FxHashMap::default(),
            },
            outbound: Outbound {
                tag,
                last: None,
                rtp: Cipher::derive(profile, Usage::Rtp, outbound.key, outbound.salt),
                rtcp: Cipher::derive(profile, Usage::Rtcp, outbound.key, outbound.salt),
                highest: FxHashMap::default(),
                next_rtcp_index: 0,
                #[cfg(debug_assertions)]
                nonce_rule: nonce_rule::NonceRule::default(),
            },
        }
    }

    /// Opens an SRTP packet in place and returns the length of the RTP packet.
    pub(super) fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let inbound = &mut self.inbound;
        let RtpHeader { len: header, seq, ssrc } = RtpHeader::parse(packet)?;
        if packet.len() < header + inbound.tag {
            return Err(SrtpError::Malformed);
        }
        let window = window(&inbound.rtp_windows, ssrc)?;
        let index = window.guess(seq)?;
        window.check(index)?;
        let len = inbound.rtp.open_rtp(packet, header, ssrc, index)?;
        inbound.rtp_windows.entry(ssrc).or_default().commit(index);
        Ok(len)
    }

    /// Opens an SRTCP packet in place and returns the length of the compound RTCP packet.
    pub(super) fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let inbound = &mut self.inbound;
        let ssrc = rtcp_ssrc(packet)?;
        if packet.len() < RTCP_HEADER + inbound.tag + RTCP_INDEX {
            return Err(SrtpError::Malformed);
        }
        let index = inbound.rtcp.rtcp_index(packet)?;
        window(&inbound.rtcp_windows, ssrc)?.check(index.into())?;
        let len = inbound.rtcp.open_rtcp(packet, ssrc, index)?;
        inbound.rtcp_windows.entry(ssrc).or_default().commit(index.into());
        Ok(len)
    }

    /// Seals the RTP packet in `buf[..len]` in place and returns its length on the wire.
    pub(super) fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let outbound = &mut self.outbound;
        let RtpHeader { len: header, seq, ssrc } =
            RtpHeader::parse(buf.get(..len).ok_or(SrtpError::NoRoom)?)?;
        if buf.len() < len + outbound.tag {
            return Err(SrtpError::NoRoom);
        }
        let index = outbound.next_index(ssrc, seq)?;
        #[cfg(debug_assertions)]
        outbound.nonce_rule.record(ssrc, index, &buf[..len]);
        Ok(outbound.rtp.seal_rtp(buf, header, len, ssrc, index))
    }

    /// Seals the compound RTCP packet in `buf[..len]` in place and returns its length on the wire.
    pub(super) fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let outbound = &mut self.outbound;
        let ssrc = rtcp_ssrc(buf.get(..len).ok_or(SrtpError::NoRoom)?)?;
        if buf.len() < len + outbound.tag + RTCP_INDEX {
            return Err(SrtpError::NoRoom);
        }
        let index = outbound.next_rtcp_index;
        if index > i32::MAX as u32 {
            return Err(SrtpError::Exhausted);
        }
        outbound.next_rtcp_index += 1;
        Ok(outbound.rtcp.seal_rtcp(buf, len, ssrc, index))
    }
}

/// What one side seals with.
#[derive(Clone, Copy)]
struct MasterKey<'a> {
    key: &'a [u8; MASTER_KEY],
    salt: &'a [u8],
}

/// The client's and the server's keys in what DTLS exported; `None` where its length is wrong.
fn master_keys(profile: SrtpProfile, keying_material: &[u8]) -> Option<[MasterKey<'_>; 2]> {
    if keying_material.len() != profile.keying_material() {
        return None;
    }
    let (client_key, rest) = keying_material.split_first_chunk()?;
    let (server_key, salts) = rest.split_first_chunk()?;
    let (client_salt, server_salt) = salts.split_at(profile.salt());
    Some([MasterKey { key: client_key, salt: client_salt }, MasterKey { key: server_key, salt: server_salt }])
}

impl Outbound {
    /// The index of a packet that leaves now: a new one, or one sent before.
    #[inline]
    fn next_index(&mut self, ssrc: u32, seq: u16) -> Result<u64, SrtpError> {
        let before = match self.last {
            Some(last) if last.ssrc == ssrc => Some(last.highest),
            _ => self.turn_to(ssrc)?,
        };
        let index = guess_index(before, seq).ok_or(SrtpError::TooOld)?;
        if index >> 48 != 0 {
            return Err(SrtpError::Exhausted);
        }
        self.last = Some(Sent { ssrc, highest: before.map_or(index, |highest| highest.max(index)) });
        Ok(index)
    }

    /// Puts the last SSRC among the others. Returns the highest index sent on the next, if there was any.
    #[inline(never)]
    fn turn_to(&mut self, ssrc: u32) -> Result<Option<u64>, SrtpError> {
        if let Some(Sent { ssrc, highest }) = self.last.take() {
            self.highest.insert(ssrc, highest);
        }
        let highest = self.highest.get(&ssrc).copied();
        if highest.is_none() && self.highest.len() >= MAX_SSRCS_OUT {
            return Err(SrtpError::TooManySsrcs);
        }
        Ok(highest)
    }
}

fn window(windows: &FxHashMap<u32, ReplayWindow>, ssrc: u32) -> Result<ReplayWindow, SrtpError> {
    match windows.get(&ssrc) {
        Some(window) => Ok(*window),
        None if windows.len() >= MAX_SSRCS_IN => Err(SrtpError::TooManySsrcs),
        None => Ok(ReplayWindow::default()),
    }
}

/// What SRTP needs of an RTP header.
#[derive(Clone, Copy)]
struct RtpHeader {
    /// Bytes up to the payload: fixed header, CSRCs and extension, which stay readable.
    len: usize,
    seq: u16,
    ssrc: u32,
}

impl RtpHeader {
    fn parse(packet: &[u8]) -> Result<Self, SrtpError> {
        let (fixed, rest) = packet.split_first_chunk::<RTP_HEADER>().ok_or(SrtpError::Malformed)?;
        if fixed[0] >> 6 != 2 {
            return Err(SrtpError::Malformed);
        }
        let csrcs = 4 * usize::from(fixed[0] & 0x0F);
        let mut len = RTP_HEADER + csrcs;
        if fixed[0] & 0x10 != 0 {
            let extension = rest.get(csrcs..).and_then(|rest| rest.first_chunk::<4>());
            let [_, _, high, low] = *extension.ok_or(SrtpError::Malformed)?;
            len += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        }
        if packet.len() < len {
            return Err(SrtpError::Malformed);
        }
        let seq = u16::from_be_bytes([fixed[2], fixed[3]]);
        let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        Ok(Self { len, seq, ssrc })
    }
}

fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    match packet.first_chunk::<RTCP_HEADER>() {
        Some([first, _, _, _, ssrc @ ..]) if first >> 6 == 2 => Ok(u32::from_be_bytes(*ssrc)),
        _ => Err(SrtpError::Malformed),
    }
}

/// Feeds arbitrary bytes as SRTP and SRTCP: they are refused, unless by a chance of 2^-80 nobody will see.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::AesCm128HmacSha1_80] {
        let keying_material = vec![7; profile.keying_material()];
        let mut srtp = Srtp::new(profile, &keying_material).expect("the length is the profile's");
        assert!(srtp.unprotect_rtp(&mut data.to_vec()).is_err());
        assert!(srtp.unprotect_rtcp(&mut data.to_vec()).is_err());
        assert!(srtp.inbound.rtp_windows.is_empty() && srtp.inbound.rtcp_windows.is_empty());
        let mut buf = data.to_vec();
        buf.resize(data.len() + MAX_RTP_OVERHEAD, 0);
        if let Ok(wire) = srtp.protect_rtp(&mut buf, data.len()) {
            let mut peer = mirror(profile, &keying_material);
            assert_eq!(peer.unprotect_rtp(&mut buf[..wire]), Ok(data.len()));
            assert_eq!(&buf[..data.len()], data);
        }
    }
}

/// The client's side of the same keys.
#[cfg(any(test, feature = "sim"))]
fn mirror(profile: SrtpProfile, keying_material: &[u8]) -> Srtp {
    let (keys, salts) = keying_material.split_at(2 * MASTER_KEY);
    let (client_key, server_key) = keys.split_at(MASTER_KEY);
    let (client_salt, server_salt) = salts.split_at(profile.salt());
    let swapped = [server_key, client_key, server_salt, client_salt].concat();
    Srtp::new(profile, &swapped).expect("the length is the same")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::AesCm128HmacSha1_80];

    /// A client and a server with the same keys.
    fn pair(profile: SrtpProfile) -> (Srtp, Srtp) {
        let keying_material: Vec<u8> = (0..profile.keying_material()).map(|i| i as u8).collect();
        (mirror(profile, &keying_material), Srtp::new(profile, &keying_material).unwrap())
    }

    fn rtp(ssrc: u32, seq: u16) -> Vec<u8> {
        // One CSRC and a one-word extension: both stay readable.
        let mut packet = vec![0x91, 96];
        packet.extend_from_slice(&seq.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 1]);
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(&[1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0x10, 9, 0, 0]);
        packet.extend_from_slice(b"what a teacher said");
        packet
    }

    fn rtcp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 201, 0, 1];
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(b"\x81\xce\x00\x02report..");
        packet
    }

    fn seal_rtp(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
        let mut buf = packet.to_vec();
        buf.resize(packet.len() + MAX_RTP_OVERHEAD, 0);
        let wire = srtp.protect_rtp(&mut buf, packet.len()).unwrap();
        buf.truncate(wire);
        buf
    }

    fn seal_rtcp(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
        let mut buf = packet.to_vec();
        buf.resize(packet.len() + MAX_RTCP_OVERHEAD, 0);
        let wire = srtp.protect_rtcp(&mut buf, packet.len()).unwrap();
        buf.truncate(wire);
        buf
    }

    #[test]
    fn a_packet_survives_the_way_in_both_directions() {
        for profile in PROFILES {
            let (mut client, mut server) = pair(profile);
            for (from, to) in [(0, 1), (1, 0)] {
                let ends = [&mut client, &mut server];
                let packet = rtp(5, 10);
                let mut wire = seal_rtp(ends[from], &packet);
                assert_eq!(wire.len(), packet.len() + profile.tag());
                assert_eq!(wire[..24], packet[..24]);
                assert_ne!(wire[24..packet.len()], packet[24..]);
                let len = ends[to].unprotect_rtp(&mut wire).unwrap();
                assert_eq!(wire[..len], packet);
                let report = rtcp(5);
                let mut wire = seal_rtcp(ends[from], &report);
                let len = ends[to].unprotect_rtcp(&mut wire).unwrap();
                assert_eq!(wire[..len], report);
            }
        }
    }

    #[test]
    fn a_replayed_packet_is_refused() {
        for profile in PROFILES {
            let (mut client, mut server) = pair(profile);
            let (media, report) = (seal_rtp(&mut client, &rtp(5, 10)), seal_rtcp(&mut client, &rtcp(5)));
            server.unprotect_rtp(&mut media.clone()).unwrap();
            server.unprotect_rtcp(&mut report.clone()).unwrap();
            assert_eq!(server.unprotect_rtp(&mut media.clone()), Err(SrtpError::Replayed));
            assert_eq!(server.unprotect_rtcp(&mut report.clone()), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn every_changed_bit_and_every_truncation_is_refused_and_forgotten() {
        for profile in PROFILES {
            let (mut client, mut server) = pair(profile);
            let (media, report) = (seal_rtp(&mut client, &rtp(5, 10)), seal_rtcp(&mut client, &rtcp(5)));
            for bit in 0..media.len() * 8 {
                let mut bad = media.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(server.unprotect_rtp(&mut bad).is_err(), "{profile:?} RTP bit {bit}");
            }
            for bit in 0..report.len() * 8 {
                let mut bad = report.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(server.unprotect_rtcp(&mut bad).is_err(), "{profile:?} RTCP bit {bit}");
            }
            for len in 0..media.len() {
                assert!(server.unprotect_rtp(&mut media[..len].to_vec()).is_err(), "{profile:?} RTP {len}");
            }
            for len in 0..report.len() {
                assert!(
                    server.unprotect_rtcp(&mut report[..len].to_vec()).is_err(),
                    "{profile:?} RTCP {len}"
                );
            }
            assert!(server.inbound.rtp_windows.is_empty() && server.inbound.rtcp_windows.is_empty());
            assert!(server.unprotect_rtp(&mut media.clone()).is_ok());
            assert!(server.unprotect_rtcp(&mut report.clone()).is_ok());
        }
    }

    #[test]
    fn the_rollover_counter_follows_reordering_and_loss() {
        for profile in PROFILES {
            let (mut client, mut server) = pair(profile);
            let wire: Vec<_> = [65_530, 65_535, 0, 1].map(|seq| seal_rtp(&mut client, &rtp(5, seq))).to_vec();
            for packet in [&wire[0], &wire[3], &wire[1], &wire[2]] {
                server.unprotect_rtp(&mut packet.clone()).unwrap();
            }
            for seq in (1000..=u16::MAX).step_by(20_000).chain([3, 30_000]) {
                let packet = seal_rtp(&mut client, &rtp(5, seq));
                server.unprotect_rtp(&mut packet.clone()).unwrap();
            }
        }
    }

    #[test]
    fn a_packet_resent_later_is_the_same_on_the_wire() {
        for profile in PROFILES {
            let (mut client, _) = pair(profile);
            let first = seal_rtp(&mut client, &rtp(5, 65_535));
            let second = seal_rtp(&mut client, &rtp(5, 0));
            assert_eq!(seal_rtp(&mut client, &rtp(5, 65_535)), first);
            assert_eq!(seal_rtp(&mut client, &rtp(5, 0)), second);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "two plaintexts under one nonce")]
    fn another_packet_under_a_used_number_panics_in_debug_builds() {
        let (mut client, _) = pair(SrtpProfile::AeadAes128Gcm);
        seal_rtp(&mut client, &rtp(5, 1));
        let mut other = rtp(5, 1);
        *other.last_mut().unwrap() ^= 1;
        seal_rtp(&mut client, &other);
    }

    #[test]
    fn ssrcs_are_bounded_and_the_known_ones_go_on() {
        let (mut client, mut server) = pair(SrtpProfile::AeadAes128Gcm);
        for ssrc in 0..MAX_SSRCS_IN as u32 {
            server.unprotect_rtp(&mut seal_rtp(&mut client, &rtp(ssrc, 1))).unwrap();
        }
        let mut another = seal_rtp(&mut client, &rtp(1 << 20, 1));
        assert_eq!(server.unprotect_rtp(&mut another), Err(SrtpError::TooManySsrcs));
        assert!(server.unprotect_rtp(&mut seal_rtp(&mut client, &rtp(0, 2))).is_ok());
        for ssrc in 0..MAX_SSRCS_OUT as u32 {
            let _ = client.outbound.next_index(ssrc, 1);
        }
        assert_eq!(client.outbound.next_index(1 << 30, 1), Err(SrtpError::TooManySsrcs));
    }

    #[test]
    fn rtcp_without_encryption_is_refused() {
        let (mut client, mut server) = pair(SrtpProfile::AeadAes128Gcm);
        let mut report = seal_rtcp(&mut client, &rtcp(5));
        let word = report.len() - RTCP_INDEX;
        report[word] &= 0x7F;
        assert_eq!(server.unprotect_rtcp(&mut report), Err(SrtpError::Unencrypted));
    }

    #[test]
    fn a_buffer_without_room_for_the_tag_is_an_error() {
        let (mut client, _) = pair(SrtpProfile::AeadAes128Gcm);
        let mut packet = rtp(5, 1);
        let len = packet.len();
        assert_eq!(client.protect_rtp(&mut packet, len), Err(SrtpError::NoRoom));
        assert_eq!(client.protect_rtp(&mut packet, len + 1), Err(SrtpError::NoRoom));
    }
}
