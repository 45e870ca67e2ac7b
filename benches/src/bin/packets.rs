//! Measures what the XDP program costs per packet; needs root. `cargo run --release -p benches --bin packets`.

fn main() -> anyhow::Result<()> {
    benches::packets::run()
}
