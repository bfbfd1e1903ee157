//! A client's side of a transport: ICE checks, the DTLS client, SRTP with the directions swapped. It stands in
//! for a browser in virtual-time tests and benches, so it is as small as that allows: one address, AEAD_AES_128_GCM
//! only, data channels that it does not use.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::AwsLcRsProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;
use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc::stun::textattrs::TextAttribute;

use super::demux::{Class, classify};
use super::identity::fingerprint_of;
use super::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams, SctpParams};
use super::peer_data::PeerData;
use super::srtp::{Srtp, SrtpError, SrtpProfile};

/// Checks until the first answer come this often, as a browser's do; afterwards they are consent checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// RFC 7675 §5.1: consent checks come every five seconds.
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// The DTLS endpoint's name for the server.
const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// The client. Feed it datagrams and time; drain [`Self::poll_transmit`] after each.
pub struct Peer {
    ice: IceCredentials,
    server: IceCredentials,
    fingerprint: Fingerprint,
    config: Arc<HandshakeConfig>,
    endpoint: Endpoint,
    state: State,
    /// Its data channels and what it says of them, where it has any.
    data: Option<(Box<PeerData>, SctpParams)>,
    next_check: Instant,
    checks: u32,
    outgoing: VecDeque<Vec<u8>>,
    crypto: AwsLcRsProvider,
}

enum State {
    Checking,
    Handshake,
    Connected(Box<Srtp>),
}

/// What a datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// RTP, this many bytes of it, decrypted where it lay.
    Rtp(usize),
    /// RTCP, likewise.
    Rtcp(usize),
    /// Part of the handshake, or not understood.
    Other,
}

impl Peer {
    /// A client with a new certificate that will check a server with these credentials. `name` makes its own
    /// credentials: it must differ between clients.
    pub fn new(now: Instant, name: u32, server: IceCredentials) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["peer".to_owned()], provider.crypto())
            .expect("aws-lc makes P-256 certificates");
        let fingerprint = fingerprint_of(&certificate.certificate[0]);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, Some(SERVER))
            .expect("the configuration is complete");
        Self {
            ice: IceCredentials {
                ufrag: format!("p{name:08x}"),
                pwd: format!("password-of-peer-{name:08x}"),
            },
            server,
            fingerprint,
            config: Arc::new(config),
            endpoint: Endpoint::new(SERVER, TransportProtocol::UDP, None),
            state: State::Checking,
            data: None,
            next_check: now,
            checks: 0,
            outgoing: VecDeque::new(),
            crypto: AwsLcRsProvider::new(),
        }
    }

    /// With data channels: those that the server is to open.
    pub fn with_data_channels(mut self, sctp: SctpParams) -> Self {
        self.data = Some((Box::new(PeerData::new()), sctp));
        self
    }

    /// Checks a server with these credentials from now on: an answer to its offer told them.
    pub fn set_server(&mut self, server: IceCredentials) {
        self.server = server;
    }

    /// What its session description would say.
    pub fn params(&self) -> RemoteParams {
        RemoteParams {
            ice: self.ice.clone(),
            fingerprint: self.fingerprint,
            role: DtlsRole::Client,
            sctp: self.data.as_ref().map(|(_, sctp)| sctp.clone()),
        }
    }

    /// Whether SRTP flows.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Takes in a datagram, decrypting it where it lies.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) -> Opened {
        match (classify(datagram), &mut self.state) {
            (Class::Stun, _) => self.handle_stun(now, datagram),
            (Class::Dtls, _) => self.handle_dtls(now, datagram),
            (Class::Rtp, State::Connected(srtp)) => {
                return srtp.unprotect_rtp(datagram).map_or(Opened::Other, Opened::Rtp);
            }
            (Class::Rtcp, State::Connected(srtp)) => {
                return srtp.unprotect_rtcp(datagram).map_or(Opened::Other, Opened::Rtcp);
            }
            _ => {}
        }
        Opened::Other
    }

    /// Seals the RTP packet in `buf[..len]` and returns its length on the wire.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp()?.protect_rtp(buf, len)
    }

    /// Seals the compound RTCP packet in `buf[..len]` and returns its length on the wire.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp()?.protect_rtcp(buf, len)
    }

    /// The next datagram of checks and handshake.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let data = self.data.as_ref().and_then(|(data, _)| data.poll_timeout());
        self.endpoint.poll_timeout(&SERVER).into_iter().chain(data).chain([self.next_check]).min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_check {
            self.check(now);
        }
        if self.endpoint.poll_timeout(&SERVER).is_some_and(|due| now >= due) {
            // A handshake that fails for good stays unconnected, which is what a test looks at.
            let _ = self.endpoint.handle_timeout(SERVER, now);
        }
        if let Some((data, _)) =
            self.data.as_mut().filter(|(data, _)| data.poll_timeout().is_some_and(|due| now >= due))
        {
            data.handle_timeout(now);
        }
        self.flush_data(now);
        self.drain();
    }

    fn srtp(&mut self) -> Result<&mut Srtp, SrtpError> {
        match &mut self.state {
            State::Connected(srtp) => Ok(srtp),
            _ => Err(SrtpError::NotReady),
        }
    }

    fn check(&mut self, now: Instant) {
        self.checks += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.checks.to_be_bytes());
        let attribute = |typ, value: &[u8]| {
            let value = value.to_vec();
            Box::new(RawAttribute { typ, length: value.len() as u16, value }) as Box<dyn Setter>
        };
        let username = format!("{}:{}", self.server.ufrag, self.ice.ufrag);
        let mut message = Message::new();
        message.transaction_id.0 = id;
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TextAttribute::new(ATTR_USERNAME, username)),
                attribute(ATTR_PRIORITY, &2_130_706_431_u32.to_be_bytes()),
                attribute(ATTR_ICE_CONTROLLING, &[7; 8]),
                attribute(ATTR_USE_CANDIDATE, &[]),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                    self.server.pwd.clone(),
                    self.crypto.crypto(),
                )),
                Box::new(FINGERPRINT),
            ])
            .expect("a binding request is small");
        self.outgoing.push_back(message.raw);
        let interval = if matches!(self.state, State::Checking) { CHECK_INTERVAL } else { CONSENT_INTERVAL };
        self.next_check = now + interval;
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        let mut message = Message::new();
        let answered = message.unmarshal_binary(datagram).is_ok() && message.typ == BINDING_SUCCESS;
        if answered && matches!(self.state, State::Checking) {
            self.state = State::Handshake;
            self.next_check = now + CONSENT_INTERVAL;
            self.endpoint
                .connect(now, SERVER, self.config.clone(), None)
                .expect("the endpoint has no other association");
            self.drain();
        }
    }

    fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        let events = self.endpoint.read(now, SERVER, None, BytesMut::from(datagram)).unwrap_or_default();
        if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            let profile = SrtpProfile::AeadAes128Gcm;
            let state = self.endpoint.get_connection_state(SERVER).expect("its handshake is complete");
            let keys = state
                .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.keying_material())
                .expect("keys follow from a complete handshake");
            let srtp = Srtp::client(profile, keys.as_ref()).expect("the length is the profile's");
            self.state = State::Connected(Box::new(srtp));
            if let Some((data, _)) = &mut self.data {
                data.start(now);
            }
        }
        for event in events {
            if let (EndpointEvent::ApplicationData(packet), Some((data, _))) = (event, &mut self.data) {
                data.read(now, packet.freeze());
            }
        }
        self.flush_data(now);
        self.drain();
    }

    fn flush_data(&mut self, now: Instant) {
        if let Some((data, _)) = &mut self.data {
            data.flush(now, |packet| {
                // It fails before and after the association's life alone.
                let _ = self.endpoint.write(now, SERVER, packet);
            });
        }
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.outgoing.push_back(transmit.message.to_vec());
        }
    }
}
