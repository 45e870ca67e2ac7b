//! overlay: see ARCHITECTURE.md.
