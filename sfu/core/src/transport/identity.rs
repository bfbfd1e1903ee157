//! Who we are to every client: one certificate for the process, and the DTLS configurations made from it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::AwsLcRsProvider;
use rtc::dtls::cipher_suite::CipherSuiteId;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use thiserror::Error;

use super::dtls::PEER;
use super::params::Fingerprint;
use super::srtp::SrtpProfile;

/// The crypto library refused to make a certificate.
#[derive(Debug, Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct IdentityError(String);

/// A self-signed ECDSA P-256 certificate and its key. Shared by all transports of a process.
pub struct Identity {
    fingerprint: Fingerprint,
    /// One configuration for each SRTP profile: `rtc::dtls` would take the first profile of the *client's* list
    /// that we have too, and Chrome lists the slow one first.
    gcm: Arc<HandshakeConfig>,
    cm: Arc<HandshakeConfig>,
    /// Where the client waits for our handshake, it is the client that chooses.
    client: Arc<HandshakeConfig>,
}

impl Identity {
    /// Makes a certificate with a new key.
    pub fn generate() -> Result<Self, IdentityError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        // rcgen's default is ECDSA on P-256; the name is no one's business (RFC 8827 §6.5).
        let certificate = Certificate::generate_self_signed(vec!["lectern".to_owned()], provider.crypto())
            .map_err(|error| IdentityError(error.to_string()))?;
        let der =
            certificate.certificate.first().ok_or_else(|| IdentityError("no certificate".to_owned()))?;
        let fingerprint = fingerprint_of(der);
        let config = |profiles: &[SrtpProtectionProfile], connect_to| {
            handshake_config(&provider, certificate.clone(), profiles, connect_to)
                .map(Arc::new)
                .map_err(|error| IdentityError(error.to_string()))
        };
        let (gcm, cm) = (
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        );
        Ok(Self {
            fingerprint,
            gcm: config(&[gcm], None)?,
            cm: config(&[cm], None)?,
            client: config(&[gcm, cm], Some(PEER))?,
        })
    }

    /// What our session descriptions say.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The DTLS configuration of a server with exactly this SRTP profile.
    pub(super) fn server_config(&self, profile: SrtpProfile) -> Arc<HandshakeConfig> {
        match profile {
            SrtpProfile::AeadAes128Gcm => self.gcm.clone(),
            SrtpProfile::AesCm128HmacSha1_80 => self.cm.clone(),
        }
    }

    /// The DTLS configuration of a client.
    pub(super) fn client_config(&self) -> Arc<HandshakeConfig> {
        self.client.clone()
    }
}

impl fmt::Debug for Identity {
    /// Leaves the key out: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The fingerprint of a certificate in DER.
pub(super) fn fingerprint_of(der: &[u8]) -> Fingerprint {
    let hash = digest::digest(&digest::SHA256, der);
    Fingerprint(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn handshake_config(
    provider: &Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    profiles: &[SrtpProtectionProfile],
    connect_to: Option<SocketAddr>,
) -> Result<HandshakeConfig, rtc::shared::error::Error> {
    ConfigBuilder::default()
        .with_crypto_provider(provider.clone())
        .with_certificates(vec![certificate])
        // RFC 8827 §6.5 demands the first; both have a fixed and small overhead, which bounds our datagrams.
        .with_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
        ])
        .with_srtp_protection_profiles(profiles.to_vec())
        // Browsers' certificates are self-signed: the fingerprint is what identifies them.
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .build(connect_to.is_some(), connect_to)
}
