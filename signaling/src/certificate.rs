//! The self-signed certificate of https: browsers give camera and microphone to secure pages only.
//!
//! It is kept in the state folder, so that a device which accepted it once accepts it after a restart too, and
//! made anew when this machine has addresses that it does not name, or when it is about to end.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::keys::write_private;

const FILE: &str = "certificate.json";

/// How long a certificate is valid: Apple's devices accept no more than 825 days.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A certificate is made anew this long before its end.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Before now, for devices whose clock is late.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, as kept in the state folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SelfSigned {
    names: BTreeSet<String>,
    /// Seconds since 1970.
    expires: u64,
    certificate: String,
    key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The state folder cannot be written to.
    #[error("cannot keep the certificate in {0}: {1}")]
    Store(String, io::Error),
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("cannot use the certificate: {0}")]
    Use(#[from] rustls::Error),
    /// The kept file is damaged.
    #[error("the kept certificate cannot be read: delete {FILE} in the state folder")]
    Damaged,
}

impl SelfSigned {
    /// The certificate kept in the state folder, if it names `localhost` and all these addresses and is good
    /// for a while; else a new one. `unix_now` is in seconds.
    pub fn keep(state_dir: &Path, addresses: &[IpAddr], unix_now: u64) -> Result<Self, CertificateError> {
        let names: BTreeSet<String> =
            addresses.iter().map(IpAddr::to_string).chain(["localhost".to_owned()]).collect();
        let path = state_dir.join(FILE);
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if let Some(kept) = kept
            && names.is_subset(&kept.names)
            && kept.expires >= unix_now + RENEWAL.as_secs()
        {
            return Ok(kept);
        }
        let made = Self::make(names, unix_now)?;
        let bytes = serde_json::to_vec(&made).expect("texts and a number serialise to JSON");
        write_private(&path, &bytes)
            .map_err(|error| CertificateError::Store(path.display().to_string(), error))?;
        Ok(made)
    }

    fn make(names: BTreeSet<String>, unix_now: u64) -> Result<Self, CertificateError> {
        let now = Duration::from_secs(unix_now);
        let epoch = date_time_ymd(1970, 1, 1);
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "Lectern");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = epoch + now.saturating_sub(BACKDATED);
        params.not_after = epoch + now + VALIDITY;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            names,
            expires: (now + VALIDITY).as_secs(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// What a TLS listener needs. Only HTTP/1.1 is offered: WebSockets need it.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|_| CertificateError::Damaged)?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| CertificateError::Damaged)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::random_text;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn keeps_a_certificate_until_an_address_is_new_or_its_end_is_near() {
        let folder = std::env::temp_dir().join(format!("lectern-certificate-{}", random_text::<9>()));
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        let hall: IpAddr = "2001:db8::1".parse().unwrap();
        let keep = |addresses: &[IpAddr], now| SelfSigned::keep(&folder, addresses, now).unwrap().certificate;

        let first = keep(&[home, hall], NOW);
        assert_eq!(keep(&[home, hall], NOW), first);
        assert_eq!(keep(&[home], NOW), first, "an address less does no harm");
        let second = keep(&[home, "192.0.2.2".parse().unwrap()], NOW);
        assert_ne!(second, first);
        let late = NOW + VALIDITY.as_secs() - RENEWAL.as_secs() + 1;
        assert_ne!(keep(&[home], late), second);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn is_what_tls_wants() {
        let made = SelfSigned::make(BTreeSet::from(["localhost".into(), "192.0.2.1".into()]), NOW).unwrap();
        assert_eq!(made.server_config().unwrap().alpn_protocols, [b"http/1.1"]);
    }
}
