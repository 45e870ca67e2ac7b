//! The maps; their names are their pins' names.
#![allow(unsafe_code, reason = "map values are shared with user space")]

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use lb_common::{MAX_NAMES, NameAnswer, NameConfig, NameCount, NameKey};

use crate::question::QUESTION_WORDS;

#[map]
pub(crate) static NAMES: HashMap<NameKey, NameAnswer> = HashMap::with_max_entries(MAX_NAMES, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static NAME_CONFIG: Array<NameConfig> = Array::with_max_entries(1, 0);
#[map]
static NAME_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(8, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What is too large for the stack.
#[repr(C)]
pub(crate) struct Scratch {
    /// The question after the header, what another one left behind it.
    pub(crate) question: [u64; QUESTION_WORDS],
    pub(crate) key: NameKey,
    pub(crate) answer: NameAnswer,
}

/// This CPU's scratch, which nobody else uses while the program runs.
#[inline(always)]
pub(crate) fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// Counts what became of a question.
#[inline(always)]
pub(crate) fn count(what: NameCount) {
    if let Some(counter) = NAME_COUNTS.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        unsafe { *counter += 1 };
    }
}
