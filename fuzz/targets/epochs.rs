//! Pages with lists of epochs: never a panic.
#![no_main]

use client::{Epochs, marks::body_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| {
    let body = body_of(page).unwrap_or(page);
    drop(Epochs::parse(body));
});
