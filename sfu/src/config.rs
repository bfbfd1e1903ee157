//! Every knob of the SFU: its unit, default and range, in one table.
//!
//! A value comes from the configuration file (TOML), else from the default; the environment (`LECTERN_SFU_*`)
//! overrides both, a flag overrides all. [`Config`] is what the SFU itself needs, wherever it runs: the binary
//! `lectern`, which runs an SFU in its own process, embeds it with [`Overrides`] beside its own knobs.
//! [`ServiceConfig`] adds what only the binary `lectern-sfu` needs.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Deserialize;
use sfu_core::worker::MAX_WORKERS;
use thiserror::Error;

/// Defines a configuration, its defaults, and the flags and environment variables that override it, so that a
/// knob is described once.
macro_rules! knobs {
    (
        $(#[doc = $config_doc:literal])* $config:ident,
        $(#[doc = $overrides_doc:literal])* $overrides:ident:
        $(
            $(#[doc = $doc:literal])*
            $(#[arg($($arg:tt)*)])?
            $name:ident: $type:ty = $default:expr, $env:literal;
        )*
    ) => {
        $(#[doc = $config_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $config {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $config {
            /// Replaces the values that flags or the environment gave.
            pub fn apply(&mut self, overrides: $overrides) {
                $(if let Some(value) = overrides.$name { self.$name = value; })*
            }
        }

        $(#[doc = $overrides_doc])*
        #[derive(Clone, Debug, Default, clap::Args)]
        #[group(skip)]
        pub struct $overrides {
            $(
                $(#[doc = $doc])*
                #[arg(long, env = $env, $($($arg)*)?)]
                $name: Option<$type>,
            )*
        }
    };
}

knobs! {
    /// What an SFU needs to know, wherever it runs.
    Config,
    /// Flags and environment variables that override a [`Config`].
    Overrides:

    /// Address and UDP port of all media. The default listens on every IPv4 address; `[::]:7882` on every IPv4
    /// and IPv6 address; either with a socket besides for each of the machine's first four. Port 0 takes any free
    /// one. Default 0.0.0.0:7882.
    #[arg(value_name = "IP:PORT")]
    udp_bind: SocketAddr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 7882), "LECTERN_SFU_UDP_BIND";

    /// Threads that carry media, 1..=64, all on the one UDP port. A room is on one of them, chosen when it opens:
    /// the one with the fewest participants. Default: as many as there are cores, at most 16.
    #[arg(value_name = "COUNT")]
    workers: usize = default_workers(), "LECTERN_SFU_WORKERS";

    /// Addresses that clients are told to send to, where they differ from this machine's own (a cloud's 1:1
    /// NAT): IP, or IP:PORT where the port is mapped too. At most 16. Default: those of the interfaces that are
    /// up, link-local and loopback ones left out.
    #[arg(value_name = "IP[:PORT],..", value_delimiter = ',')]
    node_ip: Vec<NodeAddress> = Vec::new(), "LECTERN_SFU_NODE_IP";

    /// Tell clients the loopback addresses too, for a browser on this very machine. Default false.
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    announce_loopback: bool = false, "LECTERN_SFU_ANNOUNCE_LOOPBACK";

    /// Each worker's kernel buffer for datagrams that wait to be read, bytes, 65536..=268435456. 1 MiB is about 0.2 s of
    /// 40 Mbit/s. Without CAP_NET_ADMIN, net.core.rmem_max limits it. Default 4194304.
    #[arg(value_name = "BYTES")]
    receive_buffer_bytes: u32 = 4 << 20, "LECTERN_SFU_RECEIVE_BUFFER_BYTES";

    /// Each worker's kernel buffer for datagrams that wait to be sent, bytes, 65536..=268435456. When it is full, packets wait
    /// in a queue of 8 MB, where sound overtakes pictures. Limited by net.core.wmem_max likewise. Default 1048576.
    #[arg(value_name = "BYTES")]
    send_buffer_bytes: u32 = 1 << 20, "LECTERN_SFU_SEND_BUFFER_BYTES";

    /// How many packets of sound leave as one on the way to every receiver at least, 1..=3: where all lines are thin, 2
    /// or 3 save 12 or 16 kbit/s for each voice, for 20 or 40 ms of delay. Default 1.
    #[arg(value_name = "COUNT")]
    merge_audio: u8 = 1, "LECTERN_SFU_MERGE_AUDIO";

    /// Say all sound twice to clients that take it (RED, RFC 2198): where all lines lose much and are not thin, for 15
    /// to 40 kbit/s more for each voice. Default false.
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redundant_audio: bool = false, "LECTERN_SFU_REDUNDANT_AUDIO";

    /// Silence after which a client counts as gone, seconds, 10..=3600: how long an outage of a school's line
    /// may last without anyone having to join again. Default 120.
    #[arg(value_name = "SECONDS")]
    consent_timeout_s: u64 = 120, "LECTERN_SFU_CONSENT_TIMEOUT_S";

    /// Find out what each participant's line carries, and send no more than that. Default false.
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    link_control: bool = false, "LECTERN_SFU_LINK_CONTROL";

    /// Most participants in one room, 2..=1000; a client with two connections (LiveKit's older protocol) counts as
    /// two. Default 200.
    #[arg(value_name = "COUNT")]
    max_participants_per_room: usize = 200, "LECTERN_SFU_MAX_PARTICIPANTS_PER_ROOM";

    /// How long a stopping SFU waits for its rooms to empty before it closes them, seconds, 0..=86400.
    /// Default 30.
    #[arg(value_name = "SECONDS")]
    drain_deadline_s: u64 = 30, "LECTERN_SFU_DRAIN_DEADLINE_S";
}

impl Config {
    /// Checks every range; the error names the first knob that is out of its own, and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("workers", self.workers as u64, (1, MAX_WORKERS as u64))?;
        in_range("receive_buffer_bytes", self.receive_buffer_bytes.into(), SOCKET_BUFFER)?;
        in_range("send_buffer_bytes", self.send_buffer_bytes.into(), SOCKET_BUFFER)?;
        in_range("merge_audio", self.merge_audio.into(), (1, 3))?;
        in_range("consent_timeout_s", self.consent_timeout_s, (10, 3600))?;
        in_range("max_participants_per_room", self.max_participants_per_room as u64, (2, 1000))?;
        in_range("drain_deadline_s", self.drain_deadline_s, (0, 86_400))?;
        in_range("the number of node_ip addresses", self.node_ip.len() as u64, (0, 16))?;
        for address in &self.node_ip {
            if address.ip.is_unspecified() || address.ip.is_multicast() {
                return Err(ConfigError::NotAnAddress(*address));
            }
            if address.ip.is_ipv6() && self.udp_bind.is_ipv4() {
                return Err(ConfigError::NeedsIpv6(*address, self.udp_bind.port()));
            }
        }
        Ok(())
    }

    /// [`Self::consent_timeout_s`] as a duration.
    pub fn consent_timeout(&self) -> Duration {
        Duration::from_secs(self.consent_timeout_s)
    }

    /// [`Self::drain_deadline_s`] as a duration.
    pub fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.drain_deadline_s)
    }
}

/// One for each core that we may use. Beyond 16 the kernel's side of one port is what limits.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(16))
}

/// 64 KiB to 256 MiB.
const SOCKET_BUFFER: (u64, u64) = (1 << 16, 1 << 28);

fn in_range(knob: &'static str, value: u64, (min, max): (u64, u64)) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Range { knob, value, min, max }) }
}

/// An address for clients to send to, as an operator writes it: `203.0.113.7`, or `203.0.113.7:30082`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, where it is not the one that the SFU listens on.
    pub port: Option<u16>,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port =
            text.parse::<SocketAddr>().map(|addr| Self { ip: addr.ip(), port: Some(addr.port()) });
        with_port
            .or_else(|_| text.parse().map(|ip| Self { ip, port: None }))
            .map_err(|_| format!("'{text}' is neither an IP address nor IP:PORT"))
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// What is wrong with a configuration, in one line that says what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value is out of its range.
    #[error("{knob} is {value}: choose {min} to {max}")]
    Range {
        /// The knob.
        knob: &'static str,
        /// What was asked for.
        value: u64,
        /// The smallest that is accepted.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// Nothing can be sent to that address.
    #[error("node_ip {0} is not a machine's address: name one that clients can reach")]
    NotAnAddress(NodeAddress),
    /// An IPv6 address is announced and nobody listens on IPv6.
    #[error("node_ip {0} needs an IPv6 socket: set udp_bind to [::]:{1}")]
    NeedsIpv6(NodeAddress, u16),
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is not TOML, or holds something else than these knobs.
    #[error("{0}: {1}")]
    Malformed(PathBuf, String),
}

knobs! {
    /// What the process of `lectern-sfu` needs besides an SFU.
    ProcessConfig,
    /// Flags and environment variables that override a [`ProcessConfig`].
    ProcessOverrides:

    /// Address and TCP port of /metrics, /healthz and /readyz. Default 127.0.0.1:7884.
    #[arg(value_name = "IP:PORT")]
    metrics_bind: SocketAddr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7884), "LECTERN_SFU_METRICS_BIND";

    /// What is logged: error, warn, info, debug or trace, for all or by module, such as `info,sfu::udp=debug`.
    /// Default info.
    #[arg(value_name = "FILTER")]
    log_filter: String = "info".to_owned(), "LECTERN_SFU_LOG_FILTER";

    /// How log lines are written. Default text.
    #[arg(value_name = "FORMAT")]
    log_format: LogFormat = LogFormat::Text, "LECTERN_SFU_LOG_FORMAT";
}

knobs! {
    /// Where signaling is, for an SFU in a process of its own.
    ControlConfig,
    /// Flags and environment variables that override a [`ControlConfig`].
    ControlOverrides:

    /// Name or address of `lectern-signaling`, and the UDP port of its control link. Default 127.0.0.1:7883.
    #[arg(value_name = "HOST:PORT")]
    signaling: String = "127.0.0.1:7883".to_owned(), "LECTERN_SFU_SIGNALING";

    /// File that `lectern-signaling node-certificate NAME` has made for this node: its name, certificate and key.
    /// Default node.pem.
    #[arg(value_name = "FILE")]
    node_certificate: PathBuf = "node.pem".into(), "LECTERN_SFU_NODE_CERTIFICATE";

    /// How many participants this node is meant for, 1..=100000. It is no limit: a new lesson begins on the node
    /// that is filled least. Default 200.
    #[arg(value_name = "COUNT")]
    capacity: u32 = 200, "LECTERN_SFU_CAPACITY";
}

impl ControlConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("capacity", self.capacity.into(), (1, 100_000))
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// The configuration of the binary `lectern-sfu`: a file with the tables `[process]`, `[control]` and
/// `[sfu]`, and overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// The process.
    pub process: ProcessConfig,
    /// The way to signaling.
    pub control: ControlConfig,
    /// The SFU in it.
    pub sfu: Config,
}

impl ServiceConfig {
    /// The configuration that a command line asks for, checked.
    pub fn load(cli: Cli) -> Result<Self, ConfigError> {
        let mut config = match &cli.config {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        config.process.apply(cli.process);
        config.control.apply(cli.control);
        config.sfu.apply(cli.sfu);
        config.control.validate()?;
        config.sfu.validate()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|e| ConfigError::Unreadable(path.to_owned(), e))?;
        toml::from_str(&text).map_err(|e| ConfigError::Malformed(path.to_owned(), one_line(&text, &e)))
    }
}

/// A TOML error without the excerpt that it draws below its message.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message().replace('\n', ", "))
}

/// Lectern's selective forwarding unit.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "lectern-sfu", version)]
pub struct Cli {
    /// Configuration file (TOML): tables `[process]`, `[control]` and `[sfu]` with the keys below, `-` written as `_`.
    #[arg(long, env = "LECTERN_SFU_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessOverrides,
    #[command(flatten)]
    control: ControlOverrides,
    #[command(flatten)]
    sfu: Overrides,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let mut config: Config = toml::from_str("consent_timeout_s = 60\ndrain_deadline_s = 5").unwrap();
        let cli =
            Cli::parse_from(["lectern-sfu", "--consent-timeout-s", "90", "--node-ip", "10.0.0.1,10.0.0.2:9"]);
        config.apply(cli.sfu);
        assert_eq!((config.consent_timeout_s, config.drain_deadline_s), (90, 5));
        assert_eq!(config.max_participants_per_room, Config::default().max_participants_per_room);
        let node_ip: Vec<_> = config.node_ip.iter().map(ToString::to_string).collect();
        assert_eq!(node_ip, ["10.0.0.1", "10.0.0.2:9"]);
    }

    #[test]
    fn a_bare_flag_turns_a_switch_on() {
        let cli = Cli::parse_from(["lectern-sfu", "--announce-loopback"]);
        assert_eq!(cli.sfu.announce_loopback, Some(true));
    }

    #[test]
    fn mistakes_are_one_line_that_says_what_to_do() {
        for (toml, expected) in [
            ("consent_timeout_s = 3", "consent_timeout_s is 3: choose 10 to 3600"),
            ("workers = 0", "workers is 0: choose 1 to 64"),
            ("workers = 65", "workers is 65: choose 1 to 64"),
            ("send_buffer_bytes = 1", "send_buffer_bytes is 1: choose 65536 to 268435456"),
            (
                "node_ip = ['0.0.0.0']",
                "node_ip 0.0.0.0 is not a machine's address: name one that clients can reach",
            ),
            (
                "node_ip = ['2001:db8::1']",
                "node_ip 2001:db8::1 needs an IPv6 socket: set udp_bind to [::]:7882",
            ),
        ] {
            let config: Config = toml::from_str(toml).unwrap();
            assert_eq!(config.validate().unwrap_err().to_string(), expected, "{toml}");
        }
    }

    #[test]
    fn a_malformed_file_names_its_line() {
        for (text, expected) in [
            ("[sfu]\nconsent_timeout = 1", "line 2: unknown field `consent_timeout`, expected one of"),
            ("[sfu]\n\nnode_ip = ['home']", "line 3: 'home' is neither an IP address nor IP:PORT"),
            ("[sfu", "line 1: "),
        ] {
            let error = toml::from_str::<ServiceConfig>(text).unwrap_err();
            let line = one_line(text, &error);
            assert!(line.starts_with(expected) && !line.contains('\n'), "{line}");
        }
    }
}
