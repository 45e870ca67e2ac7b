//! Mesos messages between protobuf and the JSON form: one table of fields, read in both directions.
//!
//! A node decodes the JSON form only, so that both encodings obey the same rules. Fields that the table does not name are
//! skipped. A nested message whose bytes are malformed loses only itself, unless it is one that holds others of its
//! kind: a list of tasks cut short would look like tasks that ended.

#[cfg(test)]
mod call_tests;
mod schema;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use schema::{CALL, EVENT, Message, RESPONSE};
use schema::{Field, Kind, Loss, Many};

use super::decode::{Reject, RejectKind};

/// Content type of this encoding.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// Longest varint: ten groups of seven bits hold any 64-bit number.
const MAX_VARINT: usize = 10;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("a number is longer than any number can be")]
    Varint,
    /// Groups and reserved types, which proto2 services do not send.
    #[error("a field has the wire type {0}, which is none")]
    WireType(u8),
    /// Field number zero.
    #[error("a field has the number 0")]
    FieldZero,
}

/// Reads a message into its JSON form; what was malformed inside it is left out and told in `rejects`.
pub fn to_json(message: &Message, bytes: &[u8], rejects: &mut Vec<Reject>) -> Result<Value, WireError> {
    let mut out = Map::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, payload) = next_field(&mut rest)?;
        let Some(field) = message.fields.iter().find(|field| field.number == number) else {
            continue;
        };
        let Some(value) = read(field, payload, rejects)? else {
            let what = format!("protobuf: field `{}` of {} is malformed", field.name, message.name);
            rejects.push(Reject {
                kind: RejectKind::Field,
                what,
            });
            continue;
        };
        match field.many {
            Many::One => drop(out.insert(field.name.to_owned(), value)),
            Many::Map => {
                let map = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let (Some(map), Some(key)) = (map.as_object_mut(), value.get("key").and_then(Value::as_str)) {
                    map.insert(key.to_owned(), value.get("value").cloned().unwrap_or(Value::Null));
                }
            }
            Many::List => {
                let list = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut() {
                    list.push(value);
                }
            }
        }
    }
    Ok(Value::Object(out))
}

/// One field as it lies on the wire.
enum Payload<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Double([u8; 8]),
    Other,
}

/// A field's value; `None` if it is malformed and may be left out.
fn read(field: &Field, payload: Payload<'_>, rejects: &mut Vec<Reject>) -> Result<Option<Value>, WireError> {
    Ok(match (&field.kind, payload) {
        (Kind::Bool, Payload::Number(number)) => Some(Value::Bool(number != 0)),
        (Kind::Number, Payload::Number(number)) => Some(Value::from(number)),
        // A word that this table does not know stays readable as its number; the reader decides what that means.
        (Kind::Word(words), Payload::Number(number)) => {
            let known = words.iter().find(|(_, value)| u64::from(*value) == number);
            Some(Value::from(
                known.map_or_else(|| number.to_string(), |(word, _)| (*word).to_owned()),
            ))
        }
        (Kind::Double, Payload::Double(bytes)) => {
            serde_json::Number::from_f64(f64::from_le_bytes(bytes)).map(Value::Number)
        }
        // C++ services of that age check UTF-8 only in debug builds; one odd byte is no reason to lose a task.
        (Kind::Text, Payload::Bytes(bytes)) => Some(Value::from(String::from_utf8_lossy(bytes).into_owned())),
        (Kind::Nested(message), Payload::Bytes(bytes)) => match (to_json(message, bytes, rejects), message.loss) {
            (Ok(value), _) => Some(value),
            (Err(error), Loss::Record) => return Err(error),
            (Err(_), Loss::Itself) => None,
        },
        (Kind::Nested(message), _) if message.loss == Loss::Record => return Err(WireError::WireType(0)),
        _ => None,
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Payload<'a>), WireError> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).map_err(|_| WireError::Varint)?;
    if number == 0 {
        return Err(WireError::FieldZero);
    }
    let payload = match key & 7 {
        0 => Payload::Number(varint(rest)?),
        1 => {
            let bytes = take(rest, 8)?;
            Payload::Double(bytes.try_into().map_err(|_| WireError::Truncated)?)
        }
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| WireError::Truncated)?;
            Payload::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Payload::Other
        }
        other => return Err(WireError::WireType(u8::try_from(other).unwrap_or(7))),
    };
    Ok((number, payload))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for index in 0..MAX_VARINT {
        let (byte, after) = rest.split_first().ok_or(WireError::Truncated)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Varint)
}

/// Writes the JSON form as protobuf. Keys that the table does not name, and values of another kind, are left out.
pub fn from_json(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(message, value, &mut out);
    out
}

fn write_message(message: &Message, value: &Value, out: &mut Vec<u8>) {
    for field in message.fields {
        match (value.get(field.name), field.many) {
            (None | Some(Value::Null), _) => {}
            (Some(Value::Array(list)), Many::List) => list.iter().for_each(|one| write(field, one, out)),
            (Some(Value::Object(map)), Many::Map) => {
                for (key, one) in map {
                    write(field, &serde_json::json!({"key": key, "value": one}), out);
                }
            }
            (Some(_), Many::List | Many::Map) => {}
            (Some(one), Many::One) => write(field, one, out),
        }
    }
}

fn write(field: &Field, value: &Value, out: &mut Vec<u8>) {
    let key = |wire: u64| u64::from(field.number) << 3 | wire;
    match &field.kind {
        Kind::Bool => {
            if let Some(flag) = value.as_bool() {
                put_varint(key(0), out);
                put_varint(u64::from(flag), out);
            }
        }
        Kind::Number => {
            if let Some(number) = value.as_u64() {
                put_varint(key(0), out);
                put_varint(number, out);
            }
        }
        Kind::Word(words) => {
            let known = words.iter().find(|(word, _)| value.as_str() == Some(word));
            if let Some((_, number)) = known {
                put_varint(key(0), out);
                put_varint(u64::from(*number), out);
            }
        }
        Kind::Double => {
            if let Some(number) = value.as_f64() {
                put_varint(key(1), out);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        Kind::Text => {
            if let Some(text) = value.as_str() {
                put_bytes(key(2), text.as_bytes(), out);
            }
        }
        Kind::Nested(message) => {
            if value.is_object() {
                let mut inner = Vec::new();
                write_message(message, value, &mut inner);
                put_bytes(key(2), &inner, out);
            }
        }
    }
}

fn put_bytes(key: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(key, out);
    // A length in memory fits 64 bits on every machine there is.
    put_varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
