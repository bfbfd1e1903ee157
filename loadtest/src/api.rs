//! Lectern's own two requests, over the little of HTTP/1.1 (RFC 9112) that they need: a POST of JSON on a
//! connection of its own. No TLS, no redirects, no chunked bodies.

use std::net::IpAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A server's address: `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

/// A lesson that was made, with the links that invite to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Lesson {
    /// Link of who leads it.
    pub teacher: String,
    /// Link of the classes.
    pub class: String,
}

/// Leave to enter a lesson.
#[derive(Clone, Debug, Deserialize)]
pub struct Admission {
    /// The access token.
    pub token: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is not one of a server.
    #[error("{0}: not an address of the form http://host:port (TLS is not supported)")]
    Address(String),
    /// No connection, or it broke.
    #[error("{server}: {error}")]
    Io {
        /// Who was asked.
        server: String,
        /// What happened.
        error: std::io::Error,
    },
    /// No answer in time.
    #[error("{0}: no answer in {seconds} s", seconds = TIMEOUT.as_secs())]
    Timeout(String),
    /// The server said no.
    #[error("POST {path}: the server answered {status}")]
    Status {
        /// What was asked.
        path: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// The answer is not what was asked for.
    #[error("POST {path}: not an answer that this program understands")]
    Answer {
        /// What was asked.
        path: &'static str,
    },
}

impl Server {
    /// Reads `http://host[:port]`, also with `ws://`; a path is ignored.
    pub fn parse(url: &str) -> Result<Self, ApiError> {
        let error = || ApiError::Address(url.to_owned());
        let authority = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("ws://"))
            .and_then(|rest| rest.split(['/', '?', '#']).next())
            .filter(|authority| !authority.contains('@'))
            .ok_or_else(error)?;
        // The colons of an IPv6 address are inside its brackets.
        let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| error())?),
            None => (authority, 80),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let valid =
            !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c));
        if valid { Ok(Self { host: host.to_owned(), port }) } else { Err(error()) }
    }

    /// `host:port`, as the `Host` header has it.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Makes a lesson.
    pub async fn make_lesson(&self, name: &str) -> Result<Lesson, ApiError> {
        self.post("/api/lessons", &NewLesson { name }).await
    }

    /// Exchanges a link for leave to enter.
    pub async fn join(&self, link: &str, name: &str, school: Option<&str>) -> Result<Admission, ApiError> {
        let invitation = link
            .split_once('#')
            .and_then(|(_, fragment)| fragment.split('&').find_map(|part| part.strip_prefix("invitation=")))
            .unwrap_or(link);
        self.post("/api/join", &Join { invitation, name, school }).await
    }

    /// A connection to the server, and this machine's address on it.
    pub async fn connect(&self) -> Result<(TcpStream, IpAddr), ApiError> {
        let authority = self.authority();
        let io = |error| ApiError::Io { server: authority.clone(), error };
        let stream = timeout(TIMEOUT, TcpStream::connect(&authority))
            .await
            .map_err(|_| ApiError::Timeout(authority.clone()))?
            .map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        let local = stream.local_addr().map_err(io)?.ip();
        Ok((stream, local))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).expect("strings always serialise");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.authority(),
            body.len(),
        );
        let (mut stream, _) = self.connect().await?;
        let mut response = Vec::new();
        let exchange = async {
            stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            stream.take(MAX_RESPONSE).read_to_end(&mut response).await
        };
        timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| ApiError::Timeout(self.authority()))?
            .map_err(|error| ApiError::Io { server: self.authority(), error })?;
        let (status, body) = parse_response(&response).ok_or(ApiError::Answer { path })?;
        if !(200..300).contains(&status) {
            return Err(ApiError::Status { path, status });
        }
        serde_json::from_slice(body).map_err(|_| ApiError::Answer { path })
    }
}

#[derive(Serialize)]
struct NewLesson<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Join<'a> {
    invitation: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    school: Option<&'a str>,
}

/// Status and body of a response that was read to its end.
fn parse_response(response: &[u8]) -> Option<(u16, &[u8])> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&response[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some((status, &response[end + 4..]))
}

/// How long a server on a school's line may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tokens and links take a few hundred bytes each.
const MAX_RESPONSE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (url, authority) in [
            ("http://localhost:7880", Some("localhost:7880")),
            ("http://localhost:7880/", Some("localhost:7880")),
            ("http://127.0.0.1", Some("127.0.0.1:80")),
            ("ws://[::1]:99/rtc?x", Some("[::1]:99")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://localhost:7443", None),
            ("localhost:7880", None),
            ("http://", None),
            ("http://user@host", None),
            ("http://host:port", None),
            ("http://a\r\nb", None),
        ] {
            assert_eq!(
                Server::parse(url).ok().map(|server| server.authority()).as_deref(),
                authority,
                "{url}"
            );
        }
    }

    #[test]
    fn responses_are_read() {
        for (response, expected) in [
            (&b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"[..], Some((200, &b"{}"[..]))),
            (b"HTTP/1.0 404 Not Found\r\n\r\n", Some((404, b""))),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"SSH-2.0-x\r\n\r\n", None),
            (b"HTTP/1.1 2\r\n\r\n", None),
        ] {
            assert_eq!(parse_response(response), expected);
        }
    }
}
