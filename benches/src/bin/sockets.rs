//! Measures what the socket hooks cost; needs root. `cargo run --release -p benches --bin sockets`.

fn main() -> anyhow::Result<()> {
    benches::sockets::run()
}
