//! Secrets of a task: what stands for them in definitions, and their values, which nobody prints.

use std::collections::BTreeMap;
use std::fmt;

/// The secrets that an app or a task uses. Only names: values come beside the launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Path in the store by the name that the definition gives it (Marathon's `secrets`).
    pub sources: BTreeMap<String, String>,
    /// Name of a secret by variable.
    pub env: BTreeMap<String, String>,
    /// Where a task sees a secret as a file, and its name, in order.
    pub files: Vec<(String, String)>,
}

impl Secrets {
    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// The content of a secret. It has no text of its own: what prints it shows how long it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// Keeps these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever hands them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.0.len())
    }
}

/// Values by path in the store.
pub type SecretValues = BTreeMap<String, SecretValue>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_printed() {
        let value = SecretValue::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?}"), "SecretValue(7 bytes)");
        assert_eq!(value.expose(), b"hunter2");
    }
}
