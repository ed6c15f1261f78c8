//! What QEMU says. A guest that has taken over its QEMU speaks here.
//!
//! Input: the length of the pieces in which the stream comes, then the stream.

use crate::input::Input;
use host::qmp::reader::{Message, ReadError, Reader};

/// The target. How a stream is cut must not matter.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let piece_bytes = usize::from(input.u8()).max(1);
    let stream = input.rest();
    assert_eq!(read(stream.chunks(piece_bytes)), read([stream].into_iter()));
}

/// All messages up to the end or the first error.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ReadError>) {
    let (mut reader, mut messages) = (Reader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
