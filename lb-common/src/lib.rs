//! lb-common: see ARCHITECTURE.md.
