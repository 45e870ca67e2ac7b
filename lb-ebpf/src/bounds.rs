//! Where a frame begins and ends, as the context tells.
#![allow(unsafe_code, reason = "helpers")]

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::frame::Frame;

impl Frame for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

impl Frame for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

/// Bytes of the whole frame. A jumbo frame lies in several pieces, of which `Frame` shows the first, where all headers are.
#[inline(always)]
pub(crate) fn whole_len(ctx: &XdpContext) -> usize {
    // SAFETY: the context is this run's own.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}

/// Whether the frame has so many bytes. Few frames are so long that it takes a call to tell.
#[inline(always)]
pub(crate) fn holds(ctx: &XdpContext, len: usize) -> bool {
    len <= Frame::len(ctx) || len <= whole_len(ctx)
}
