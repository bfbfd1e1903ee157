//! ICE-lite (RFC 8445 §2.5): answers the client's checks and learns from them where to send. The client is a
//! full agent, so it controls: it decides by USE-CANDIDATE. Its checks are also its consent (RFC 7675).
//!
//! Built on the STUN messages of `rtc::stun`, not on `rtc::ice`'s agent. That agent (0.21.1, `lite`) sends
//! checks of its own, leaves a nomination unanswered until one of those succeeded, stays with the first
//! nominated pair for ever, fails after 30 s without a check, keeps every source address that ever
//! authenticated, and wants our addresses listed, which are not ours to know behind a port mapping.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::AwsLcRsProvider;
use rtc::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
    AttrType, RawAttribute,
};
use rtc::stun::error_code::CODE_ROLE_CONFLICT;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc::stun::xoraddr::XorMappedAddress;
use thiserror::Error;

use super::Tuple;
use super::params::IceCredentials;

/// Why a STUN message was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StunError {
    /// Not a STUN message, or its attributes do not fit it.
    #[error("malformed")]
    Malformed,
    /// Not a binding request: we ask nothing, so nothing is an answer to us.
    #[error("not a binding request")]
    NotARequest,
    /// The checksum is not that of the message.
    #[error("wrong fingerprint")]
    WrongFingerprint,
    /// USERNAME is missing or names other credentials.
    #[error("wrong username")]
    WrongUsername,
    /// MESSAGE-INTEGRITY is missing or was made with another password.
    #[error("wrong integrity")]
    WrongIntegrity,
    /// The transport is closed.
    #[error("the transport is closed")]
    Closed,
}

/// The effect of a genuine check.
pub(super) struct Checked {
    /// The answer; it goes back where the request came from.
    pub(super) answer: Vec<u8>,
    /// Whether this check proved the tuple to be the client's: again, where another transport may have taken it.
    pub(super) bound: bool,
    /// The tuple that had to go for it.
    pub(super) unbound: Option<Tuple>,
}

/// Tuples that one client may have at a time. Two interfaces, both IP versions and a few NAT rebindings on our
/// addresses are about ten; a client that sprays source ports pushes out its own.
pub(super) const MAX_TUPLES: usize = 16;

/// The server's side of a client's ICE session. What each packet asks for comes first in memory.
#[repr(C)]
pub(super) struct IceLite {
    selected: Option<Tuple>,
    current: Session,
    /// What a restart replaces: valid until the client nominates a tuple with the new credentials.
    previous: Option<Session>,
    /// The authenticated tuples.
    tuples: ArrayVec<Checks, MAX_TUPLES>,
    /// When the client last proved that it wants our packets; at first, when it was invited.
    last_check: Instant,
    consent_timeout: Duration,
}

/// One generation of credentials.
#[derive(PartialEq, Eq)]
struct Session {
    local: IceCredentials,
    remote: IceCredentials,
}

struct Checks {
    tuple: Tuple,
    last: Instant,
}

impl IceLite {
    pub(super) fn new(
        now: Instant,
        local: IceCredentials,
        remote: IceCredentials,
        consent_timeout: Duration,
    ) -> Self {
        Self {
            current: Session { local, remote },
            previous: None,
            tuples: ArrayVec::new(),
            selected: None,
            last_check: now,
            consent_timeout,
        }
    }

    /// Takes new credentials (RFC 8445 §9). The old ones count, and the old tuple carries media, until the client
    /// nominates one with the new ones. Where it restarts again before, the credentials in use are still those
    /// from before the first restart. The present ones again are no restart.
    pub(super) fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        let new = Session { local, remote };
        if new != self.current {
            let replaced = std::mem::replace(&mut self.current, new);
            self.previous.get_or_insert(replaced);
        }
    }

    /// The names that the client's checks may have for us.
    pub(super) fn ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|session| &*session.local.ufrag)
    }

    /// Where media goes: the tuple that the client nominated last, or before it nominates any, the first one.
    pub(super) fn selected(&self) -> Option<Tuple> {
        self.selected
    }

    /// Whether the client has authenticated this tuple.
    pub(super) fn is_bound(&self, tuple: Tuple) -> bool {
        self.tuples.iter().any(|checks| checks.tuple == tuple)
    }

    /// When the client's consent ends.
    pub(super) fn consent_until(&self) -> Instant {
        self.last_check + self.consent_timeout
    }

    /// Checks a request and, if it is genuine, answers it.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        tuple: Tuple,
        datagram: &[u8],
    ) -> Result<Checked, StunError> {
        let mut request = parse(datagram)?;
        let username = signed(&request, ATTR_USERNAME).ok_or(StunError::WrongUsername)?;
        let (session, is_current) = self.session(&username.value).ok_or(StunError::WrongUsername)?;
        let password = session.local.pwd.as_bytes();
        MessageIntegrity::check(&mut request, password, CRYPTO.crypto())
            .map_err(|_| StunError::WrongIntegrity)?;
        // We cannot control, so the client must, whatever the tie-breakers are (RFC 8445 §7.3.1.1).
        if signed(&request, ATTR_ICE_CONTROLLED).is_some() {
            let answer = session.answer(&request, &[&BINDING_ERROR, &CODE_ROLE_CONFLICT])?;
            return Ok(Checked { answer, bound: false, unbound: None });
        }
        // An IPv4 client of a socket for both versions wants to read its IPv4 address.
        let mapped = XorMappedAddress { ip: tuple.remote.ip().to_canonical(), port: tuple.remote.port() };
        let answer = session.answer(&request, &[&BINDING_SUCCESS, &mapped])?;

        self.last_check = now;
        let unbound = self.bind(now, tuple);
        let is_nominated = signed(&request, ATTR_USE_CANDIDATE).is_some();
        if self.selected.is_none() || is_nominated {
            self.selected = Some(tuple);
        }
        if is_current && is_nominated {
            self.previous = None;
        }
        Ok(Checked { answer, bound: true, unbound })
    }

    /// Takes a tuple for the client's without a check.
    #[cfg(feature = "bench")]
    pub(super) fn trust(&mut self, now: Instant, tuple: Tuple) {
        self.bind(now, tuple);
        self.selected = Some(tuple);
    }

    /// The session that a username belongs to, and whether it is the current one.
    fn session(&self, username: &[u8]) -> Option<(&Session, bool)> {
        if self.current.is_named(username) {
            return Some((&self.current, true));
        }
        self.previous
            .as_ref()
            .filter(|previous| previous.is_named(username))
            .map(|previous| (previous, false))
    }

    /// Remembers the tuple, and returns which one it replaces: the one that was checked least lately and carries
    /// no media.
    fn bind(&mut self, now: Instant, tuple: Tuple) -> Option<Tuple> {
        if let Some(checks) = self.tuples.iter_mut().find(|checks| checks.tuple == tuple) {
            checks.last = now;
            return None;
        }
        let unused = self.tuples.iter().enumerate().filter(|(_, checks)| Some(checks.tuple) != self.selected);
        let oldest = unused.min_by_key(|(_, checks)| checks.last).map(|(at, _)| at);
        let unbound = oldest.filter(|_| self.tuples.is_full()).map(|at| self.tuples.remove(at).tuple);
        self.tuples.push(Checks { tuple, last: now });
        unbound
    }
}

impl Session {
    /// Whether USERNAME is `ours:theirs` (RFC 8445 §7.2.2).
    fn is_named(&self, username: &[u8]) -> bool {
        let rest = username.strip_prefix(self.local.ufrag.as_bytes());
        rest.and_then(|rest| rest.strip_prefix(b":")) == Some(self.remote.ufrag.as_bytes())
    }

    /// An answer to the request, with our integrity.
    fn answer(&self, request: &Message, attributes: &[&dyn Setter]) -> Result<Vec<u8>, StunError> {
        let password = self.local.pwd.clone();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password, CRYPTO.crypto());
        let mut answer = Message::new();
        answer.write_header();
        let setters = [request as &dyn Setter].into_iter().chain(attributes.iter().copied());
        for setter in setters.chain([&integrity as &dyn Setter, &FINGERPRINT]) {
            setter.add_to(&mut answer).map_err(|_| StunError::Malformed)?;
        }
        Ok(answer.raw)
    }
}

/// A binding request with a right fingerprint, if it has one.
fn parse(datagram: &[u8]) -> Result<Message, StunError> {
    let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
    message.decode().map_err(|_| StunError::Malformed)?;
    if message.raw.len() != HEADER + message.length as usize {
        return Err(StunError::Malformed);
    }
    if message.typ != BINDING_REQUEST {
        return Err(StunError::NotARequest);
    }
    let fingerprint = message.attributes.0.iter().position(|attribute| attribute.typ == ATTR_FINGERPRINT);
    match fingerprint {
        Some(at) if at + 1 != message.attributes.0.len() => Err(StunError::Malformed),
        Some(_) if FINGERPRINT.check(&message).is_err() => Err(StunError::WrongFingerprint),
        _ => Ok(message),
    }
}

/// An attribute that MESSAGE-INTEGRITY covers: what follows it anybody may have added (RFC 8489 §14.5).
fn signed(request: &Message, kind: AttrType) -> Option<RawAttribute> {
    let covered = request.attributes.0.iter().take_while(|attribute| attribute.typ != ATTR_MESSAGE_INTEGRITY);
    covered.into_iter().find(|attribute| attribute.typ == kind).cloned()
}

/// Bytes of a STUN header.
const HEADER: usize = 20;

/// HMAC-SHA1 for `rtc::stun`.
static CRYPTO: AwsLcRsProvider = AwsLcRsProvider::new();

/// Takes arbitrary bytes as a request, and as attributes of one that is signed: nothing binds but a genuine check,
/// and its answer can be read.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let now = crate::testing::origin();
    let address = std::net::SocketAddr::from(([192, 0, 2, 1], 7882));
    let tuple = Tuple { local: address, remote: address };
    let side = |ufrag: &str| IceCredentials { ufrag: ufrag.to_owned(), pwd: "p".repeat(22) };
    let mut ice = IceLite::new(now, side("ours"), side("them"), Duration::from_secs(30));
    let unsigned = ice.handle(now, tuple, data).is_ok();
    assert_eq!(unsigned, ice.is_bound(tuple), "only what is answered binds, and none has this password");

    let mut request = Message::new();
    request.set_type(BINDING_REQUEST);
    request.write_header();
    request.add(ATTR_USERNAME, b"ours:them");
    let mut rest = data;
    while let Some((&[high, low, len], behind)) = rest.split_first_chunk() {
        let (value, behind) = behind.split_at(usize::from(len).min(behind.len()));
        request.add(AttrType(u16::from_be_bytes([high, low])), value);
        rest = behind;
    }
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider("p".repeat(22), CRYPTO.crypto());
    if integrity.add_to(&mut request).is_ok()
        && let Ok(checked) = ice.handle(now, tuple, &request.raw)
    {
        let mut answer = Message { raw: checked.answer, ..Message::default() };
        answer.decode().expect("what we write, we read");
        assert_eq!(checked.bound, answer.typ == BINDING_SUCCESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;
    use rtc::stun::message::TransactionId;
    use rtc::stun::textattrs::TextAttribute;

    const CONSENT: Duration = Duration::from_secs(120);

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}-password-of-22-chars") }
    }

    fn tuple(port: u16) -> Tuple {
        Tuple {
            local: "192.0.2.1:7882".parse().unwrap(),
            remote: format!("198.51.100.9:{port}").parse().unwrap(),
        }
    }

    /// A client's check.
    struct Check {
        username: String,
        password: String,
        attributes: Vec<(AttrType, Vec<u8>)>,
    }

    impl Check {
        fn new(local: &IceCredentials, remote: &IceCredentials) -> Self {
            let username = format!("{}:{}", local.ufrag, remote.ufrag);
            Self { username, password: local.pwd.clone(), attributes: Vec::new() }
        }

        fn with(mut self, kind: AttrType, value: &[u8]) -> Self {
            self.attributes.push((kind, value.to_vec()));
            self
        }

        fn build(&self) -> Vec<u8> {
            let mut message = Message::new();
            message.set_type(BINDING_REQUEST);
            message.write_header();
            TransactionId([9; 12]).add_to(&mut message).unwrap();
            TextAttribute::new(ATTR_USERNAME, self.username.clone()).add_to(&mut message).unwrap();
            for (kind, value) in &self.attributes {
                message.add(*kind, value);
            }
            MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), CRYPTO.crypto())
                .add_to(&mut message)
                .unwrap();
            FINGERPRINT.add_to(&mut message).unwrap();
            message.raw
        }
    }

    fn ice(now: Instant) -> IceLite {
        IceLite::new(now, credentials("ours"), credentials("theirs"), CONSENT)
    }

    fn check() -> Vec<u8> {
        Check::new(&credentials("ours"), &credentials("theirs")).build()
    }

    fn nomination() -> Vec<u8> {
        Check::new(&credentials("ours"), &credentials("theirs")).with(ATTR_USE_CANDIDATE, &[]).build()
    }

    #[test]
    fn a_genuine_check_is_answered_with_the_senders_address_and_our_integrity() {
        let now = origin();
        let mut ice = ice(now);
        let checked = ice.handle(now, tuple(1), &check()).unwrap();
        assert!(checked.bound);
        assert!(ice.handle(now, tuple(1), &check()).unwrap().bound, "another transport may have taken it");
        let mut answer = Message { raw: checked.answer, ..Message::default() };
        answer.decode().unwrap();
        assert_eq!((answer.typ, answer.transaction_id), (BINDING_SUCCESS, TransactionId([9; 12])));
        let mut mapped = XorMappedAddress::default();
        rtc::stun::message::Getter::get_from(&mut mapped, &answer).unwrap();
        assert_eq!((mapped.ip, mapped.port), (tuple(1).remote.ip(), 1));
        FINGERPRINT.check(&answer).unwrap();
        MessageIntegrity::check(&mut answer, credentials("ours").pwd.as_bytes(), CRYPTO.crypto()).unwrap();
    }

    #[test]
    fn what_is_not_genuine_is_named_and_changes_nothing() {
        let now = origin();
        let mut ice = ice(now);
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let mut wrong_password = Check::new(&ours, &theirs);
        wrong_password.password = "a-password-nobody-gave-us".to_owned();
        let mut wrong_username = Check::new(&ours, &theirs);
        wrong_username.username = "ours:others".to_owned();
        let mut changed = check();
        *changed.last_mut().unwrap() ^= 1;
        let mut success = check();
        success[0] = 1;
        let mut trailing = check();
        trailing.push(0);
        for (datagram, error) in [
            (wrong_password.build(), StunError::WrongIntegrity),
            (wrong_username.build(), StunError::WrongUsername),
            (changed, StunError::WrongFingerprint),
            (success, StunError::NotARequest),
            (trailing, StunError::Malformed),
            (check()[..40].to_vec(), StunError::Malformed),
        ] {
            assert_eq!(ice.handle(now, tuple(1), &datagram).err(), Some(error));
        }
        assert_eq!((ice.selected(), ice.is_bound(tuple(1))), (None, false));
        assert_eq!(ice.consent_until(), now + CONSENT);
    }

    #[test]
    fn no_truncation_panics_or_passes() {
        let now = origin();
        let request = check();
        for len in 0..request.len() {
            assert!(ice(now).handle(now, tuple(1), &request[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn media_follows_the_latest_nomination() {
        let now = origin();
        let mut ice = ice(now);
        for (port, datagram, selected) in [
            (1, check(), 1),
            (2, check(), 1),
            (2, nomination(), 2),
            (1, check(), 2),
            (3, nomination(), 3),
            (2, nomination(), 2),
        ] {
            ice.handle(now, tuple(port), &datagram).unwrap();
            assert_eq!(ice.selected(), Some(tuple(selected)));
        }
    }

    #[test]
    fn a_nomination_outside_the_signed_part_does_not_count() {
        let now = origin();
        let mut ice = ice(now);
        ice.handle(now, tuple(1), &check()).unwrap();
        let mut message = Message { raw: check(), ..Message::default() };
        message.decode().unwrap();
        message.attributes.0.pop();
        message.encode();
        message.add(ATTR_USE_CANDIDATE, &[]);
        ice.handle(now, tuple(2), &message.raw).unwrap();
        assert_eq!(ice.selected(), Some(tuple(1)));
    }

    #[test]
    fn a_client_that_wants_to_be_controlled_is_told_so() {
        let now = origin();
        let mut ice = ice(now);
        let request =
            Check::new(&credentials("ours"), &credentials("theirs")).with(ATTR_ICE_CONTROLLED, &[1; 8]);
        let checked = ice.handle(now, tuple(1), &request.build()).unwrap();
        let mut answer = Message { raw: checked.answer, ..Message::default() };
        answer.decode().unwrap();
        assert_eq!(answer.typ, BINDING_ERROR);
        assert_eq!(ice.selected(), None);
    }

    #[test]
    fn sprayed_source_ports_push_out_each_other_but_not_the_path_in_use() {
        let now = origin();
        let mut ice = ice(now);
        ice.handle(now, tuple(1), &nomination()).unwrap();
        let mut unbound = 0;
        for port in 2..1000 {
            let checked =
                ice.handle(now + Duration::from_millis(port.into()), tuple(port), &check()).unwrap();
            assert!(checked.bound);
            unbound += usize::from(checked.unbound.is_some());
        }
        assert_eq!(unbound, 999 - MAX_TUPLES);
        assert!(ice.is_bound(tuple(1)) && ice.is_bound(tuple(999)) && !ice.is_bound(tuple(2)));
        assert_eq!(ice.selected(), Some(tuple(1)));
    }

    /// A check with the server's and the client's credentials of a generation.
    fn check_of(generation: u8) -> Check {
        Check::new(&credentials(&format!("ours{generation}")), &credentials(&format!("theirs{generation}")))
    }

    fn restart(ice: &mut IceLite, generation: u8) {
        ice.restart(credentials(&format!("ours{generation}")), credentials(&format!("theirs{generation}")));
    }

    #[test]
    fn a_restart_keeps_the_old_path_until_a_new_one_is_nominated() {
        let now = origin();
        let mut ice = ice(now);
        ice.handle(now, tuple(1), &nomination()).unwrap();
        restart(&mut ice, 2);
        ice.handle(now, tuple(2), &check_of(2).build()).unwrap();
        assert_eq!(ice.selected(), Some(tuple(1)), "the new path is looked at, not chosen");
        assert!(ice.handle(now, tuple(1), &check()).is_ok(), "the old path is still in use");

        let chosen = check_of(2).with(ATTR_USE_CANDIDATE, &[]).build();
        ice.handle(now, tuple(3), &chosen).unwrap();
        assert_eq!(ice.selected(), Some(tuple(3)));
        assert_eq!(ice.handle(now, tuple(1), &nomination()).err(), Some(StunError::WrongUsername));
    }

    #[test]
    fn restarts_that_overtake_each_other_leave_the_credentials_in_use_valid() {
        let now = origin();
        let mut ice = ice(now);
        ice.handle(now, tuple(1), &nomination()).unwrap();
        for generation in 2..=5 {
            restart(&mut ice, generation);
        }
        assert_eq!(ice.ufrags().collect::<Vec<_>>(), ["ours5", "ours"]);
        assert!(ice.handle(now, tuple(1), &check()).is_ok(), "the client may have seen no answer yet");
        ice.handle(now, tuple(2), &nomination()).unwrap();
        assert_eq!(ice.selected(), Some(tuple(2)), "nor may it be kept on a path that it leaves");
        assert_eq!(
            ice.handle(now, tuple(3), &check_of(4).build()).err(),
            Some(StunError::WrongUsername),
            "of those never seen in use only the newest count"
        );
        ice.handle(now, tuple(4), &check_of(5).with(ATTR_USE_CANDIDATE, &[]).build()).unwrap();
        assert_eq!((ice.selected(), ice.ufrags().collect::<Vec<_>>()), (Some(tuple(4)), vec!["ours5"]));
    }

    #[test]
    fn the_same_credentials_again_change_neither_the_path_nor_a_restart_under_way() {
        let now = origin();
        let mut ice = ice(now);
        ice.handle(now, tuple(1), &nomination()).unwrap();
        ice.restart(credentials("ours"), credentials("theirs"));
        ice.handle(now, tuple(2), &check()).unwrap();
        assert_eq!(ice.selected(), Some(tuple(1)), "a spare path is checked, not nominated");
        for _ in 0..2 {
            restart(&mut ice, 2);
        }
        assert!(ice.handle(now, tuple(1), &check()).is_ok(), "the old credentials still count");
    }
}
