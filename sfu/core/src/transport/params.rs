//! What a session description says about a transport.

use std::fmt;

use sfu_protocol::control::DataChannel;
use thiserror::Error;

/// A username fragment and password (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4..=256 characters. In ours, the first two name the worker that owns the transport.
    pub ufrag: String,
    /// 22..=256 characters.
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    /// Leaves the password out: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// SHA-256 over a DTLS certificate (RFC 8122), the only hash that browsers use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A fingerprint that is not 32 hexadecimal pairs with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the fingerprint is not 32 hexadecimal pairs")]
pub struct FingerprintError;

impl Fingerprint {
    /// From the value of `a=fingerprint:sha-256`.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0; 32];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or(FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)?;
        }
        if pairs.next().is_some() { Err(FingerprintError) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A client's side of a transport, from its session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteParams {
    /// Its ICE credentials; changed ones mean an ICE restart.
    pub ice: IceCredentials,
    /// Its certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its part in the DTLS handshake; ours is the other.
    pub role: DtlsRole,
    /// Its data channels, where it offers any.
    pub sctp: Option<SctpParams>,
}

/// A part in the DTLS handshake (RFC 8842 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// Begins it: `a=setup:active`.
    Client,
    /// Waits for it: `a=setup:passive`.
    Server,
}

/// SCTP over DTLS (RFC 8841).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SctpParams {
    /// `a=sctp-port`.
    pub port: u16,
    /// `a=max-message-size`, bytes; 65,536 where absent.
    pub max_message_size: u32,
    /// The channels that we open; the client may open others.
    pub channels: Vec<DataChannel>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_being_written_and_read() {
        let fingerprint = Fingerprint(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Ok(fingerprint));
    }

    #[test]
    fn short_long_and_foreign_fingerprints_are_refused() {
        let text = Fingerprint([7; 32]).to_string();
        for bad in ["", "07", &text[3..], &format!("{text}:07"), &text.replace("07", "0x")] {
            assert_eq!(Fingerprint::parse(bad), Err(FingerprintError), "{bad}");
        }
    }
}
