//! Shared by the namespace tests.
