//! What the tests in `it` are judged by, apart from them because it needs neither root nor a kernel.

pub mod pathmodel;
