//! From bytes to QMP messages: one JSON object a line. Pure, so that it can be fuzzed; a line that never ends is an
//! error before it is a memory leak.

use serde_json::Value;

/// The longest line that is read, in bytes. The longest that QEMU has a reason to send is a console read.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// One message from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first one of a connection.
    Greeting,
    /// A command's answer.
    Return {
        /// The command's id.
        id: Option<u64>,
        /// What it returned.
        value: Value,
    },
    /// A command's refusal.
    Error {
        /// The command's id.
        id: Option<u64>,
        /// QEMU's words.
        description: String,
    },
    /// Something happened.
    Event {
        /// For example `SHUTDOWN`.
        name: String,
        /// The event's members.
        data: Value,
    },
}

/// What came is not QMP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A line longer than [`LINE_BYTES_MAX`].
    #[error("a line from QEMU is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// A line that is no JSON object, or an object of no known kind.
    #[error("a line from QEMU is not QMP: {0}")]
    NotQmp(String),
}

/// Puts lines together from pieces.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Of the buffer, already found to hold no line end.
    searched: usize,
}

impl Reader {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more has been pushed. After an error the stream is of no more use.
    pub fn next_message(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(end) = found.map(|at| self.searched + at) else {
                self.searched = self.buffer.len();
                return if self.searched > LINE_BYTES_MAX { Err(ReadError::TooLong) } else { Ok(None) };
            };
            self.searched = 0;
            if end > LINE_BYTES_MAX {
                return Err(ReadError::TooLong);
            }
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = line.trim_ascii();
            if !line.is_empty() {
                return parse(line).map(Some);
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Message, ReadError> {
    let not_qmp = |why: &dyn std::fmt::Display| ReadError::NotQmp(why.to_string());
    let value: Value = serde_json::from_slice(line).map_err(|e| not_qmp(&e))?;
    let Value::Object(mut object) = value else { return Err(not_qmp(&"not an object")) };
    let id = object.get("id").and_then(Value::as_u64);
    if let Some(value) = object.remove("return") {
        return Ok(Message::Return { id, value });
    }
    if let Some(error) = object.remove("error") {
        let description = error.get("desc").and_then(Value::as_str).unwrap_or("no description").to_owned();
        return Ok(Message::Error { id, description });
    }
    if let Some(Value::String(name)) = object.remove("event") {
        return Ok(Message::Event { name, data: object.remove("data").unwrap_or_default() });
    }
    if object.contains_key("QMP") {
        return Ok(Message::Greeting);
    }
    Err(not_qmp(&"neither greeting, answer nor event"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const STREAM: &[u8] = b"{\"QMP\": {\"version\": {}}}\r\n{\"return\": {\"a\": 1}, \"id\": 7}\r\n\r\n\
        {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n{\"error\": {\"desc\": \"no\"}, \"id\": 8}\n";

    fn read(reader: &mut Reader) -> Vec<Message> {
        std::iter::from_fn(|| reader.next_message().unwrap()).collect()
    }

    fn expected() -> Vec<Message> {
        vec![
            Message::Greeting,
            Message::Return { id: Some(7), value: json!({"a": 1}) },
            Message::Event { name: "SHUTDOWN".into(), data: json!({"guest": true}) },
            Message::Error { id: Some(8), description: "no".into() },
        ]
    }

    #[test]
    fn an_endless_line_is_an_error_before_it_is_a_leak() {
        let mut reader = Reader::default();
        let error = (0..=16).find_map(|_| {
            reader.push(&[b'x'; LINE_BYTES_MAX / 16]);
            reader.next_message().err()
        });
        assert_eq!(error, Some(ReadError::TooLong));
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_does_not_matter(cuts in prop::collection::vec(1usize..20, 1..60)) {
            let (mut reader, mut messages, mut rest) = (Reader::default(), Vec::new(), STREAM);
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                rest = more;
                reader.push(piece);
                messages.extend(read(&mut reader));
            }
            prop_assert_eq!(messages, expected());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut reader = Reader::default();
            for piece in pieces {
                reader.push(&piece);
                while let Ok(Some(_)) = reader.next_message() {}
            }
        }

        #[test]
        fn any_damage_to_a_stream_is_read_without_a_panic(at in 0..STREAM.len(), byte in any::<u8>()) {
            let mut bytes = STREAM.to_vec();
            bytes[at] = byte;
            let mut reader = Reader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }
}
