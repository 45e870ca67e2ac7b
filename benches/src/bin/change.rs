//! Measures what a change of the service table costs; needs root. `cargo xtask bench change`.

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    // One size alone, so that a profiler sees nothing else; no figures are written.
    if let Some(at) = words.iter().position(|word| word == "--vips") {
        let vips = words.get(at + 1).context("--vips wants a number")?.parse()?;
        return benches::change::profiled(vips);
    }
    benches::change::run(words.iter().any(|word| word == "--short"))
}
