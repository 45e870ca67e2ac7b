//! Measures what a change of the service table costs; needs root. `cargo xtask bench change`.

fn main() -> anyhow::Result<()> {
    benches::change::run(std::env::args().any(|arg| arg == "--short"))
}
