//! Frames on a byte stream: a `u32` length, then the versioned message.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::{MAX_MESSAGE, Wire, WireError, decode, encode};

const LENGTH_BYTES: usize = 4;

/// Writes `Out` and reads `In`.
#[derive(Debug)]
pub struct FrameCodec<Out, In> {
    directions: PhantomData<fn(Out) -> In>,
}

impl<Out, In> Default for FrameCodec<Out, In> {
    fn default() -> Self {
        Self {
            directions: PhantomData,
        }
    }
}

impl<Out: Wire, In> Encoder<Out> for FrameCodec<Out, In> {
    type Error = WireError;

    fn encode(&mut self, message: Out, buffer: &mut BytesMut) -> Result<(), WireError> {
        let bytes = encode(&message)?;
        let length = u32::try_from(bytes.len()).map_err(|_| WireError::TooLong { length: bytes.len() })?;
        buffer.reserve(LENGTH_BYTES + bytes.len());
        buffer.put_u32_le(length);
        buffer.put_slice(&bytes);
        Ok(())
    }
}

impl<Out, In: Wire> Decoder for FrameCodec<Out, In> {
    type Item = In;
    type Error = WireError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, WireError> {
        let Some(head) = buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*head);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(WireError::TooLong { length });
        }
        let Some(body) = buffer.get(LENGTH_BYTES..LENGTH_BYTES + length) else {
            buffer.reserve(LENGTH_BYTES + length - buffer.len());
            return Ok(None);
        };
        let message = decode(body)?;
        buffer.advance(LENGTH_BYTES + length);
        Ok(Some(message))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, WireError> {
        match self.decode(buffer)? {
            Some(message) => Ok(Some(message)),
            None if buffer.is_empty() => Ok(None),
            None => Err(WireError::Truncated { got: buffer.len() }),
        }
    }
}
