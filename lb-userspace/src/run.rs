//! Running a loaded program on one frame without an interface: packet tests, benches, explaining.

use std::time::Duration;

use aya::programs::{Program, ProgramError, TestRun, TestRunOptions};

use crate::Lb;

/// Longest frame that a run gives back.
const OUT_LEN: usize = 4096;

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketRun {
    /// The program's own answer, for example 2 for `XDP_PASS`.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Mean over the repeats.
    pub duration: Duration,
}

/// A run that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("could not run {program} on a frame of {len} bytes: {source}")]
pub struct RunError {
    program: String,
    len: usize,
    source: ProgramError,
}

impl Lb {
    /// Runs the XDP program on a frame as if it came in by the interface with this index. With `repeat` over 1 the later
    /// runs see the frame as the earlier ones left it.
    pub fn run_xdp(&self, frame: &[u8], interface: u32, repeat: u32) -> Result<PacketRun, RunError> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let context: Vec<u8> = [0, len, 0, interface, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        self.run("revere_xdp", frame, Some(&context), repeat)
    }

    /// Runs the egress program on a frame.
    pub fn run_egress(&self, frame: &[u8]) -> Result<PacketRun, RunError> {
        self.run("revere_egress", frame, None, 1)
    }

    fn run(&self, name: &str, frame: &[u8], context: Option<&[u8]>, repeat: u32) -> Result<PacketRun, RunError> {
        let mut out = vec![0; OUT_LEN];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: context,
            repeat,
            ..TestRunOptions::default()
        };
        let result = match self.ebpf.program(name) {
            Some(Program::Xdp(program)) => program.test_run(options),
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            _ => Err(ProgramError::NotLoaded),
        };
        let result = result.map_err(|source| RunError {
            program: name.to_owned(),
            len: frame.len(),
            source,
        })?;
        out.truncate(usize::try_from(result.data_size_out).unwrap_or(OUT_LEN));
        Ok(PacketRun {
            action: result.return_value,
            frame: out,
            duration: result.duration,
        })
    }
}
