//! The small certificate authority of the control link. It is made on first need and kept in the state folder;
//! whoever has its file can let nodes in.
//!
//! A node gets one file: its name, its certificate, the authority's, and its key. To shut a node out, delete the
//! authority's file, start signaling again and give the other nodes new files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sfu_protocol::hello::is_node_name;
use sfu_protocol::quic::{Identity, IdentityError, SERVER_NAME};

use crate::keys::write_private;

/// The file in the state folder.
const FILE: &str = "control-authority.pem";

/// Certificates are made by hand and forgotten: ten years.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Before now, for machines whose clock is late.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// Why there is no certificate, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The authority's file holds something else.
    #[error("{0} is damaged: restore it, or delete it and make all nodes' certificates anew")]
    Damaged(String),
    /// The name cannot be in a certificate.
    #[error("'{0}' cannot be a node's name: use small letters, digits and hyphens, at most 63")]
    Name(String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("the authority's certificate: {0}")]
    Use(#[from] IdentityError),
}

/// The authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The one kept in the state folder, made now if there is none. `unix_now` is in seconds.
    pub fn keep(state_dir: &Path, unix_now: u64) -> Result<Self, AuthorityError> {
        let path = state_dir.join(FILE);
        let file_error = |error| AuthorityError::File { path: path.clone(), error };
        if !path.exists() {
            let key = KeyPair::generate()?;
            let certificate = authority_params(unix_now)?.self_signed(&key)?;
            let text = format!("{}{}", certificate.pem(), key.serialize_pem());
            write_private(&path, text.as_bytes()).map_err(file_error)?;
        }
        let text = fs::read_to_string(&path).map_err(file_error)?;
        Self::read(&text).ok_or_else(|| AuthorityError::Damaged(path.display().to_string()))
    }

    fn read(text: &str) -> Option<Self> {
        CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let key_at = text.find("-----BEGIN PRIVATE KEY-----")?;
        let (certificate, key) = text.split_at(key_at);
        let key = KeyPair::from_pem(key).ok()?;
        // What it signs names it by what does not change: its name and its key.
        let issuer = Issuer::new(authority_params(0).ok()?, key);
        Some(Self { certificate: certificate.to_owned(), issuer })
    }

    /// Signaling's own identity, new at each start.
    pub fn signaling(&self, unix_now: u64) -> Result<Identity, AuthorityError> {
        let bundle = self.bundle(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth, unix_now)?;
        Ok(Identity::from_pem(bundle.as_bytes())?)
    }

    /// The file of a node: what `lectern-sfu` takes as its certificate.
    pub fn node(&self, name: &str, unix_now: u64) -> Result<String, AuthorityError> {
        if !is_node_name(name) {
            return Err(AuthorityError::Name(name.to_owned()));
        }
        let bundle = self.bundle(name, ExtendedKeyUsagePurpose::ClientAuth, unix_now)?;
        Ok(format!("# Lectern node: {name}\n{bundle}"))
    }

    fn bundle(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        unix_now: u64,
    ) -> Result<String, AuthorityError> {
        let mut params = valid_from(CertificateParams::new(vec![name.to_owned()])?, unix_now);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(format!("{}{}{}", certificate.pem(), self.certificate, key.serialize_pem()))
    }
}

fn authority_params(unix_now: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = valid_from(CertificateParams::new(Vec::new())?, unix_now);
    params.distinguished_name.push(DnType::CommonName, "Lectern control authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn valid_from(mut params: CertificateParams, unix_now: u64) -> CertificateParams {
    let (epoch, now) = (date_time_ymd(1970, 1, 1), Duration::from_secs(unix_now));
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + VALIDITY;
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keys::random_text;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn is_made_once_and_kept_private() {
        let folder = std::env::temp_dir().join(format!("lectern-authority-{}", random_text::<9>()));
        let made = Authority::keep(&folder, NOW).unwrap().certificate;
        assert_eq!(Authority::keep(&folder, NOW + 5).unwrap().certificate, made);
        let path = folder.join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "nonsense").unwrap();
        let damaged = Authority::keep(&folder, NOW).err().unwrap().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert!(damaged.ends_with("delete it and make all nodes' certificates anew"), "{damaged}");
    }

    #[test]
    fn a_nodes_file_is_an_identity_and_tells_its_name() {
        let folder = std::env::temp_dir().join(format!("lectern-authority-{}", random_text::<9>()));
        let authority = Authority::keep(&folder, NOW).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let file = authority.node("hall", NOW).unwrap();
        assert!(file.starts_with("# Lectern node: hall\n-----BEGIN CERTIFICATE-----"));
        Identity::from_pem(file.as_bytes()).unwrap().caller().unwrap();
        authority.signaling(NOW).unwrap().answerer().unwrap();
        assert!(matches!(authority.node("Hall 1", NOW), Err(AuthorityError::Name(_))));
    }
}
