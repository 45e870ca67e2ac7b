//! The two programs made of one code: the one that works, and its twin that only explains.
#![allow(unsafe_code, reason = "the decision lies in a map")]

use lb_common::Decision;

use crate::maps::DECISION;

/// Which of the two.
pub(crate) trait Mode {
    /// Write down decisions; make no entries and no counts.
    const EXPLAIN: bool;
}

/// Handles packets.
pub(crate) struct Live;

impl Mode for Live {
    const EXPLAIN: bool = false;
}

/// Explains one packet of a test run.
pub(crate) struct Explain;

impl Mode for Explain {
    const EXPLAIN: bool = true;
}

/// Writes a part of the decision down.
#[inline(always)]
pub(crate) fn note<M: Mode>(write: impl FnOnce(&mut Decision)) {
    if M::EXPLAIN
        && let Some(decision) = DECISION.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        write(unsafe { &mut *decision });
    }
}
