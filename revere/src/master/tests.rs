//! HTTP and agents against a master in this process.
