//! Connections of cache clients, as a node holds them: never a panic, and what an obvious model says, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../cache-node/tests/model/mod.rs"]
mod model;

fuzz_target!(|input: (&[u8], u16, u16)| {
    let (choices, first, second) = input;
    let cuts = [usize::from(first), usize::from(second)];
    // As they are, and as a choice of fragments.
    model::check(choices, &cuts);
    model::check(&model::request(choices), &cuts);
});
