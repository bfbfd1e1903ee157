//! Every knob of the service: its unit, default and range.
//!
//! A value comes from the flag, else from the environment (`LECTERN_*`), else from the configuration file
//! (TOML), else from the default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use clap::ValueEnum;
use serde::Deserialize;

use crate::connections::Bounds;
use crate::keys::{Keys, KeysError};
use crate::limits::Limits;

/// The knobs, each as a flag, an environment variable and a key of the file's table `[signaling]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Address and port of http: the page, its requests, and ws. Browsers allow cameras over http on localhost
    /// only; other devices need https, here or by a proxy. Default 127.0.0.1:7880.
    #[arg(long, env = "LECTERN_HTTP_BIND", value_name = "IP:PORT")]
    pub http_bind: Option<SocketAddr>,

    /// Address and port of https and wss with a self-signed certificate, for the other devices of the room.
    /// Default 0.0.0.0:7443.
    #[arg(long, env = "LECTERN_HTTPS_BIND", value_name = "IP:PORT")]
    pub https_bind: Option<SocketAddr>,

    /// Whether there is https. Turn it off where a proxy in front has a real certificate. Default true.
    #[arg(long, env = "LECTERN_HTTPS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub https: Option<bool>,

    /// The URL by which everyone reaches this service, such as `https://lessons.example.org`: the links of a
    /// lesson begin with it. Default: as the one who makes the lesson has reached it.
    #[arg(long, env = "LECTERN_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// Folder for what must outlive a restart: the development key and the certificate. Default .state.
    #[arg(long, env = "LECTERN_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// File of API keys, `name: secret` a line, as LiveKit's. Without it a key for development is made in the
    /// state folder, and this machine's loopback addresses are announced for media.
    #[arg(long, env = "LECTERN_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Whether everyone who reaches the page may make lessons; otherwise a token with `roomCreate` is needed.
    /// Default: only with the development key.
    #[arg(long, env = "LECTERN_OPEN_LESSONS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub open_lessons: Option<bool>,

    /// How long the links of a lesson last, hours, 1..=8760. Default 168: a week.
    #[arg(long, env = "LECTERN_LESSON_TTL_H", value_name = "HOURS")]
    pub lesson_ttl_h: Option<u64>,

    /// Most rooms at a time, 1..=100000. Default 500.
    #[arg(long, env = "LECTERN_MAX_ROOMS", value_name = "COUNT")]
    pub max_rooms: Option<usize>,

    /// Most participants in a room, 2..=1000. Default 200.
    #[arg(long, env = "LECTERN_ROOM_CAPACITY", value_name = "COUNT")]
    pub room_capacity: Option<usize>,

    /// Most tracks that a participant may publish, 1..=64. Default 32.
    #[arg(long, env = "LECTERN_MAX_TRACKS", value_name = "COUNT")]
    pub max_tracks: Option<usize>,

    /// Most TCP connections at a time over http and https, 16..=100000: each device of a lesson keeps one. The
    /// process may open as many files (`ulimit -n`). Default 4096.
    #[arg(long, env = "LECTERN_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,

    /// How long a participant stays whose WebSocket was lost, so that its client can go on where it stopped, seconds,
    /// 0..=600. Default 60.
    #[arg(long, env = "LECTERN_ABSENCE_S", value_name = "SECONDS")]
    pub absence_s: Option<u64>,

    /// How long a room stays without participants, seconds, 0..=86400. Default 20.
    #[arg(long, env = "LECTERN_EMPTY_ROOM_S", value_name = "SECONDS")]
    pub empty_room_s: Option<u64>,

    /// What is logged: error, warn, info, debug or trace, for all or by module. Default info.
    #[arg(long, env = "LECTERN_LOG_FILTER", value_name = "FILTER")]
    pub log_filter: Option<String>,

    /// How log lines are written. Default text.
    #[arg(long, env = "LECTERN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Scheme, host and port of a URL; without a path, as the page stands at the root.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl(String);

/// It is not a URL that the links of a lesson can begin with.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a URL such as https://lessons.example.org, without a path")]
pub struct NotPublicUrl(String);

impl TryFrom<String> for PublicUrl {
    type Error = NotPublicUrl;

    fn try_from(text: String) -> Result<Self, NotPublicUrl> {
        let web = |uri: &Uri| {
            let place = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            place
                && matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.path_and_query().is_none_or(|path| path == "/")
        };
        match text.parse().ok().filter(web) {
            // A fragment is no part of a `Uri`: it would be lost in the link's own.
            Some(_) if !text.contains('#') => Ok(Self(text.trim_end_matches('/').to_owned())),
            _ => Err(NotPublicUrl(text)),
        }
    }
}

impl FromStr for PublicUrl {
    type Err = NotPublicUrl;

    fn from_str(text: &str) -> Result<Self, NotPublicUrl> {
        text.to_owned().try_into()
    }
}

impl PublicUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// The knobs' values, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where http listens.
    pub http_bind: SocketAddr,
    /// Where https listens. None: nowhere.
    pub https_bind: Option<SocketAddr>,
    /// What the links of lessons begin with. None: what the maker's request was sent to.
    pub public_url: Option<PublicUrl>,
    /// What must outlive a restart.
    pub state_dir: PathBuf,
    /// API keys. None: a development key in the state folder.
    pub key_file: Option<PathBuf>,
    /// Whether everyone may make lessons.
    pub open_lessons: bool,
    /// How long a lesson's links last.
    pub lesson_ttl: Duration,
    /// Bounds of rooms.
    pub limits: Limits,
    /// Bounds of connections.
    pub bounds: Bounds,
    /// What is logged.
    pub log_filter: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// What is wrong with a configuration, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
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
}

impl Config {
    /// The flags' values (which hold the environment's), else the file's, else the defaults; checked.
    pub fn new(flags: Knobs, file: Knobs) -> Result<Self, ConfigError> {
        let count = |knob, value: Option<usize>, default: usize, max: usize, min: usize| {
            let value = value.unwrap_or(default);
            in_range(knob, value as u64, min as u64, max as u64).map(|()| value)
        };
        let seconds = |knob, value: Option<u64>, default: Duration, max: u64| {
            let value = value.unwrap_or(default.as_secs());
            in_range(knob, value, 0, max).map(|()| Duration::from_secs(value))
        };
        let default = Limits::default();
        let limits = Limits {
            rooms: count("max_rooms", flags.max_rooms.or(file.max_rooms), default.rooms, 100_000, 1)?,
            participants: count(
                "room_capacity",
                flags.room_capacity.or(file.room_capacity),
                default.participants,
                1000,
                2,
            )?,
            tracks: count("max_tracks", flags.max_tracks.or(file.max_tracks), default.tracks, 64, 1)?,
            absence: seconds("absence_s", flags.absence_s.or(file.absence_s), default.absence, 600)?,
            empty_room: seconds(
                "empty_room_s",
                flags.empty_room_s.or(file.empty_room_s),
                default.empty_room,
                86_400,
            )?,
        };
        let max_connections = flags.max_connections.or(file.max_connections);
        let bounds = Bounds::default();
        let bounds = Bounds {
            connections: count("max_connections", max_connections, bounds.connections, 100_000, 16)?,
            ..bounds
        };
        let lesson_ttl_h = flags.lesson_ttl_h.or(file.lesson_ttl_h).unwrap_or(168);
        in_range("lesson_ttl_h", lesson_ttl_h, 1, 8760)?;
        let https = flags.https.or(file.https).unwrap_or(true);
        let https_bind = flags.https_bind.or(file.https_bind).unwrap_or(DEFAULT_HTTPS);
        let key_file = flags.key_file.or(file.key_file);
        Ok(Self {
            http_bind: flags.http_bind.or(file.http_bind).unwrap_or(DEFAULT_HTTP),
            https_bind: https.then_some(https_bind),
            public_url: flags.public_url.or(file.public_url),
            state_dir: flags.state_dir.or(file.state_dir).unwrap_or_else(|| ".state".into()),
            open_lessons: flags.open_lessons.or(file.open_lessons).unwrap_or(key_file.is_none()),
            key_file,
            lesson_ttl: Duration::from_secs(lesson_ttl_h * 3600),
            limits,
            bounds,
            log_filter: flags.log_filter.or(file.log_filter).unwrap_or_else(|| "info".to_owned()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
        })
    }

    /// Whether this is a machine for trying things out: nobody has configured keys.
    pub fn is_development(&self) -> bool {
        self.key_file.is_none()
    }

    /// The configured keys, or the development key.
    pub fn keys(&self) -> Result<Keys, KeysError> {
        match &self.key_file {
            Some(path) => Keys::read(path),
            None => Keys::development(Path::new(&self.state_dir)),
        }
    }
}

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7880);
const DEFAULT_HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443);

fn in_range(knob: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Range { knob, value, min, max }) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        knobs: Knobs,
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let flags = Cli::parse_from(["lectern", "--absence-s", "5", "--https=false"]).knobs;
        let file: Knobs = toml::from_str("absence_s = 7\nempty_room_s = 8\nhttps = true").unwrap();
        let config = Config::new(flags, file).unwrap();
        assert_eq!(config.limits.absence, Duration::from_secs(5));
        assert_eq!(config.limits.empty_room, Duration::from_secs(8));
        assert_eq!((config.limits.rooms, config.https_bind), (500, None));
    }

    #[test]
    fn lessons_are_open_in_development_alone_unless_told_otherwise() {
        let open =
            |file: &str| Config::new(Knobs::default(), toml::from_str(file).unwrap()).unwrap().open_lessons;
        assert!(open(""));
        assert!(!open("key_file = 'keys'"));
        assert!(open("key_file = 'keys'\nopen_lessons = true"));
    }

    #[test]
    fn a_public_url_is_a_place_without_a_path() {
        let url = |text: &str| text.parse::<PublicUrl>().map(|url| url.as_str().to_owned());
        assert_eq!(url("https://lessons.example.org/").unwrap(), "https://lessons.example.org");
        assert_eq!(url("http://[2001:db8::1]:7880").unwrap(), "http://[2001:db8::1]:7880");
        for wrong in [
            "lessons.example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://a:b@c",
        ] {
            let error = url(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn values_out_of_range_and_unknown_knobs_are_named() {
        let file = |text: &str| Config::new(Knobs::default(), toml::from_str(text).unwrap());
        let error = file("room_capacity = 1").unwrap_err().to_string();
        assert_eq!(error, "room_capacity is 1: choose 2 to 1000");
        assert!(file("lesson_ttl_h = 0").is_err() && file("absence_s = 601").is_err());
        assert!(file("max_connections = 15").is_err());
        assert!(toml::from_str::<Knobs>("room_capcity = 9").is_err());
    }
}
