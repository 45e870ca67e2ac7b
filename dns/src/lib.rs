//! dns: see ARCHITECTURE.md.
