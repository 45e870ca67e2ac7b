//! Attributes of a mount that is not attached yet, with all that are below it.
#![allow(unsafe_code, reason = "mount_setattr(2) has no safe interface in our crates")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Sets `MOUNT_ATTR_*` bits on a detached mount and everything in it.
pub(super) fn set(mount: impl AsFd, attributes: u64) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a string that ends in zero and `attr` is a whole mount_attr of the size told; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
