//! Handshakes over a line that splits, reorders, repeats and loses, and the SRTP that comes of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use rtc::shared::TransportProtocol;
use rtc::srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use rtc::stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc::stun::textattrs::TextAttribute;
use sfu_core::command::CloseReason;
use sfu_core::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams};
use sfu_core::transport::{
    CONSENT_TIMEOUT, DtlsError, HelloError, MAX_RTCP_OVERHEAD, MAX_RTP_OVERHEAD, SrtpError, StunError,
    Transport, TransportEvent, Tuple,
};
use sfu_core::units::MAX_DATAGRAM_OUT;

use super::{config, credentials, fingerprint, provider, start, tuple};

const GCM: Profile = Profile::Srtp_Aead_Aes_128_Gcm;
const CM: Profile = Profile::Srtp_Aes128_Cm_Hmac_Sha1_80;
const CM_32: Profile = Profile::Srtp_Aes128_Cm_Hmac_Sha1_32;

/// How a client differs from an ordinary browser.
struct Options {
    profiles: Vec<Profile>,
    mtu: usize,
    extended_master_secret: bool,
    /// Whether its certificate is the one that its session description named.
    honest: bool,
    rsa: bool,
    role: DtlsRole,
}

impl Default for Options {
    fn default() -> Self {
        // Chrome's order.
        Self {
            profiles: vec![CM, GCM],
            mtu: 1200,
            extended_master_secret: true,
            honest: true,
            rsa: false,
            role: DtlsRole::Client,
        }
    }
}

/// A client and a transport, and what is under way between them.
struct Line {
    now: Instant,
    client: Endpoint,
    transport: Transport,
    events: Vec<TransportEvent>,
    client_is_connected: bool,
    to_client: VecDeque<Vec<u8>>,
    sent_by_client: usize,
    sent_by_us: usize,
    refused: Vec<DtlsError>,
}

/// What happens to a datagram on the way: it, several, or none arrive.
type Fate<'a> = &'a mut dyn FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>;

fn arrives(_: usize, datagram: Vec<u8>) -> Vec<Vec<u8>> {
    vec![datagram]
}

fn check(local: &IceCredentials, remote: &IceCredentials) -> Vec<u8> {
    let provider = provider();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    TransactionId([3; 12]).add_to(&mut message).unwrap();
    let username = format!("{}:{}", local.ufrag, remote.ufrag);
    TextAttribute::new(ATTR_USERNAME, username).add_to(&mut message).unwrap();
    message.add(ATTR_USE_CANDIDATE, &[]);
    MessageIntegrity::new_short_term_integrity_with_provider(local.pwd.clone(), provider.crypto())
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

fn certificate(rsa: bool) -> Certificate {
    let provider = provider();
    let names = vec!["client".to_owned()];
    if rsa {
        Certificate::generate_self_signed_with_alg(names, &rcgen::PKCS_RSA_SHA256, provider.crypto()).unwrap()
    } else {
        Certificate::generate_self_signed(names, provider.crypto()).unwrap()
    }
}

impl Line {
    /// A client whose first check is answered and who begins its handshake, or waits for ours.
    fn new(options: &Options) -> Self {
        let now = start();
        let mut line = Self::unchecked(options, now);
        let request = check(&credentials("ours"), &credentials("theirs"));
        line.transport.handle_stun(now, tuple(1), &request).unwrap();
        assert_eq!(line.transport.poll_event(), Some(TransportEvent::Bound(tuple(1))));
        let (to, _) = line.transport.poll_transmit(&mut [0; MAX_DATAGRAM_OUT]).unwrap();
        assert_eq!(to, tuple(1));
        line
    }

    /// A client before its first check.
    fn unchecked(options: &Options, now: Instant) -> Self {
        let certificate = certificate(options.rsa);
        let expected =
            if options.honest { fingerprint(&certificate.certificate[0]) } else { Fingerprint([7; 32]) };
        let config_of_client = ConfigBuilder::default()
            .with_crypto_provider(provider())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(options.profiles.clone())
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(if options.extended_master_secret {
                ExtendedMasterSecretType::Require
            } else {
                ExtendedMasterSecretType::Disable
            })
            .with_mtu(options.mtu)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .build(options.role == DtlsRole::Client, None)
            .unwrap();
        let config_of_client = Arc::new(config_of_client);
        let endpoint = |server| Endpoint::new(tuple(1).remote, TransportProtocol::UDP, server);
        let client = match options.role {
            DtlsRole::Server => endpoint(Some(config_of_client)),
            DtlsRole::Client => {
                let mut client = endpoint(None);
                client.connect(now, tuple(1).local, config_of_client, None).unwrap();
                client
            }
        };
        let (ice, role) = (credentials("theirs"), options.role);
        let remote = RemoteParams { ice, fingerprint: expected, role, sctp: None };
        let transport = Transport::new(now, &config(), credentials("ours"), remote);
        Self {
            now,
            client,
            transport,
            events: Vec::new(),
            client_is_connected: false,
            to_client: VecDeque::new(),
            sent_by_client: 0,
            sent_by_us: 0,
            refused: Vec::new(),
        }
    }

    /// Everything that is under way arrives, or what `up` and `down` make of it; then 100 ms pass.
    fn step(&mut self, up: Fate, down: Fate) {
        let mut flight = Vec::new();
        while let Some(transmit) = self.client.poll_transmit() {
            flight.extend(up(self.sent_by_client, transmit.message.to_vec()));
            self.sent_by_client += 1;
        }
        for datagram in flight {
            if let Err(error) = self.transport.handle_dtls(self.now, tuple(1), &datagram) {
                self.refused.push(error);
            }
        }
        self.collect(down);
        while let Some(datagram) = self.to_client.pop_front() {
            let read = self.client.read(self.now, tuple(1).local, None, BytesMut::from(&datagram[..]));
            let events = read.unwrap_or_default();
            self.client_is_connected |= events.iter().any(|e| matches!(e, EndpointEvent::HandshakeComplete));
        }
        self.now += Duration::from_millis(100);
        let _ = self.client.handle_timeout(tuple(1).local, self.now);
        self.transport.handle_timeout(self.now);
        self.collect(down);
    }

    fn collect(&mut self, down: Fate) {
        while let Some(event) = self.transport.poll_event() {
            self.events.push(event);
        }
        let mut out = [0; MAX_DATAGRAM_OUT];
        while let Some((to, len)) = self.transport.poll_transmit(&mut out) {
            assert_eq!(to, tuple(1));
            self.to_client.extend(down(self.sent_by_us, out[..len].to_vec()));
            self.sent_by_us += 1;
        }
    }

    /// Runs for so long, or until both sides are connected.
    fn run(&mut self, time: Duration, up: Fate, down: Fate) -> bool {
        let end = self.now + time;
        while self.now < end && !(self.client_is_connected && self.is_connected().is_some()) {
            self.step(up, down);
        }
        self.client_is_connected && self.is_connected().is_some()
    }

    fn is_connected(&self) -> Option<&'static str> {
        self.events.iter().find_map(|event| match event {
            TransportEvent::Connected { srtp_profile } => Some(*srtp_profile),
            _ => None,
        })
    }

    fn closed(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            TransportEvent::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    /// The client's SRTP contexts: to seal with, to open with.
    fn client_srtp(&self) -> (Context, Context) {
        let state = self.client.get_connection_state(tuple(1).local).unwrap();
        let profile = match state.srtp_protection_profile() {
            GCM => ProtectionProfile::AeadAes128Gcm,
            CM => ProtectionProfile::Aes128CmHmacSha1_80,
            other => panic!("{other:?} was negotiated"),
        };
        let mut config = SrtpConfig { profile, ..SrtpConfig::default() };
        let len = config.keying_material_len();
        let exported = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], len).unwrap();
        config.set_session_keys_from_keying_material(exported.as_ref(), state.is_client()).unwrap();
        let provider = provider();
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, profile, None, None, provider.crypto()).unwrap()
        };
        let keys = &config.keys;
        (
            context(&keys.local_master_key, &keys.local_master_salt),
            context(&keys.remote_master_key, &keys.remote_master_salt),
        )
    }
}

fn rtp(seq: u16) -> Vec<u8> {
    let mut packet = vec![0x90, 96];
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 5, 0xBE, 0xDE, 0, 1, 0x10, 9, 0, 0]);
    packet.extend_from_slice(b"what a teacher said");
    packet
}

const REPORT: &[u8] = b"\x80\xc9\x00\x01\x00\x00\x00\x05\x81\xca\x00\x02\x00\x00\x00\x05\x01\x00\x00\x00";

fn expect_media_both_ways(line: &mut Line) {
    let (mut seal, mut open) = line.client_srtp();
    for seq in [65_534, 65_535, 0, 1] {
        let mut wire = seal.encrypt_rtp(&rtp(seq)).unwrap().to_vec();
        let len = line.transport.unprotect_rtp(&mut wire).unwrap();
        assert_eq!(wire[..len], rtp(seq));
        let mut wire = rtp(seq);
        let len = wire.len();
        wire.resize(len + MAX_RTP_OVERHEAD, 0);
        let len = line.transport.protect_rtp(&mut wire, len).unwrap();
        assert_eq!(open.decrypt_rtp(&wire[..len]).unwrap(), rtp(seq));
        let mut wire = seal.encrypt_rtcp(REPORT).unwrap().to_vec();
        let len = line.transport.unprotect_rtcp(&mut wire).unwrap();
        assert_eq!(&wire[..len], REPORT);
        let mut wire = REPORT.to_vec();
        wire.resize(REPORT.len() + MAX_RTCP_OVERHEAD, 0);
        let len = line.transport.protect_rtcp(&mut wire, REPORT.len()).unwrap();
        assert_eq!(open.decrypt_rtcp(&wire[..len]).unwrap(), REPORT);
    }
}

#[test]
fn the_profile_is_ours_to_choose_and_its_media_is_understood() {
    for (profiles, name) in [
        (vec![CM, GCM], "AEAD_AES_128_GCM"),
        (vec![GCM], "AEAD_AES_128_GCM"),
        (vec![CM_32, CM], "AES_CM_128_HMAC_SHA1_80"),
    ] {
        let mut line = Line::new(&Options { profiles, ..Options::default() });
        assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives), "{:?}", line.refused);
        assert_eq!(line.is_connected(), Some(name));
        expect_media_both_ways(&mut line);
    }
}

#[test]
fn a_client_hello_in_tiny_fragments_in_any_order_is_put_together() {
    for mtu in [20, 60, 150] {
        let mut line = Line::new(&Options { mtu, ..Options::default() });
        let mut held = Vec::new();
        // The client makes one flight of records; each record is sent alone, the last first, some twice.
        let mut up = |_: usize, datagram: Vec<u8>| {
            held.clear();
            let mut rest = &datagram[..];
            while let [_, _, _, _, _, _, _, _, _, _, _, high, low, ..] = *rest {
                let (record, after) = rest.split_at(13 + usize::from(u16::from_be_bytes([high, low])));
                held.push(record.to_vec());
                rest = after;
            }
            held.reverse();
            let again = held.first().cloned();
            held.extend(again);
            std::mem::take(&mut held)
        };
        assert!(line.run(Duration::from_secs(5), &mut up, &mut arrives), "mtu {mtu}: {:?}", line.refused);
        expect_media_both_ways(&mut line);
    }
}

#[test]
fn a_lost_datagram_of_any_number_is_made_up_for() {
    for lost in 0..8 {
        let mut line = Line::new(&Options { mtu: 300, ..Options::default() });
        let mut up = |number: usize, datagram| if number == lost { vec![] } else { vec![datagram] };
        assert!(line.run(Duration::from_secs(20), &mut up, &mut arrives), "up {lost}: {:?}", line.refused);
        let mut line = Line::new(&Options::default());
        let mut down = |number: usize, datagram| if number == lost { vec![] } else { vec![datagram] };
        assert!(
            line.run(Duration::from_secs(20), &mut arrives, &mut down),
            "down {lost}: {:?}",
            line.refused
        );
        expect_media_both_ways(&mut line);
    }
}

#[test]
fn a_client_that_waits_for_the_handshake_gets_it_whatever_is_lost() {
    let waits = |profiles| Options { profiles, role: DtlsRole::Server, ..Options::default() };
    let mut line = Line::new(&waits(vec![CM]));
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives), "{:?}", line.refused);
    assert_eq!(line.is_connected(), Some("AES_CM_128_HMAC_SHA1_80"));
    for lost in 0..8 {
        for (lost_up, lost_down) in [(Some(lost), None), (None, Some(lost))] {
            let mut line = Line::new(&waits(vec![CM, GCM]));
            let unless = |lost: Option<usize>| {
                move |number, datagram| if lost == Some(number) { vec![] } else { vec![datagram] }
            };
            let connected = line.run(Duration::from_secs(20), &mut unless(lost_up), &mut unless(lost_down));
            assert!(connected, "up {lost_up:?}, down {lost_down:?}: {:?}", line.refused);
            assert_eq!(line.is_connected(), Some("AEAD_AES_128_GCM"), "ours comes first");
            expect_media_both_ways(&mut line);
        }
    }
}

#[test]
fn a_client_that_waits_must_be_who_it_said_too() {
    let dishonest = Options { honest: false, role: DtlsRole::Server, ..Options::default() };
    let mut line = Line::new(&dishonest);
    assert!(!line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    assert_eq!(line.closed(), Some(CloseReason::HandshakeFailed));
    assert_eq!(line.refused.first(), Some(&DtlsError::WrongCertificate));
}

#[test]
fn a_client_with_an_rsa_certificate_is_accepted() {
    let mut line = Line::new(&Options { rsa: true, ..Options::default() });
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives), "{:?}", line.refused);
    expect_media_both_ways(&mut line);
}

#[test]
fn another_certificate_than_the_announced_one_ends_the_handshake() {
    let mut line = Line::new(&Options { honest: false, ..Options::default() });
    assert!(!line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    assert_eq!(line.closed(), Some(CloseReason::HandshakeFailed));
    assert_eq!(line.refused.first(), Some(&DtlsError::WrongCertificate));
    assert!(!line.client_is_connected, "our last flight must not go out");
    assert_eq!(line.transport.unprotect_rtp(&mut rtp(1)), Err(SrtpError::NotReady));
}

#[test]
fn a_client_without_a_profile_of_ours_or_without_extended_master_secret_fails() {
    for (options, error) in [
        (
            Options { profiles: vec![CM_32], ..Options::default() },
            DtlsError::Hello(HelloError::NoCommonProfile),
        ),
        (Options { extended_master_secret: false, ..Options::default() }, DtlsError::Handshake),
    ] {
        let mut line = Line::new(&options);
        assert!(!line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
        assert_eq!(line.closed(), Some(CloseReason::HandshakeFailed));
        assert_eq!(line.refused.first(), Some(&error));
    }
}

#[test]
fn a_handshake_that_does_not_go_on_fails_in_thirty_seconds() {
    let mut line = Line::new(&Options::default());
    let mut up = |number: usize, datagram| if number < 2 { vec![datagram] } else { vec![] };
    line.run(Duration::from_secs(40), &mut up, &mut arrives);
    assert_eq!(line.closed(), Some(CloseReason::HandshakeFailed));
    assert_eq!(line.transport.poll_timeout(), None);
}

#[test]
fn a_client_that_closes_is_gone_and_one_that_we_close_is_told() {
    let mut line = Line::new(&Options::default());
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    line.client.close(line.now).unwrap();
    line.step(&mut arrives, &mut arrives);
    assert_eq!(line.closed(), Some(CloseReason::ClosedByPeer));

    let mut line = Line::new(&Options::default());
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    line.transport.close(line.now);
    let mut out = [0; MAX_DATAGRAM_OUT];
    let (_, len) = line.transport.poll_transmit(&mut out).unwrap();
    let events =
        line.client.read(line.now, tuple(1).local, None, BytesMut::from(&out[..len])).unwrap_or_default();
    assert!(events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)));
}

#[test]
fn dtls_from_a_tuple_that_ice_does_not_know_is_refused() {
    let now = start();
    let mut line = Line::unchecked(&Options::default(), now);
    let hello = line.client.poll_transmit().unwrap().message;
    assert_eq!(line.transport.handle_dtls(now, tuple(1), &hello), Err(DtlsError::UnboundTuple));
    let wrong = IceCredentials { pwd: "guessed".to_owned(), ..credentials("ours") };
    let request = check(&wrong, &credentials("theirs"));
    assert_eq!(line.transport.handle_stun(now, tuple(1), &request), Err(StunError::WrongIntegrity));
    assert_eq!(line.transport.handle_dtls(now, tuple(1), &hello), Err(DtlsError::UnboundTuple));
    assert_eq!(line.transport.poll_transmit(&mut [0; MAX_DATAGRAM_OUT]), None);
    assert_eq!(line.transport.tuple(), None);
}

#[test]
fn a_flood_of_handshake_records_is_cut_off_and_the_session_lives() {
    let mut line = Line::new(&Options::default());
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    // A fragment of a message that never becomes whole.
    let fragment = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x10\x00\x00\x0d\x0b\x00\x03\xe8\x00\x09\x00\x00\x05\x00\x00\x01x";
    let mut cut_off = 0;
    for number in 0..2000_u16 {
        let mut record = fragment.to_vec();
        record[9..11].copy_from_slice(&(number + 4096).to_be_bytes());
        let result = line.transport.handle_dtls(line.now, tuple(1), &record);
        cut_off += usize::from(result == Err(DtlsError::TooManyRecords));
    }
    assert!(cut_off > 1400, "{cut_off}");
    assert_eq!(line.closed(), None);
    expect_media_both_ways(&mut line);
}

#[test]
fn truncated_and_changed_datagrams_leave_an_established_session_alone() {
    let mut line = Line::new(&Options::default());
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    line.client.write(line.now, tuple(1).local, b"not SCTP").unwrap();
    let record = line.client.poll_transmit().unwrap().message.to_vec();
    for len in 0..record.len() {
        let _ = line.transport.handle_dtls(line.now, tuple(1), &record[..len]);
    }
    for bit in 0..record.len() * 8 {
        let mut changed = record.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let _ = line.transport.handle_dtls(line.now, tuple(1), &changed);
    }
    line.step(&mut arrives, &mut arrives);
    assert_eq!(line.closed(), None);
    expect_media_both_ways(&mut line);
}

#[test]
fn consent_ends_two_minutes_after_the_last_genuine_check() {
    let mut line = Line::new(&Options::default());
    assert!(line.run(Duration::from_secs(2), &mut arrives, &mut arrives));
    line.now += CONSENT_TIMEOUT - Duration::from_secs(10);
    line.transport.handle_timeout(line.now);
    let request = check(&credentials("ours"), &credentials("theirs"));
    line.transport.handle_stun(line.now, tuple(1), &request).unwrap();
    let wrong = IceCredentials { pwd: "guessed".to_owned(), ..credentials("ours") };
    let forged = check(&wrong, &credentials("theirs"));
    let checked = line.now;
    line.now += CONSENT_TIMEOUT - Duration::from_secs(1);
    assert!(line.transport.handle_stun(line.now, tuple(1), &forged).is_err());
    line.transport.handle_timeout(line.now);
    assert_eq!(line.transport.poll_timeout(), Some(checked + CONSENT_TIMEOUT));
    line.now += Duration::from_secs(1);
    line.transport.handle_timeout(line.now);
    line.collect(&mut arrives);
    assert_eq!(line.closed(), Some(CloseReason::ConsentExpired));
    let mut packet = rtp(1);
    assert_eq!(line.transport.unprotect_rtp(&mut packet), Err(SrtpError::NotReady));
}

#[test]
fn a_tuple_is_announced_once_and_before_its_answer() {
    let now = start();
    let mut line = Line::new(&Options::default());
    let request = check(&credentials("ours"), &credentials("theirs"));
    let mut bound = Vec::<Tuple>::new();
    let mut unbound = 0;
    for round in 0..3 {
        for port in 1..=40 {
            line.transport.handle_stun(now, tuple(port), &request).unwrap();
            while let Some(event) = line.transport.poll_event() {
                match event {
                    TransportEvent::Bound(tuple) => bound.push(tuple),
                    TransportEvent::Unbound(tuple) => {
                        unbound += 1;
                        bound.retain(|known| *known != tuple);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let (to, _) = line.transport.poll_transmit(&mut [0; MAX_DATAGRAM_OUT]).unwrap();
            assert_eq!(to, tuple(port), "round {round}");
            assert_eq!(line.transport.tuple(), Some(tuple(port)));
        }
    }
    assert!(bound.len() <= 16 && unbound > 0);
}
