//! Measured figures as files, in the one shape that SPECIFICATION.md is filled from.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::workspace::Workspace;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// For example `R4`.
    pub id: String,
    /// What was measured.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// Trials that the value stands for.
    pub n: u64,
    /// The same of the run without the fault, or the floor.
    pub control: f64,
    /// What it was measured beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The peer's own measurement, in the peer's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
}

impl Figure {
    /// Failures counted in `n` trials, with those of the run without the fault.
    #[must_use]
    pub fn failures(id: &str, value: u64, n: u64, control: u64) -> Self {
        Self::new(id, count(value), "count", n, count(control))
    }

    /// Without a peer.
    #[must_use]
    pub fn new(id: &str, value: f64, unit: &'static str, n: u64, control: f64) -> Self {
        Self {
            id: id.to_owned(),
            value,
            unit,
            n,
            control,
            peer: None,
            peer_value: None,
        }
    }

    /// Beside a peer.
    #[must_use]
    pub fn beside(mut self, peer: impl Into<String>, value: f64) -> Self {
        self.peer = Some(peer.into());
        self.peer_value = Some(value);
        self
    }
}

/// A count as a figure's number.
#[must_use]
pub fn count(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::INFINITY, f64::from)
}

/// Writes `target/figures/NAME.json`.
pub fn write(workspace: &Workspace, name: &str, figures: &[Figure]) -> Result<()> {
    let file = workspace.figures_dir()?.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(figures)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("figures: {}", file.display());
    Ok(())
}
