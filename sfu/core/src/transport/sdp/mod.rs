//! Session descriptions: a client's offer in, our answer and the parameters for the packet path out.
//!
//! LiveKit's single peer connection (signal protocol v1) is the shape of it: the client is always the offerer;
//! its first offer brings spare `recvonly` m-lines, which our answers fill with the tracks it subscribed to;
//! when they run out we ask for more ([`Negotiation::needed`]) and wait for its next offer. What the client
//! sends, it offers on lines of its own.
//!
//! ```text
//!  offer text -> text (parser) -> offer + codec + simulcast: what could be accepted
//!             -> pool + publish: what each line carries -> write: text
//! ```
//! RFC 9429 (JSEP), RFC 9143 (BUNDLE). One transport carries everything; lines outside the bundle and codecs
//! that we do not forward are refused. Trickled candidates are not needed: we are ICE-lite (RFC 8445 §2.5) and
//! learn the client's address from its checks.
//!
//! [`Offering`] is the other direction, for clients that let the server offer.
//!
//! Runs on the control thread: it allocates as it likes.

mod codec;
mod direction;
mod error;
#[cfg(feature = "sim")]
mod fuzzing;
mod ice;
mod offer;
mod offering;
#[cfg(test)]
mod peer_tests;
mod pool;
mod publish;
mod request;
mod simulcast;
mod ssrc;
mod text;
mod write;

use std::net::SocketAddr;

use sfu_protocol::control::{Msid, Publish};

pub use self::error::SdpError;
#[cfg(feature = "sim")]
pub use self::fuzzing::fuzz;
pub use self::offering::{Accepted, Offered, Offering};
pub use self::request::Needed;

use self::offer::Offer;
use self::pool::{Pool, Subscription};
use self::ssrc::{SsrcSequence, split_mix};
use self::write::{Lines, Local, write};
use crate::rtp::params::{ReceiveParams, SendParams};
use crate::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams};
use crate::units::{MediaKind, TrackId};

/// What a transport brings to its negotiation.
#[derive(Clone, Debug)]
pub struct NegotiationConfig {
    /// Our first ICE credentials; later ones keep the first two characters of the ufrag.
    pub local: IceCredentials,
    /// Our certificate's.
    pub fingerprint: Fingerprint,
    /// Our addresses, best first.
    pub candidates: Vec<SocketAddr>,
    /// Decides the SSRCs and the session id. Need not be secret.
    pub seed: u64,
}

/// The negotiation of one transport: its m-lines and what each carries.
#[derive(Clone, Debug)]
pub struct Negotiation {
    local: IceCredentials,
    fingerprint: Fingerprint,
    candidates: Vec<SocketAddr>,
    session_id: u64,
    /// Answers written so far.
    version: u64,
    /// The client's side, after its first offer.
    remote: Option<RemoteParams>,
    pool: Pool,
}

/// An answer, and what it changes. Apply `ended` and `stopped` before `receive` and `send`: a track that moves
/// to another m-line, or whose parameters changed, may be in both.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The answer's text.
    pub sdp: String,
    /// The client's side of the transport.
    pub remote: RemoteParams,
    /// Whether the client restarted ICE; `false` for a first offer.
    pub ice_restarted: bool,
    /// Our credentials from now on.
    pub local: IceCredentials,
    /// Published tracks that are new, or come in another way than before.
    pub receive: Vec<(TrackId, ReceiveParams)>,
    /// Tracks that are no longer sent to us.
    pub ended: Vec<TrackId>,
    /// Subscribed tracks that have an m-line now, with SSRCs never used before.
    pub send: Vec<(TrackId, SendParams)>,
    /// Subscribed tracks whose m-line the client closed or changed; they wait for another, or have one in
    /// `send`. Not those of [`Negotiation::unsubscribe`].
    pub stopped: Vec<TrackId>,
    /// Which m-line carries which track, published and subscribed ones alike.
    pub mid_to_track: Vec<(String, TrackId)>,
}

impl Negotiation {
    /// Before the first offer.
    pub fn new(config: NegotiationConfig) -> Self {
        Self {
            local: config.local,
            fingerprint: config.fingerprint,
            candidates: config.candidates,
            session_id: session_id(config.seed),
            version: 0,
            remote: None,
            pool: Pool::new(SsrcSequence::new(config.seed)),
        }
    }

    /// Wants a track sent to the client; an m-line comes with one of the next offers. A second call for the
    /// same track changes nothing.
    pub fn subscribe(&mut self, track: TrackId, kind: MediaKind, msid: Msid) {
        self.pool.subscribe(Subscription::new(track, kind, msid));
    }

    /// Frees the track's m-line.
    pub fn unsubscribe(&mut self, track: TrackId) {
        self.pool.unsubscribe(track);
    }

    /// What to ask the client for: call it after each [`Self::subscribe`], [`Self::unsubscribe`] and
    /// [`Self::offer`]. Each need is told once, so that a client does not add lines twice; `None` where nothing
    /// new is needed, and before the first offer, which comes unasked.
    pub fn needed(&mut self) -> Option<Needed> {
        self.remote.as_ref()?;
        self.pool.needed()
    }

    /// Answers an offer; `publish` are the tracks that the client has announced and may send. On an error
    /// nothing has changed.
    pub fn offer(&mut self, sdp: &str, publish: &[Publish]) -> Result<Answered, SdpError> {
        let offer = Offer::parse(sdp)?;
        // We answer `passive`.
        if offer.remote.role == DtlsRole::Server {
            return Err(SdpError::Setup);
        }
        if offer.lines.len() < self.pool.line_count() {
            return Err(SdpError::LineCount);
        }
        let ice_restarted = continuity(self.remote.as_ref(), &offer.remote)?;
        if ice_restarted {
            self.local = ice::restarted(&self.local);
            self.pool.forget_request();
        }
        self.remote = Some(offer.remote.clone());
        self.version += 1;
        let changes = self.pool.apply(&offer.lines, publish);
        let local = Local {
            session_id: self.session_id,
            version: self.version,
            ice: &self.local,
            fingerprint: self.fingerprint,
            candidates: &self.candidates,
            setup: "passive",
        };
        let lines = Lines { all: &offer.lines, bundled: &offer.bundled };
        Ok(Answered {
            sdp: write(&local, lines, self.pool.carries()),
            remote: offer.remote,
            ice_restarted,
            local: self.local.clone(),
            receive: changes.receive,
            ended: changes.ended,
            send: changes.send,
            stopped: changes.stopped,
            mid_to_track: self.pool.mid_to_track(),
        })
    }
}

/// Whether the client restarted ICE, where its description belongs to the same transport as the one before.
fn continuity(before: Option<&RemoteParams>, now: &RemoteParams) -> Result<bool, SdpError> {
    match before {
        None => Ok(false),
        Some(before) if before.fingerprint != now.fingerprint => Err(SdpError::FingerprintChanged),
        Some(before) if before.role != now.role => Err(SdpError::Setup),
        Some(before) => Ok(before.ice != now.ice),
    }
}

/// 63 bits, as RFC 9429 §5.2.1 wants it.
const fn session_id(seed: u64) -> u64 {
    split_mix(!seed) >> 1
}
