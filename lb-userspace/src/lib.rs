//! lb-userspace: see ARCHITECTURE.md.
