//! `cargo xtask bench path` runs this: P5 into target/figures.

use std::path::PathBuf;

use anyhow::Context as _;
use benches::path::{Extent, run};

fn main() -> anyhow::Result<()> {
    let revere = std::env::var_os("LAB_REVERE")
        .map(PathBuf::from)
        .context("LAB_REVERE names no program")?;
    let short = std::env::args().any(|word| word == "--short");
    let extent = if short {
        Extent {
            rounds: 1,
            frames: 200_000,
            seconds: 1,
        }
    } else {
        Extent {
            rounds: 9,
            frames: 2_000_000,
            seconds: 5,
        }
    };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/figures");
    run(&root, &revere, extent)
}
