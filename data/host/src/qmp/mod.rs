//! A small QMP client: one connection to one QEMU, one command at a time, events kept in order beside.
//! (QEMU's `docs/interop/qmp-spec.txt`.)
//!
//! Deliberately absent: the schema. The few commands that the driver uses are spelt where they are used.

pub mod reader;

use reader::{Message, ReadError, Reader};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A QEMU that does not answer in this time is not talked to any more on this connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Events kept while a command waits for its answer. A guest can cause resets as fast as it likes.
const EVENTS_MAX: usize = 256;

/// What can go wrong between the agent and a QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket cannot be reached, or broke.
    #[error("the QMP connection failed")]
    Connection(#[from] io::Error),
    /// QEMU closed it.
    #[error("QEMU closed the QMP connection")]
    Closed,
    /// What came is not QMP.
    #[error("QEMU does not speak QMP")]
    Read(#[from] ReadError),
    /// QEMU refused.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's words.
        description: String,
    },
    /// QEMU did not answer.
    #[error("QEMU did not answer {0} within {seconds} s", seconds = ANSWER_TIMEOUT.as_secs())]
    Silent(&'static str),
}

/// Something that happened in QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpEvent {
    /// For example `SHUTDOWN`.
    pub name: String,
    /// Its members.
    pub data: Value,
}

/// A connection in command mode.
#[derive(Debug)]
pub struct QmpClient {
    stream: UnixStream,
    reader: Reader,
    events: VecDeque<QmpEvent>,
    id_last: u64,
}

impl QmpClient {
    /// Connects to the socket at `path`, of any length, and leaves negotiation mode.
    pub async fn connect(path: &Path) -> Result<Self, QmpError> {
        let stream = connect_long(path).await?;
        let mut client = QmpClient { stream, reader: Reader::default(), events: VecDeque::new(), id_last: 0 };
        let greeting = async {
            while client.receive().await? != Message::Greeting {}
            Ok::<(), QmpError>(())
        };
        tokio::time::timeout(ANSWER_TIMEOUT, greeting)
            .await
            .map_err(|_| QmpError::Silent("the connection"))??;
        client.execute("qmp_capabilities", json!({})).await?;
        Ok(client)
    }

    /// Executes a command and returns its answer. After an error other than `Refused` the connection is of no
    /// more use.
    pub async fn execute(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(command, arguments)).await;
        answer.unwrap_or(Err(QmpError::Silent(command)))
    }

    async fn exchange(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        self.id_last += 1;
        let expected = self.id_last;
        let mut line = json!({"execute": command, "arguments": arguments, "id": expected}).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).await?;
        loop {
            match self.receive().await? {
                Message::Return { id, value } if id == Some(expected) => return Ok(value),
                Message::Error { id, description } if id == Some(expected) || id.is_none() => {
                    return Err(QmpError::Refused { command, description });
                }
                Message::Event { name, data } => self.keep(QmpEvent { name, data }),
                // Answers to commands that were given up on.
                Message::Return { .. } | Message::Error { .. } | Message::Greeting => {}
            }
        }
    }

    /// The next event. Can be dropped and called again without losing one.
    pub async fn event(&mut self) -> Result<QmpEvent, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Message::Event { name, data } = self.receive().await? {
                return Ok(QmpEvent { name, data });
            }
        }
    }

    fn keep(&mut self, event: QmpEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    async fn receive(&mut self) -> Result<Message, QmpError> {
        loop {
            if let Some(message) = self.reader.next_message()? {
                return Ok(message);
            }
            let mut piece = [0u8; 16 * 1024];
            let length = self.stream.read(&mut piece).await?;
            if length == 0 {
                return Err(QmpError::Closed);
            }
            self.reader.push(&piece[..length]);
        }
    }
}

/// Socket addresses hold 108 bytes; a path through the open directory is always short enough.
async fn connect_long(path: &Path) -> io::Result<UnixStream> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("a socket's path has a directory and a name"));
    };
    let directory = std::fs::File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}
