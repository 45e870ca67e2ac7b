//! `cargo xtask fuzz-packets`: many packets through the programs and the model of the packet path, in chunks with own seeds.

use anyhow::{Result, bail};

use crate::setup::{self, Install};
use crate::test::tests;
use crate::workspace::Workspace;
use crate::{dist, ebpf, figures};

/// Packets of one chunk: minutes at most, so that a failure is found early and its seed is a small one to repeat.
const CHUNK: u64 = 1_000_000;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct FuzzArgs {
    /// How many.
    #[arg(long, default_value_t = 10_000_000)]
    pub count: u64,
    /// Seed of the first chunk; the next one's is one more.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Runs all chunks; stops at the first packet that differs.
pub fn run(workspace: &Workspace, args: &FuzzArgs) -> Result<()> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let profile = format!("--profile={}", dist::PROFILE);
    let mut done = 0;
    while done < args.count {
        let (seed, count) = (args.seed + done / CHUNK, CHUNK.min(args.count - done));
        eprintln!("---- packets {done} to {} of {}, seed {seed}", done + count, args.count);
        let mut command = workspace.cargo(&["test", "--locked", "--package=tests", "--test=it", &profile]);
        command
            .env("REVERE_FUZZ_SEED", seed.to_string())
            .env("REVERE_FUZZ_COUNT", count.to_string());
        command.args(["fuzz::mutated", "--", "--nocapture"]);
        let tally = tests(&mut command)?;
        if tally.failed > 0 || tally.passed == 0 {
            bail!("seed {seed}: a packet ended otherwise than the model says; REVERE_FUZZ_SEED={seed} repeats it");
        }
        done += count;
    }
    println!(
        "fuzz-packets: {done} packets, 0 mismatches, seeds {} to {}",
        args.seed,
        args.seed + (done - 1) / CHUNK
    );
    figures::write(workspace, "fuzz", &[figures::Figure::failures("X4", 0, done, 0)])
}
