//! The DTLS association of a transport: we are the server (RFC 5763 §5) unless the client's description wants
//! to be it, the client proves by its certificate that it is who its session description says, and the keys of
//! SRTP are exported from the handshake (RFC 5764 §4.2).
//!
//! The handshake itself is `rtc::dtls`'s (0.21.1). Three things are done here instead: the first ClientHello is
//! put together before (see `client_hello`); a budget bounds what a peer can make the endpoint keep, for it takes
//! fragments without end; and flights are repeated from here, for the endpoint forgets its timer when the client
//! repeats something, so that a lost ServerHello would be lost for good.
//!
//! The DTLS client's part is for pion: it answers an ICE-lite offer of `actpass` by `passive`.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error as RtcError;
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;
use thiserror::Error;

use super::client_hello::{Hello, HelloBuffer, HelloError};
use super::identity::{Identity, fingerprint_of};
use super::params::{DtlsRole, Fingerprint};
use super::srtp::{Srtp, SrtpProfile};

/// Why a DTLS datagram had no effect, or ended the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DtlsError {
    /// The tuple was not authenticated by ICE.
    #[error("from a tuple that is not bound")]
    UnboundTuple,
    /// Not a sequence of whole DTLS 1.2 records.
    #[error("malformed record")]
    MalformedRecord,
    /// The first ClientHello could not be put together or used.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The handshake took more records than a handshake takes.
    #[error("too many handshake records")]
    TooManyRecords,
    /// The handshake failed: no common parameters, a wrong signature, an alert.
    #[error("the handshake failed")]
    Handshake,
    /// The client's certificate is not the one of its session description.
    #[error("the certificate has another fingerprint")]
    WrongCertificate,
    /// A record of the established association was refused.
    #[error("the record was refused")]
    Refused,
    /// The association is closed.
    #[error("the association is closed")]
    Closed,
}

/// What happened in the association.
pub(super) enum DtlsEvent {
    /// The handshake is done and the client is who it should be.
    Connected(SrtpProfile, Box<Srtp>),
    /// Application data: an SCTP packet.
    Application(BytesMut),
    /// The client closed its side.
    ClosedByPeer,
}

/// Handshake fragments, and records of any kind before the handshake is done, that a client may send. A
/// handshake has about ten in each of two or three flights, and flights repeat. The endpoint searches its
/// fragments recursively, in time quadratic in their number: this bounds both.
const MAX_HANDSHAKE_PARTS: usize = 512;

/// How long a handshake may take from the client's first check on.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// When a flight is first repeated. RFC 6347 §4.2.4.1 says one second, unless the round trip is known to be
/// shorter: a school's line may need 600 ms by satellite, most need 50.
const FIRST_REPEAT: Duration = Duration::from_millis(700);

/// The interval doubles with each repetition up to this.
const LAST_REPEAT: Duration = Duration::from_secs(4);

/// What the endpoint calls its peer. The address plays no part: ICE decides where datagrams go.
pub(super) const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// A transport's DTLS association.
pub(super) struct Dtls {
    state: State,
    expected: Fingerprint,
    /// The client's part.
    role: DtlsRole,
    parts_left: usize,
    outgoing: VecDeque<BytesMut>,
}

enum State {
    /// The handshake is ours to begin, once there is somewhere to send it.
    Idle,
    /// Nothing came, or not all of the first ClientHello.
    Hello(Option<Box<HelloBuffer>>),
    Handshake {
        endpoint: Box<Endpoint>,
        flight: Flight,
    },
    Connected(Box<Endpoint>),
    Closed,
}

/// What was sent last and awaits an answer. Repeated byte by byte: the client takes the records that it missed and
/// drops those that it has.
struct Flight {
    datagrams: Vec<BytesMut>,
    repeat_at: Instant,
    interval: Duration,
}

impl Dtls {
    /// Waits for a client with that certificate and part.
    pub(super) fn new(expected: Fingerprint, role: DtlsRole) -> Self {
        Self {
            state: match role {
                DtlsRole::Client => State::Hello(None),
                DtlsRole::Server => State::Idle,
            },
            expected,
            role,
            parts_left: MAX_HANDSHAKE_PARTS,
            outgoing: VecDeque::new(),
        }
    }

    /// Whether the handshake is not done yet.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Idle | State::Hello(_) | State::Handshake { .. })
    }

    /// Whether it ended, well or not.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Begins the handshake where that is our part. Later calls change nothing.
    pub(super) fn begin(&mut self, now: Instant, identity: &Identity) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        let mut endpoint = Box::new(Endpoint::new(PEER, TransportProtocol::UDP, None));
        endpoint
            .connect(now, PEER, identity.client_config(), None)
            .expect("the address has a port, and the configuration was built for it");
        let flight = Flight::new(now, drain(&mut endpoint));
        self.outgoing.extend(flight.datagrams.iter().cloned());
        self.state = State::Handshake { endpoint, flight };
    }

    /// Takes a datagram. After [`DtlsError::Handshake`], [`DtlsError::WrongCertificate`] or a hello without a
    /// common profile the association is closed; other errors leave it as it was.
    pub(super) fn read(
        &mut self,
        now: Instant,
        identity: &Identity,
        datagram: &[u8],
    ) -> Result<Vec<DtlsEvent>, DtlsError> {
        match &mut self.state {
            State::Hello(buffer) => {
                let buffer = buffer.get_or_insert_with(|| Box::new(HelloBuffer::new(now)));
                match buffer.push(now, datagram) {
                    Ok(None) => Ok(Vec::new()),
                    Ok(Some(hello)) => self.start(now, identity, &hello),
                    Err(error) => {
                        if error == HelloError::NoCommonProfile {
                            self.state = State::Closed;
                        }
                        Err(error.into())
                    }
                }
            }
            State::Handshake { .. } | State::Connected(_) => {
                self.spend(datagram)?;
                self.feed(now, datagram)
            }
            // No tuple is bound before the handshake begins.
            State::Idle => Err(DtlsError::UnboundTuple),
            State::Closed => Err(DtlsError::Closed),
        }
    }

    /// Sends application data. What is sent before the handshake is done, or after it failed, is lost.
    pub(super) fn write(&mut self, now: Instant, bytes: &[u8]) {
        if let State::Connected(endpoint) = &mut self.state
            && endpoint.write(now, PEER, bytes).is_ok()
        {
            self.outgoing.extend(drain(endpoint));
        }
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Hello(buffer) => buffer.as_ref().map(|buffer| buffer.expires()),
            State::Handshake { endpoint, flight } => {
                let endpoint = endpoint.poll_timeout(&PEER).filter(|_| self.role == DtlsRole::Server);
                Some(endpoint.map_or(flight.repeat_at, |at| at.min(flight.repeat_at)))
            }
            // The client repeats its last flight if it misses ours.
            State::Idle | State::Connected(_) | State::Closed => None,
        }
    }

    /// Repeats a flight that was not answered, and forgets a ClientHello that did not become whole.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Hello(buffer) => {
                if buffer.as_ref().is_some_and(|buffer| now >= buffer.expires()) {
                    *buffer = None;
                }
            }
            State::Handshake { endpoint, flight } => {
                if now >= flight.repeat_at {
                    flight.interval = (flight.interval * 2).min(LAST_REPEAT);
                    flight.repeat_at = now + flight.interval;
                    self.outgoing.extend(flight.datagrams.iter().cloned());
                }
                // A server waits for its client to repeat a ClientHello after a lost HelloVerifyRequest
                // (RFC 6347 §4.2.1), but takes the same record for a replay: the endpoint makes a new one.
                if self.role == DtlsRole::Server {
                    // Where it gives up, the time for a handshake ends it.
                    let _ = endpoint.handle_timeout(PEER, now);
                    self.outgoing.extend(drain(endpoint));
                }
            }
            State::Idle | State::Connected(_) | State::Closed => {}
        }
    }

    /// Queues a close_notify where there is someone to tell.
    pub(super) fn close(&mut self, now: Instant) {
        if let State::Handshake { endpoint, .. } | State::Connected(endpoint) = &mut self.state {
            // It only ever returns `Ok`.
            let _ = endpoint.close(now);
            self.outgoing.extend(drain(endpoint));
        }
        self.state = State::Closed;
    }

    /// Makes the endpoint and replays the ClientHello into it.
    fn start(
        &mut self,
        now: Instant,
        identity: &Identity,
        hello: &Hello,
    ) -> Result<Vec<DtlsEvent>, DtlsError> {
        let config = identity.server_config(hello.profile);
        let endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Some(config));
        let flight = Flight::new(now, Vec::new());
        self.state = State::Handshake { endpoint: Box::new(endpoint), flight };
        let mut events = Vec::new();
        for datagram in &hello.datagrams {
            self.spend(datagram)?;
            events.append(&mut self.feed(now, datagram)?);
        }
        Ok(events)
    }

    /// Takes the datagram's handshake parts off the budget.
    fn spend(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        let parts = parts(datagram, self.is_handshaking()).ok_or(DtlsError::MalformedRecord)?;
        self.parts_left = self.parts_left.checked_sub(parts).ok_or(DtlsError::TooManyRecords)?;
        Ok(())
    }

    fn feed(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<DtlsEvent>, DtlsError> {
        let (endpoint, flight) = match &mut self.state {
            State::Handshake { endpoint, flight } => (endpoint, Some(flight)),
            State::Connected(endpoint) => (endpoint, None),
            State::Idle | State::Hello(_) | State::Closed => return Err(DtlsError::Closed),
        };
        let result = endpoint.read(now, PEER, None, BytesMut::from(datagram));
        let datagrams = drain(endpoint);
        if let Some(flight) = flight.filter(|_| !datagrams.is_empty()) {
            *flight = Flight::new(now, datagrams.clone());
        }
        self.outgoing.extend(datagrams);
        let events = match result {
            Ok(events) => events,
            Err(error) => return self.refuse(&error),
        };
        let mut out = Vec::new();
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => out.push(self.complete()?),
                EndpointEvent::ApplicationData(bytes) => out.push(DtlsEvent::Application(bytes)),
                EndpointEvent::PeerClosed => {
                    self.state = State::Closed;
                    out.push(DtlsEvent::ClosedByPeer);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// What an error of the endpoint means: the end of a handshake, or of an association by the client's fatal
    /// alert (such an alert was decrypted, so it is the client's).
    fn refuse(&mut self, error: &RtcError) -> Result<Vec<DtlsEvent>, DtlsError> {
        if self.is_handshaking() {
            self.state = State::Closed;
            return Err(DtlsError::Handshake);
        }
        if matches!(error, RtcError::ErrAlertFatalOrClose) {
            self.state = State::Closed;
            return Ok(vec![DtlsEvent::ClosedByPeer]);
        }
        Err(DtlsError::Refused)
    }

    /// Checks who the client is and exports the SRTP keys.
    fn complete(&mut self) -> Result<DtlsEvent, DtlsError> {
        let State::Handshake { endpoint, .. } = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(DtlsError::Handshake);
        };
        let state = endpoint.get_connection_state(PEER).ok_or(DtlsError::Handshake)?;
        if state.peer_certificates.first().is_none_or(|der| fingerprint_of(der) != self.expected) {
            // Our last flight is queued and would tell the client that all is well.
            self.outgoing.clear();
            return Err(DtlsError::WrongCertificate);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::AesCm128HmacSha1_80,
            _ => return Err(DtlsError::Handshake),
        };
        let len = profile.keying_material();
        let keys = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], len)
            .map_err(|_| DtlsError::Handshake)?;
        let sides = if state.is_client() { Srtp::client } else { Srtp::new };
        let srtp = sides(profile, keys.as_ref()).ok_or(DtlsError::Handshake)?;
        self.state = State::Connected(endpoint);
        Ok(DtlsEvent::Connected(profile, Box::new(srtp)))
    }
}

impl Flight {
    fn new(now: Instant, datagrams: Vec<BytesMut>) -> Self {
        Self { datagrams, repeat_at: now + FIRST_REPEAT, interval: FIRST_REPEAT }
    }
}

fn drain(endpoint: &mut Endpoint) -> Vec<BytesMut> {
    std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect()
}

/// How many handshake fragments the endpoint sees in a datagram; with `all`, every other record counts as one.
/// `None`: not a sequence of whole records that may stand there; an odd one would end a handshake.
fn parts(datagram: &[u8], all: bool) -> Option<usize> {
    const RECORD_HEADER: usize = 13;
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const APPLICATION_DATA: u8 = 23;
    let mut parts = 0;
    let mut rest = datagram;
    while !rest.is_empty() {
        let (header, after) = rest.split_first_chunk::<RECORD_HEADER>()?;
        let (body, after) = after.split_at_checked(u16::from_be_bytes([header[11], header[12]]).into())?;
        // The endpoint drops a datagram that ends with an empty record.
        if body.is_empty() {
            return None;
        }
        let is_plaintext = header[3..5] == [0, 0];
        parts += match header[0] {
            HANDSHAKE if is_plaintext => fragments(body)?,
            // Nobody sees how many there are in an encrypted one, but they have twelve bytes each.
            HANDSHAKE => body.len().div_ceil(FRAGMENT_HEADER),
            CHANGE_CIPHER_SPEC | ALERT => usize::from(all),
            APPLICATION_DATA if !is_plaintext => usize::from(all),
            _ => return None,
        };
        rest = after;
    }
    Some(parts)
}

const FRAGMENT_HEADER: usize = 12;

/// The fragments in the body of a handshake record, counted as the endpoint does: it takes the length of the
/// whole message for the fragment's.
fn fragments(body: &[u8]) -> Option<usize> {
    let mut count = 0;
    let mut rest = body;
    while !rest.is_empty() {
        let (header, after) = rest.split_first_chunk::<FRAGMENT_HEADER>()?;
        let len = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        rest = after.get(len..).unwrap_or(&[]);
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 0, 0, body.len() as u8];
        record.extend_from_slice(body);
        record
    }

    fn message(len: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![11, 0, 0, len, 0, 1, 0, 0, 0, 0, 0, len];
        message.extend_from_slice(bytes);
        message
    }

    #[test]
    fn every_part_that_the_endpoint_would_keep_is_counted() {
        let two = [message(2, b"ab"), message(0, b"")].concat();
        for (datagram, all, count) in [
            (record(22, 0, &message(2, b"ab")), true, Some(1)),
            (record(22, 0, &two), true, Some(2)),
            (record(22, 0, &message(200, b"")), true, Some(1)),
            (
                [record(22, 0, &two), record(20, 0, &[1]), record(22, 1, &[0; 40])].concat(),
                true,
                Some(2 + 1 + 4),
            ),
            (record(23, 1, &[0; 100]), true, Some(1)),
            (record(23, 1, &[0; 100]), false, Some(0)),
            (record(22, 0, &[1; 5]), true, None),
            (record(23, 1, &[0; 100])[..50].to_vec(), false, None),
            (record(23, 1, &[]), false, None),
            (record(23, 0, &[0; 100]), true, None),
            (record(26, 0, &[0; 100]), true, None),
        ] {
            assert_eq!(parts(&datagram, all), count, "{datagram:?}");
        }
    }
}
