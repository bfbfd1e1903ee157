//! API keys: names and secrets that sign access tokens.
//!
//! The file holds one `name: secret` a line, as LiveKit's key file does. Where none is configured, a key for
//! development is made at the first start and kept in the state folder, readable by its owner only.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The file in the state folder that keeps the development key.
const DEVELOPMENT_FILE: &str = "keys";

/// Most keys that are read from one file.
const MAX_KEYS: usize = 64;

/// API keys, at least one. The first one signs what we sign ourselves.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<(String, String)>,
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(name, _)| name)).finish()
    }
}

/// Why keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A line is not `name: secret`.
    #[error("line {0} of the keys is not `name: secret`")]
    Line(usize),
    /// There is no key, or there are too many.
    #[error("the keys need at least one and at most {MAX_KEYS} lines `name: secret`")]
    Count,
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

impl Keys {
    /// Reads lines `name: secret`; empty lines and those that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, secret) = line.split_once(':').ok_or(KeysError::Line(index + 1))?;
            let (name, secret) = (name.trim(), secret.trim());
            if name.is_empty() || secret.is_empty() {
                return Err(KeysError::Line(index + 1));
            }
            keys.push((name.to_owned(), secret.to_owned()));
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(KeysError::Count);
        }
        Ok(Self { keys })
    }

    /// Reads a file of keys.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text =
            fs::read_to_string(path).map_err(|error| KeysError::File { path: path.to_owned(), error })?;
        Self::parse(&text)
    }

    /// The development key of this state folder, made now if there is none.
    pub fn development(state_dir: &Path) -> Result<Self, KeysError> {
        let path = state_dir.join(DEVELOPMENT_FILE);
        if !path.exists() {
            let line = format!("development: {}\n", random_text::<32>());
            write_private(&path, line.as_bytes())
                .map_err(|error| KeysError::File { path: path.clone(), error })?;
        }
        Self::read(&path)
    }

    /// The secret of a key.
    pub fn secret(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, secret)| secret.as_str())
    }

    /// The name and secret that sign our own tokens.
    pub fn first(&self) -> (&str, &str) {
        let (name, secret) = self.keys.first().expect("parse refuses an empty list");
        (name, secret)
    }
}

/// Writes a file that only its owner may read, with its folder; never leaves half of it.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    write_secret(path, bytes)
}

/// Writes a file that only its owner may read into a folder that is there; never leaves half of it.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // The mode counts for a file that is made now: a leftover would keep its own.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// `N` random bytes from the system as URL-safe text.
pub fn random_text<const N: usize>() -> String {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail once it has started");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A random number from the system.
pub fn random_number() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail once it has started");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_and_says_which_line_is_wrong() {
        let keys = Keys::parse("# ours\n a : one:two \n\nb: three").unwrap();
        assert_eq!(keys.first(), ("a", "one:two"));
        assert_eq!((keys.secret("b"), keys.secret("c")), (Some("three"), None));
        assert!(matches!(Keys::parse("a: x\nnonsense"), Err(KeysError::Line(2))));
        assert!(matches!(Keys::parse("a:"), Err(KeysError::Line(1))));
        assert!(matches!(Keys::parse("# none"), Err(KeysError::Count)));
    }

    #[test]
    fn shows_no_secret() {
        assert_eq!(format!("{:?}", Keys::parse("a: hush").unwrap()), r#"["a"]"#);
    }

    #[test]
    fn a_leftover_that_others_may_read_gets_no_secret() {
        let folder = std::env::temp_dir().join(format!("lectern-keys-{}", random_text::<9>()));
        fs::create_dir(&folder).unwrap();
        for name in ["node.pem", "node.new"] {
            let path = folder.join(name);
            for leftover in [folder.join(format!("{name}.new")), folder.join("node.new")] {
                fs::write(&leftover, "old").unwrap();
                fs::set_permissions(&leftover, fs::Permissions::from_mode(0o644)).unwrap();
            }
            write_secret(&path, b"secret").unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!((fs::read(&path).unwrap(), mode & 0o777), (b"secret".to_vec(), 0o600), "{name}");
            assert!(!folder.join(format!("{name}.new")).exists());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn makes_a_private_development_key_once() {
        let folder = std::env::temp_dir().join(format!("lectern-keys-{}", random_text::<9>()));
        let made = Keys::development(&folder).unwrap();
        let again = Keys::development(&folder).unwrap();
        let mode = fs::metadata(folder.join(DEVELOPMENT_FILE)).unwrap().permissions().mode();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(made.first(), again.first());
        assert!(made.first().1.len() >= 43, "32 random bytes");
        assert_eq!(mode & 0o777, 0o600);
    }
}
