//! Running a loaded program on one frame without an interface: packet tests, benches, explaining.

use std::io;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{Program, ProgramError, TestRun, TestRunOptions};

use lb_common::Decision;

use crate::open::explaining;
use crate::{Lb, OpenError};

/// Longest frame that a run gives back.
const OUT_LEN: usize = 16_384;

/// See `explaining`.
pub(crate) const EXPLAIN: &str = "revere_explain";

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

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
pub(crate) fn xdp_context(frame: &[u8], interface: u32) -> Vec<u8> {
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let words = [0, len, 0, interface, 0, 0];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

impl Lb {
    /// Runs the XDP program on a frame as if it came in by the interface with this index. With `repeat` over 1 the later
    /// runs see the frame as the earlier ones left it.
    pub fn run_xdp(&self, frame: &[u8], interface: u32, repeat: u32) -> Result<PacketRun, RunError> {
        self.run("revere_xdp", frame, Some(&xdp_context(frame, interface)), repeat)
    }

    /// Runs the explaining twin of the XDP program: what would become of this frame, without counting it or making
    /// entries.
    pub fn explain(&mut self, frame: &[u8], interface: u32) -> Result<(PacketRun, Decision), RunError> {
        let failed = |source: ProgramError| RunError {
            program: EXPLAIN.to_owned(),
            len: frame.len(),
            source,
        };
        let ebpf = self
            .explaining()
            .map_err(|error| failed(ProgramError::IOError(io::Error::other(error))))?;
        let no_map = || failed(ProgramError::NotLoaded);
        let map = ebpf.map_mut("DECISION").ok_or_else(no_map)?;
        let decision = |source: MapError| failed(source.into());
        let mut decisions: PerCpuArray<&mut MapData, Decision> = map.try_into().map_err(decision)?;
        // Each CPU has its own; the one that is not as it was wiped is the one the program ran on.
        let cpus = decisions.get(&0, 0).map_err(decision)?.len();
        let blank = Decision {
            reason: u32::MAX,
            slot: u32::MAX,
            backend: u32::MAX,
            ..Decision::default()
        };
        if let Ok(wiped) = PerCpuValues::try_from(vec![blank; cpus]) {
            decisions.set(0, wiped, 0).map_err(decision)?;
        }
        let ran = run_program(ebpf, EXPLAIN, frame, Some(&xdp_context(frame, interface)), 1)?;
        let map = ebpf.map("DECISION").ok_or_else(no_map)?;
        let decisions: PerCpuArray<&MapData, Decision> = map.try_into().map_err(decision)?;
        let decisions = decisions.get(&0, 0).map_err(decision)?;
        let written = decisions.iter().find(|decision| **decision != blank);
        Ok((ran, written.copied().unwrap_or(blank)))
    }

    fn explaining(&mut self) -> Result<&mut Ebpf, OpenError> {
        if let Some(ebpf) = self.explaining.take() {
            return Ok(self.explaining.insert(ebpf));
        }
        // It finds its maps by their pins.
        self.restore_pins();
        Ok(self.explaining.insert(explaining(&self.config)?))
    }

    /// Runs the program for translated packets on a frame as if the uplink program had handed it over.
    pub fn run_nat(&self, frame: &[u8], interface: u32) -> Result<PacketRun, RunError> {
        self.run("revere_nat", frame, Some(&xdp_context(frame, interface)), 1)
    }

    /// Runs the egress program on a frame.
    pub fn run_egress(&self, frame: &[u8]) -> Result<PacketRun, RunError> {
        self.run("revere_egress", frame, None, 1)
    }

    fn run(&self, name: &str, frame: &[u8], context: Option<&[u8]>, repeat: u32) -> Result<PacketRun, RunError> {
        run_program(&self.ebpf, name, frame, context, repeat)
    }
}

/// Runs a program of an object on a frame.
pub(crate) fn run_program(
    ebpf: &Ebpf,
    name: &str,
    frame: &[u8],
    context: Option<&[u8]>,
    repeat: u32,
) -> Result<PacketRun, RunError> {
    let mut out = vec![0; OUT_LEN];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: context,
        repeat,
        ..TestRunOptions::default()
    };
    let result = match ebpf.program(name) {
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
