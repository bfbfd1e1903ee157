//! Moves the frames of a [`Link`] over the streams of a connection.

use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, TransportErrorCode, WriteError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{CloseCode, IDLE};
use crate::frame::{self, Decoder, FrameError};
use crate::hello::{Hello, HelloError, Welcome};
use crate::lane::{Item, Lane};
use crate::link::{Link, LinkStats, MAX_INBOX, Message};

/// How long either side waits for the other's first words.
pub const HANDSHAKE: Duration = IDLE;

/// How long the last messages may take when the owner has gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// While nothing more is taken from the owner it is looked this often whether it has gone.
const RECHECK: Duration = Duration::from_secs(1);

/// Bytes written ahead to each stream, and read from it at once.
const CHUNK: usize = 64 * 1024;

/// The owner's ends of a link.
#[derive(Debug)]
pub struct Ends<Out, In> {
    /// What it wants sent.
    pub outgoing: mpsc::Receiver<Out>,
    /// Where it reads.
    pub incoming: mpsc::Sender<In>,
    /// What the link counts.
    pub stats: watch::Sender<LinkStats>,
}

/// Why a connection carries no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is lost: why, in words.
    Lost(String),
    /// The owner has dropped its ends.
    OwnerGone,
}

/// Why a connection did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It was lost or refused.
    #[error("{}", explain(.0))]
    Connection(#[from] ConnectionError),
    /// The other side's first words cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side's hello cannot be read.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// It did not come.
    #[error("the other side says nothing")]
    Silent,
}

impl From<WriteError> for CallError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Silent,
        }
    }
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::Silent,
        }
    }
}

/// The streams of a connection.
#[derive(Debug)]
pub struct Streams {
    control: (Writer, Reader),
    data: (Writer, Reader),
}

/// A caller that has said hello and waits to be welcomed.
#[derive(Debug)]
pub struct Caller {
    /// What it said.
    pub hello: Hello,
    control: (Writer, Reader),
}

/// Says hello, and hears the welcome.
pub async fn call(connection: &Connection, hello: &Hello) -> Result<(Welcome, Streams), CallError> {
    let calling = async {
        let mut control = pipe(connection.open_bi().await?);
        hello.encode(&mut control.0.staged)?;
        control.0.flush().await?;
        let welcome = control.1.first(frame::decode).await?;
        // A stream exists for the other side once something is said on it.
        let mut data = pipe(connection.open_bi().await?);
        let number = match (welcome, hello.resume) {
            (Welcome::Resumed(_), Some(resume)) => resume.received.data,
            _ => 0,
        };
        frame::encode(&Item::<()>::Received { number }, &mut data.0.staged)?;
        Ok((welcome, Streams { control, data }))
    };
    timeout(HANDSHAKE, calling).await.map_err(|_| CallError::Silent)?
}

/// Hears the hello of who has called.
pub async fn answer(connection: &Connection) -> Result<Caller, CallError> {
    let answering = async {
        let mut control = pipe(connection.accept_bi().await?);
        let hello = control.1.first(Hello::decode).await?;
        Ok(Caller { hello, control })
    };
    timeout(HANDSHAKE, answering).await.map_err(|_| CallError::Silent)?
}

impl Caller {
    /// Lets it in.
    pub async fn welcome(self, connection: &Connection, welcome: Welcome) -> Result<Streams, CallError> {
        let mut control = self.control;
        let welcoming = async {
            frame::encode(&welcome, &mut control.0.staged)?;
            control.0.flush().await?;
            let data = pipe(connection.accept_bi().await?);
            Ok(Streams { control, data })
        };
        timeout(HANDSHAKE, welcoming).await.map_err(|_| CallError::Silent)?
    }
}

impl<Out: Message, In: Message> Ends<Out, In> {
    /// Carries messages both ways until the connection or the owner is gone.
    pub async fn carry(
        &mut self,
        link: &mut Link<Out, In>,
        connection: &Connection,
        streams: Streams,
    ) -> Ended {
        let ended = self.pump(link, streams).await;
        link.disconnected();
        self.stats.send_replace(link.stats());
        match &ended {
            Ended::OwnerGone => CloseCode::Stopped.close(connection, "stopped"),
            Ended::Lost(words) => CloseCode::Protocol.close(connection, words),
        }
        ended
    }

    async fn pump(&mut self, link: &mut Link<Out, In>, streams: Streams) -> Ended {
        let Streams { control: (mut control_out, mut control_in), data: (mut data_out, mut data_in) } =
            streams;
        let mut finish: Option<Instant> = None;
        loop {
            control_out.stage(&mut link.control);
            data_out.stage(&mut link.data);
            self.stats.send_if_modified(|stats| std::mem::replace(stats, link.stats()) != link.stats());
            if finish.is_some() && link.is_settled() {
                return Ended::OwnerGone;
            }
            let room_in = link.inbox.len() < MAX_INBOX;
            // What came last says what has arrived there: who does not read must not wait for it, as its owner may
            // take in nothing until it has got rid of what it says.
            let room_out = link.has_room() || !room_in;
            let gone = self.outgoing.is_closed();
            let step = tokio::select! {
                message = self.outgoing.recv(), if finish.is_none() && (room_out || gone) => {
                    match message {
                        Some(message) => link.send(&message),
                        None => finish = Some(Instant::now() + FAREWELL),
                    }
                    Ok(())
                }
                () = sleep(RECHECK), if !(room_out || gone) => Ok(()),
                permit = self.incoming.reserve(), if !link.inbox.is_empty() => match permit {
                    Ok(permit) => {
                        deliver(link, permit);
                        Ok(())
                    }
                    Err(_) => return Ended::OwnerGone,
                },
                written = control_out.write(), if control_out.has_more() => written,
                written = data_out.write(), if data_out.has_more() => written,
                read = control_in.read(), if room_in => match read {
                    Ok(()) => control_in.take(link, |link| &mut link.control),
                    Err(error) => Err(error),
                },
                read = data_in.read(), if room_in => match read {
                    Ok(()) => data_in.take(link, |link| &mut link.data),
                    Err(error) => Err(error),
                },
                () = sleep_until(finish.unwrap_or_else(Instant::now)), if finish.is_some() => {
                    return Ended::OwnerGone;
                }
            };
            if let Err(words) = step {
                return Ended::Lost(words);
            }
            // The counts begin anew, which those of this connection do not fit.
            if !link.has_session() {
                return Ended::Lost("more waited for the other side than is kept".to_owned());
            }
        }
    }

    /// Takes what the owner wants sent while there is no connection. Returns when the owner is gone.
    pub async fn hold(&mut self, link: &mut Link<Out, In>) {
        loop {
            self.stats.send_if_modified(|stats| std::mem::replace(stats, link.stats()) != link.stats());
            tokio::select! {
                message = self.outgoing.recv() => match message {
                    Some(message) => link.send(&message),
                    None => return,
                },
                permit = self.incoming.reserve(), if !link.inbox.is_empty() => match permit {
                    Ok(permit) => deliver(link, permit),
                    Err(_) => return,
                },
            }
        }
    }
}

/// The next message, to the owner.
fn deliver<Out: Message, In: Message>(link: &mut Link<Out, In>, permit: mpsc::Permit<'_, In>) {
    if let Some(message) = link.poll_received() {
        permit.send(message);
    }
}

fn pipe((send, recv): (SendStream, RecvStream)) -> (Writer, Reader) {
    (
        Writer { stream: send, staged: Vec::new(), written: 0 },
        Reader { stream: recv, decoder: Decoder::default() },
    )
}

/// Writes staged frames; each of its futures may be dropped at any time.
#[derive(Debug)]
struct Writer {
    stream: SendStream,
    staged: Vec<u8>,
    written: usize,
}

impl Writer {
    fn has_more(&self) -> bool {
        self.written < self.staged.len()
    }

    fn stage(&mut self, lane: &mut Lane) {
        if !self.has_more() {
            self.staged.clear();
            self.written = 0;
            lane.transmit(CHUNK, &mut self.staged);
        }
    }

    async fn write(&mut self) -> Result<(), String> {
        match self.stream.write(&self.staged[self.written..]).await {
            Ok(count) => self.written += count,
            Err(WriteError::ConnectionLost(error)) => return Err(explain(&error)),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), WriteError> {
        self.stream.write_all(&std::mem::take(&mut self.staged)).await
    }
}

/// Reads frames; each of its futures may be dropped at any time.
#[derive(Debug)]
struct Reader {
    stream: RecvStream,
    decoder: Decoder,
}

impl Reader {
    async fn read(&mut self) -> Result<(), String> {
        match self.stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
            Ok(None) => return Err("the other side has ended a stream".to_owned()),
            Err(ReadError::ConnectionLost(error)) => return Err(explain(&error)),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Gives the link all whole messages that have been read.
    fn take<Out: Message, In: Message>(
        &mut self,
        link: &mut Link<Out, In>,
        lane: impl Fn(&mut Link<Out, In>) -> &mut Lane,
    ) -> Result<(), String> {
        while let Some(payload) = self.decoder.payload().map_err(|error| error.to_string())? {
            if let Some(message) = lane(link).decode(payload).map_err(|error| error.to_string())? {
                link.take_in(message);
            }
        }
        Ok(())
    }

    /// The first frame.
    async fn first<T, E>(&mut self, decode: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, CallError>
    where
        CallError: From<E>,
    {
        loop {
            if let Some(payload) = self.decoder.payload()? {
                return Ok(decode(payload)?);
            }
            match self.stream.read_chunk(CHUNK, true).await? {
                Some(chunk) => self.decoder.push(&chunk.bytes),
                None => return Err(CallError::Silent),
            }
        }
    }
}

/// A lost connection in words for an operator.
pub fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "no answer: is it running, and may UDP pass between the two?".to_owned(),
        ConnectionError::ApplicationClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(NO_APPLICATION_PROTOCOL) => "another protocol is spoken there".to_owned(),
            Some(_) => "the other side does not accept our certificate".to_owned(),
            None => format!("closed by the other side: {close}"),
        },
        ConnectionError::TransportError(error) => match alert(error.code) {
            Some(NO_APPLICATION_PROTOCOL) => "another protocol is spoken there".to_owned(),
            Some(_) => format!("we do not accept the other side's certificate ({})", error.reason),
            None => error.to_string(),
        },
        ConnectionError::Reset => "the other side has started anew".to_owned(),
        error => error.to_string(),
    }
}

/// TLS alert `no_application_protocol` (RFC 7301).
const NO_APPLICATION_PROTOCOL: u64 = 120;

/// The TLS alert in an error code (RFC 9001 §4.8).
fn alert(code: TransportErrorCode) -> Option<u64> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then(|| code - 0x100)
}
