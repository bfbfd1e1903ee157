//! Knobs of the control link.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use crate::config::ConfigError;

/// The knobs, each as a flag, an environment variable and a key of the file's table `[control]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlKnobs {
    /// Address and UDP port that SFU nodes connect to; only they can, by their certificates. Default 0.0.0.0:7883.
    #[arg(long, env = "LECTERN_CONTROL_BIND", value_name = "IP:PORT")]
    pub control_bind: Option<SocketAddr>,

    /// How long a node may be out of reach, seconds, 1..=3600, before its participants are told to join anew on
    /// another one. Where there is no other, media goes on and nobody is told. Default 30.
    #[arg(long, env = "LECTERN_NODE_PATIENCE_S", value_name = "SECONDS")]
    pub node_patience_s: Option<u64>,
}

/// The knobs' values, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where nodes connect to.
    pub bind: SocketAddr,
    /// How long a node may be out of reach.
    pub patience: Duration,
}

impl ControlConfig {
    /// The flags' values, else the file's, else the defaults; checked.
    pub fn new(flags: &ControlKnobs, file: &ControlKnobs) -> Result<Self, ConfigError> {
        let bind = flags.control_bind.or(file.control_bind).unwrap_or(DEFAULT_BIND);
        let patience = flags.node_patience_s.or(file.node_patience_s).unwrap_or(30);
        let (min, max) = (1, 3600);
        match (min..=max).contains(&patience) {
            true => Ok(Self { bind, patience: Duration::from_secs(patience) }),
            false => Err(ConfigError::Range { knob: "node_patience_s", value: patience, min, max }),
        }
    }
}

const DEFAULT_BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7883);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_file_and_a_value_out_of_range_is_named() {
        let file: ControlKnobs = toml::from_str("node_patience_s = 9\ncontrol_bind = '127.0.0.1:1'").unwrap();
        let flags = ControlKnobs { node_patience_s: Some(5), ..ControlKnobs::default() };
        let config = ControlConfig::new(&flags, &file).unwrap();
        assert_eq!((config.bind.port(), config.patience), (1, Duration::from_secs(5)));
        let flags = ControlKnobs { node_patience_s: Some(0), ..ControlKnobs::default() };
        let error = ControlConfig::new(&flags, &file).unwrap_err().to_string();
        assert_eq!(error, "node_patience_s is 0: choose 1 to 3600");
    }
}
