//! The mirrors: plain data in the exact order of the wire, and the copies to and from the domain types.

mod change;
mod container;
mod framework;
mod health;
mod holding;
mod message;
mod model;
mod pod;
mod record;
mod residence;

pub(crate) use framework::{OrderOf, WeightOf};
pub(crate) use holding::HoldingsOf;
pub(crate) use record::ShareOf;

use super::{Wire, WireError};

/// Copies a list into its mirrors.
fn list<T: Wire>(values: &[T]) -> Vec<T::Mirror> {
    values.iter().map(Wire::to_mirror).collect()
}

/// Copies a list back.
fn unlist<T: Wire>(mirrors: Vec<T::Mirror>) -> Result<Vec<T>, WireError> {
    mirrors.into_iter().map(T::from_mirror).collect()
}
