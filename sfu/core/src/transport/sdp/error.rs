//! What can be wrong with a client's session description.

use thiserror::Error;

use super::offer::MAX_LINES;
use sfu_protocol::control::MAX_SDP_BYTES;

/// Why a description could not be used. The negotiation stays as it was before. m-lines are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Longer than what we read.
    #[error("the description is longer than {MAX_SDP_BYTES} bytes")]
    TooLong,
    /// More m-lines than we keep.
    #[error("the description has more than {MAX_LINES} m-lines")]
    TooManyLines,
    /// Not SDP (RFC 8866); the text says where, at most 120 characters of it.
    #[error("not a session description: {0}")]
    Syntax(String),
    /// An m-line in use has no `a=mid` of 1..=16 visible ASCII characters.
    #[error("m-line {0} has no usable a=mid")]
    Mid(usize),
    /// Two m-lines in use share an `a=mid`.
    #[error("m-line {0} repeats the a=mid of another")]
    DuplicateMid(usize),
    /// `a=ice-ufrag` or `a=ice-pwd` is absent, too short, too long, or has characters that do not belong there.
    #[error("no usable a=ice-ufrag and a=ice-pwd")]
    Ice,
    /// No `a=fingerprint:sha-256` that can be read.
    #[error("no usable a=fingerprint:sha-256")]
    Fingerprint,
    /// Another certificate than in the offers before: that is another transport.
    #[error("the certificate's fingerprint changed")]
    FingerprintChanged,
    /// `a=setup:passive` or `holdconn`: we only ever wait for the client's handshake.
    #[error("a=setup does not let the client begin the DTLS handshake")]
    Setup,
    /// Fewer m-lines than in the offers before, which RFC 9429 §5.2.2 forbids, or another number than in the
    /// offer that it answers.
    #[error("the number of m-lines does not fit the description before")]
    LineCount,
    /// An answer, but no offer of ours waits for one.
    #[error("there is no offer to answer")]
    NoOffer,
    /// Not one m-line has a codec or protocol that we take.
    #[error("no m-line can be accepted")]
    NothingAccepted,
}
