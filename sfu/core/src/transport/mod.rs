//! One BUNDLEd ICE + DTLS + SRTP association with a participant (RFC 8835), and the session descriptions that
//! set it up. The only module that knows the `rtc` crates.
//!
//! ```text
//!  STUN --> ice   --> where to send, and for how long the client wants it
//!  DTLS --> dtls  --> SRTP keys; application data --> sctp --> data messages
//!  SRTP --> srtp  --> RTP, RTCP: in place, the only part on the packet path
//! ```
//!
//! The contract is that of every state machine here: after each call that changes something, poll events, then
//! transmits, each until `None`. An event [`TransportEvent::Bound`] comes before the STUN answer that makes
//! the client use the tuple.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sfu_protocol::control::CloseReason;

pub use self::client_hello::HelloError;
pub use self::dtls::DtlsError;
pub use self::ice::StunError;
pub use self::identity::{Identity, IdentityError};
pub use self::sctp::DataError;
pub use self::srtp::{MAX_RTCP_OVERHEAD, MAX_RTP_OVERHEAD, SrtpError};

use self::dtls::{Dtls, DtlsEvent, HANDSHAKE_TIMEOUT};
use self::ice::IceLite;
use self::params::{DtlsRole, IceCredentials, RemoteParams, SctpParams};
use self::sctp::{Received, Sctp};
use self::srtp::Srtp;
use crate::units::MAX_DATAGRAM_OUT;

#[cfg(feature = "bench")]
pub mod bench;
mod client_hello;
mod dcep;
pub mod demux;
mod dtls;
mod ice;
mod identity;
pub mod params;
#[cfg(feature = "sim")]
pub mod peer;
#[cfg(feature = "sim")]
mod peer_data;
mod sctp;
mod sctp_guard;
pub mod sdp;
mod srtp;

/// Where a datagram came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Our address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
}

/// What the transports of a process share.
#[derive(Debug)]
pub struct TransportConfig {
    /// Our certificate.
    pub identity: Arc<Identity>,
    /// How long a transport lives without an authenticated check from its client.
    pub consent_timeout: Duration,
}

impl TransportConfig {
    /// With [`CONSENT_TIMEOUT`].
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, consent_timeout: CONSENT_TIMEOUT }
    }
}

/// The default of [`TransportConfig::consent_timeout`]: RFC 7675 says 30 s; a school's line may be away longer
/// and its lesson should go on where it stopped.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(120);

/// What a transport reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// The client has authenticated this tuple: its datagrams belong to this transport.
    Bound(Tuple),
    /// The tuple belongs to this transport no longer: the client has newer ones.
    Unbound(Tuple),
    /// The handshake is done: media may flow.
    Connected {
        /// The profile in the registry's spelling, such as `AEAD_AES_128_GCM`.
        srtp_profile: &'static str,
    },
    /// A message came on a data channel.
    Data {
        /// The channel's label.
        channel: String,
        /// The message.
        bytes: Bytes,
    },
    /// The transport has closed itself. It reports nothing after this, but may have a farewell to transmit.
    Closed(CloseReason),
}

/// A participant's transport. In this order in memory: a packet that leaves needs its keys and where it goes.
#[repr(C)]
pub struct Transport {
    srtp: Option<Box<Srtp>>,
    ice: IceLite,
    config: Arc<TransportConfig>,
    dtls: Dtls,
    /// The client's part in the handshake.
    role: DtlsRole,
    sctp_params: Option<SctpParams>,
    sctp: Option<Box<Sctp>>,
    /// When the handshake has to be done; set by the client's first check.
    handshake_until: Option<Instant>,
    is_closed: bool,
    answers: VecDeque<(Tuple, Vec<u8>)>,
    events: VecDeque<TransportEvent>,
}

impl Transport {
    /// Waits for the client's checks, at most the consent timeout.
    pub fn new(
        now: Instant,
        config: &Arc<TransportConfig>,
        local: IceCredentials,
        remote: RemoteParams,
    ) -> Self {
        Self {
            config: config.clone(),
            ice: IceLite::new(now, local, remote.ice, config.consent_timeout),
            dtls: Dtls::new(remote.fingerprint, remote.role),
            srtp: None,
            role: remote.role,
            sctp_params: remote.sctp,
            sctp: None,
            handshake_until: None,
            is_closed: false,
            answers: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes new credentials on both sides (RFC 8445 §9). DTLS and the old tuple go on; the old credentials
    /// count until the client nominates a tuple with the new ones.
    pub fn restart_ice(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.ice.restart(local, remote);
    }

    /// Our usernames that its client's checks may have: the newest, and while a restart is under way the one in
    /// use before.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.ufrags()
    }

    /// Whether data channels exist; a later offer may bring them. Open ones stay as they are.
    pub fn set_sctp(&mut self, sctp: Option<SctpParams>) {
        self.sctp_params = sctp;
    }

    /// Takes a STUN message. A genuine check is answered and binds its tuple; anything else is an error without
    /// effect.
    pub fn handle_stun(&mut self, now: Instant, tuple: Tuple, datagram: &[u8]) -> Result<(), StunError> {
        if self.is_closed {
            return Err(StunError::Closed);
        }
        let checked = self.ice.handle(now, tuple, datagram)?;
        self.events.extend(checked.unbound.map(TransportEvent::Unbound));
        self.events.extend(checked.bound.then_some(TransportEvent::Bound(tuple)));
        if self.answers.len() == MAX_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back((tuple, checked.answer));
        self.handshake_until.get_or_insert(now + HANDSHAKE_TIMEOUT);
        self.dtls.begin(now, &self.config.identity);
        Ok(())
    }

    /// Takes a DTLS datagram from a bound tuple. Errors are harmless unless an event
    /// [`TransportEvent::Closed`] says otherwise.
    pub fn handle_dtls(&mut self, now: Instant, tuple: Tuple, datagram: &[u8]) -> Result<(), DtlsError> {
        if self.is_closed {
            return Err(DtlsError::Closed);
        }
        if !self.ice.is_bound(tuple) {
            return Err(DtlsError::UnboundTuple);
        }
        let events = match self.dtls.read(now, &self.config.identity, datagram) {
            Ok(events) => events,
            Err(error) => {
                if self.dtls.is_closed() {
                    self.end(CloseReason::HandshakeFailed);
                }
                return Err(error);
            }
        };
        for event in events {
            match event {
                DtlsEvent::Connected(profile, srtp) => {
                    self.srtp = Some(srtp);
                    self.events.push_back(TransportEvent::Connected { srtp_profile: profile.name() });
                }
                DtlsEvent::Application(packet) => self.handle_sctp(now, packet.freeze()),
                DtlsEvent::ClosedByPeer => self.end(CloseReason::ClosedByPeer),
            }
        }
        self.flush_sctp(now);
        Ok(())
    }

    /// Opens an SRTP packet in place; the length of the RTP packet.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::NotReady)?.unprotect_rtp(packet)
    }

    /// Opens an SRTCP packet in place; the length of the compound RTCP packet.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::NotReady)?.unprotect_rtcp(packet)
    }

    /// Seals the RTP packet in `buf[..len]` in place; the length on the wire, at most [`MAX_RTP_OVERHEAD`]
    /// more. A packet sent before (at most 32,767 numbers ago) may be sealed again if it is byte by byte the
    /// same: a debug build panics if it is not.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::NotReady)?.protect_rtp(buf, len)
    }

    /// Seals the compound RTCP packet in `buf[..len]` in place; the length on the wire, at most
    /// [`MAX_RTCP_OVERHEAD`] more.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::NotReady)?.protect_rtcp(buf, len)
    }

    /// Sends a message on the data channel of that label, as reliably as was agreed when it was opened.
    pub fn send_data(&mut self, now: Instant, channel: &str, bytes: &Bytes) -> Result<(), DataError> {
        self.sctp.as_mut().ok_or(DataError::NoChannel)?.send(now, channel, bytes)?;
        self.flush_sctp(now);
        Ok(())
    }

    /// Writes the next datagram that is not media into `out`, which holds [`MAX_DATAGRAM_OUT`] bytes; where it
    /// goes, and its length.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(Tuple, usize)> {
        if let Some((tuple, answer)) = self.answers.pop_front() {
            out[..answer.len()].copy_from_slice(&answer);
            return Some((tuple, answer.len()));
        }
        let tuple = self.ice.selected()?;
        loop {
            let datagram = self.dtls.poll_transmit()?;
            // An SCTP acknowledgement of very many gaps would be longer; one of fewer gaps follows.
            if datagram.len() <= MAX_DATAGRAM_OUT {
                out[..datagram.len()].copy_from_slice(&datagram);
                return Some((tuple, datagram.len()));
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`]; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        let sctp = self.sctp.as_ref().and_then(|sctp| sctp.poll_timeout());
        let timeouts = [self.handshake_deadline(), self.dtls.poll_timeout(), sctp];
        timeouts.into_iter().flatten().chain([self.ice.consent_until()]).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        if now >= self.ice.consent_until() {
            return self.end(CloseReason::ConsentExpired);
        }
        let is_late = self.handshake_deadline().is_some_and(|deadline| now >= deadline);
        if is_late {
            return self.end(CloseReason::HandshakeFailed);
        }
        self.dtls.handle_timeout(now);
        if let Some(sctp) = &mut self.sctp {
            sctp.handle_timeout(now, &mut report(&mut self.events));
        }
        self.flush_sctp(now);
    }

    /// Where media goes: the tuple that the client nominated last; before any nomination, the first that it
    /// authenticated.
    pub fn tuple(&self) -> Option<Tuple> {
        self.ice.selected()
    }

    /// Closes from our side: the farewell (SCTP abort, DTLS close_notify) is left to transmit. No event.
    pub fn close(&mut self, now: Instant) {
        if let Some(sctp) = &mut self.sctp {
            sctp.close();
        }
        self.flush_sctp(now);
        self.dtls.close(now);
        self.drop_state();
    }

    /// Its parts by name, so that what each holds on the heap can be measured as they are dropped.
    #[cfg(feature = "sim")]
    pub fn into_parts(self) -> [(&'static str, Box<dyn std::any::Any>); 5] {
        let Self { ice, dtls, srtp, sctp, answers, events, .. } = self;
        [
            ("ICE", Box::new(ice)),
            ("DTLS", Box::new(dtls)),
            ("SRTP", Box::new(srtp)),
            ("SCTP", Box::new(sctp)),
            ("queues", Box::new((answers, events))),
        ]
    }

    fn handshake_deadline(&self) -> Option<Instant> {
        self.handshake_until.filter(|_| self.dtls.is_handshaking())
    }

    /// Closes because of something that happened.
    fn end(&mut self, reason: CloseReason) {
        self.drop_state();
        self.events.push_back(TransportEvent::Closed(reason));
    }

    fn drop_state(&mut self) {
        self.is_closed = true;
        self.srtp = None;
        self.sctp = None;
    }

    fn handle_sctp(&mut self, now: Instant, packet: Bytes) {
        let Some(params) = &self.sctp_params else { return };
        let sctp = self.sctp.get_or_insert_with(|| Box::new(Sctp::new(params, self.role)));
        sctp.read(now, packet, &mut report(&mut self.events));
    }

    fn flush_sctp(&mut self, now: Instant) {
        if let Some(sctp) = &mut self.sctp {
            sctp.flush(now, |packet| self.dtls.write(now, packet));
        }
    }
}

/// Makes events of messages.
fn report(events: &mut VecDeque<TransportEvent>) -> impl FnMut(Received) {
    |Received { channel, bytes }| events.push_back(TransportEvent::Data { channel, bytes })
}

/// STUN answers that may wait; a worker polls after each datagram, so there is one.
const MAX_ANSWERS: usize = 16;

/// Fuzz functions of this module's parsers, by name.
#[cfg(feature = "sim")]
pub mod fuzz {
    pub use super::client_hello::fuzz as client_hello;
    pub use super::dcep::fuzz as dcep;
    pub use super::demux::fuzz as demux;
    pub use super::ice::fuzz as stun;
    pub use super::sctp::fuzz as sctp;
    pub use super::sctp_guard::fuzz as sctp_guard;
    pub use super::srtp::fuzz as srtp;
}
