//! Fields that came with a later wire version: records kept from before read as their default.

use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

/// The version of the bytes that are being read.
#[derive(Clone, Copy, Debug)]
pub struct Version(pub u8);

/// A field that exists since wire version `FIRST`.
#[derive(Debug, Default)]
pub(super) struct Since<const FIRST: u8, T>(pub(super) T);

impl<const FIRST: u8, T: Encode> Encode for Since<FIRST, T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<const FIRST: u8, T: Decode<Version> + Default> Decode<Version> for Since<FIRST, T> {
    fn decode<D: Decoder<Context = Version>>(decoder: &mut D) -> Result<Self, DecodeError> {
        if decoder.context().0 < FIRST {
            Ok(Self::default())
        } else {
            T::decode(decoder).map(Self)
        }
    }
}

// What the derives of whoever holds such a field ask for.
impl<'de, const FIRST: u8, T: BorrowDecode<'de, Version> + Default> BorrowDecode<'de, Version> for Since<FIRST, T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Version>>(decoder: &mut D) -> Result<Self, DecodeError> {
        if decoder.context().0 < FIRST {
            Ok(Self::default())
        } else {
            T::borrow_decode(decoder).map(Self)
        }
    }
}
