//! What the errors of parsers and state machines are counted as.

use crate::room::RtpError;
use crate::stats::Refusal;
use crate::transport::{DtlsError, SrtpError, StunError};

impl From<StunError> for Refusal {
    fn from(error: StunError) -> Self {
        match error {
            StunError::Malformed | StunError::NotARequest | StunError::WrongFingerprint => {
                Self::StunMalformed
            }
            StunError::WrongUsername | StunError::WrongIntegrity => Self::StunUnauthentic,
            StunError::Closed => Self::UnknownUfrag,
        }
    }
}

impl From<DtlsError> for Refusal {
    fn from(error: DtlsError) -> Self {
        match error {
            DtlsError::UnboundTuple => Self::UnknownTuple,
            _ => Self::Dtls,
        }
    }
}

impl From<SrtpError> for Refusal {
    fn from(error: SrtpError) -> Self {
        match error {
            SrtpError::NotReady => Self::SrtpTooEarly,
            SrtpError::Malformed | SrtpError::NoRoom => Self::SrtpMalformed,
            SrtpError::Unauthentic | SrtpError::Unencrypted => Self::SrtpUnauthentic,
            SrtpError::Replayed | SrtpError::TooOld => Self::SrtpReplayed,
            SrtpError::TooManySsrcs | SrtpError::Exhausted => Self::SrtpTooManySsrcs,
        }
    }
}

impl From<RtpError> for Refusal {
    fn from(error: RtpError) -> Self {
        match error {
            RtpError::Malformed(_) => Self::RtpMalformed,
            RtpError::UnknownParticipant | RtpError::UnknownSsrc => Self::RtpUnknownSource,
            RtpError::Refused(_) => Self::RtpUnusable,
        }
    }
}
