//! Who is who on the control link: certificates of one small authority that signaling keeps.
//!
//! Signaling's certificate is for [`SERVER_NAME`], whatever its address is; a node's is for its own name. Both
//! sides trust this authority alone, so that a certificate of the web is worth nothing here.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig};
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use super::{ALPN, IDLE, KEEP_ALIVE};

/// What signaling's certificate names.
pub const SERVER_NAME: &str = "lectern-signaling";

/// A certificate with its key, and the authority that vouches for the other side.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The text is not a bundle.
    #[error("it must hold, in PEM, the node's certificate, the authority's and the node's key")]
    Bundle,
    /// TLS does not accept it.
    #[error("it cannot be used: {0}")]
    Tls(String),
}

impl Identity {
    /// Reads a bundle in PEM: the own certificate, then the authority's, and the own key.
    pub fn from_pem(text: &[u8]) -> Result<Self, IdentityError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let certificates = certificates.map_err(|_| IdentityError::Bundle)?;
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| IdentityError::Bundle)?;
        let Ok([certificate, authority]) = <[_; 2]>::try_from(certificates) else {
            return Err(IdentityError::Bundle);
        };
        Ok(Self { certificate, authority, key })
    }

    /// For the side that calls.
    pub fn caller(&self) -> Result<ClientConfig, IdentityError> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(tls_error)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(tls_error)?));
        config.transport_config(transport());
        Ok(config)
    }

    /// For the side that answers.
    pub fn answerer(&self) -> Result<ServerConfig, IdentityError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier.build().map_err(tls_error)?)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(tls_error)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).map_err(tls_error)?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport());
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(tls_error)?;
        Ok(roots)
    }
}

/// Whether the certificate that the other side has shown, and TLS has verified, is for this name.
pub fn is_named(connection: &Connection, name: &str) -> bool {
    let Some(identity) = connection.peer_identity() else { return false };
    let Ok(chain) = identity.downcast::<Vec<CertificateDer<'static>>>() else { return false };
    let (Some(certificate), Ok(name)) = (chain.first(), ServerName::try_from(name)) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE).expect("seconds fit");
    transport.max_idle_timeout(Some(idle)).keep_alive_interval(Some(KEEP_ALIVE));
    // Control and data; nothing else is ever opened.
    transport.max_concurrent_bidi_streams(2u8.into()).max_concurrent_uni_streams(0u8.into());
    transport.datagram_receive_buffer_size(None);
    Arc::new(transport)
}

fn tls_error(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Tls(error.to_string())
}
