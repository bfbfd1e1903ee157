//! Feature `bench`: transports that are connected without a handshake, so that a measurement has a thousand of them in
//! a moment, and that leave out sealing, so that its cost can be told from the rest's.
//!
//! Nothing here is secret. No packet and no command leads here: only who holds the worker itself can call it.

use std::time::Instant;

use super::srtp::{MAX_RTCP_OVERHEAD, MAX_RTP_OVERHEAD, Srtp, SrtpProfile};
use super::{Transport, TransportEvent, Tuple};

/// Most bytes that a client's packet grows by.
pub const MAX_OVERHEAD: usize =
    if MAX_RTP_OVERHEAD > MAX_RTCP_OVERHEAD { MAX_RTP_OVERHEAD } else { MAX_RTCP_OVERHEAD };

/// What a transport does to its packets. Lengths are the same in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// AEAD_AES_128_GCM both ways.
    Both,
    /// The client's packets are opened; what leaves is left as it is.
    OpenOnly,
    /// Neither.
    None,
}

/// A client's side of a transport that was connected so.
pub struct Client {
    srtp: Srtp,
}

impl Client {
    /// The counterpart of what the worker connected with the same id and protection.
    pub fn new(name: u64, protection: Protection) -> Self {
        let srtp = Srtp::client(PROFILE, &keying_material(name)).expect("the length is the profile's");
        Self {
            srtp: match protection {
                Protection::Both => srtp,
                Protection::OpenOnly => srtp.without_opening(),
                Protection::None => srtp.without_opening().without_sealing(),
            },
        }
    }

    /// Seals the RTP packet in `buf[..len]`; its length on the wire, at most [`MAX_OVERHEAD`] more.
    ///
    /// # Panics
    /// When it is not RTP, or finds no room.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> usize {
        self.srtp.protect_rtp(buf, len).expect("it is RTP, with room behind it")
    }

    /// The same for RTCP.
    ///
    /// # Panics
    /// When it is not RTCP, or finds no room.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> usize {
        self.srtp.protect_rtcp(buf, len).expect("it is RTCP, with room behind it")
    }

    /// Opens an RTP packet of ours; its length. `None` where it is not authentic.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.srtp.unprotect_rtp(packet).ok()
    }
}

impl Transport {
    /// Connects to a client at `tuple`, with keys that follow from `name`.
    pub(crate) fn connect(&mut self, now: Instant, tuple: Tuple, name: u64, protection: Protection) {
        let srtp = Srtp::new(PROFILE, &keying_material(name)).expect("the length is the profile's");
        self.srtp = Some(Box::new(match protection {
            Protection::Both => srtp,
            Protection::OpenOnly => srtp.without_sealing(),
            Protection::None => srtp.without_sealing().without_opening(),
        }));
        self.ice.trust(now, tuple);
        self.events.push_back(TransportEvent::Bound(tuple));
        self.events.push_back(TransportEvent::Connected { srtp_profile: PROFILE.name() });
    }
}

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// Other keys for each name.
fn keying_material(name: u64) -> Vec<u8> {
    let mut material = vec![0x5a; PROFILE.keying_material()];
    for key in material.chunks_exact_mut(16) {
        key[..8].copy_from_slice(&name.to_be_bytes());
    }
    material
}
