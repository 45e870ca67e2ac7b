//! Fuzz target: a question's name of any bytes.
#![no_main]

use std::cell::RefCell;

use dns::fuzzing::Target;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new(Target::new());
}

fuzz_target!(|bytes: &[u8]| TARGET.with_borrow_mut(|target| target.name(bytes)));
