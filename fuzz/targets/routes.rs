//! Routes files, our own and mcrouter's: never a panic, and what is taken can be asked.
#![no_main]

use client::route::{Ask, Op, Routes, mcrouter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let ours = Routes::parse(text).ok();
    let theirs = mcrouter::read(text, None).ok().and_then(|file| Routes::new(&file).ok());
    for routes in ours.into_iter().chain(theirs) {
        for op in Op::ALL {
            for key in ["key", "/region/cluster/key", "/*/*/key"] {
                assert!(!routes.explain(&Ask { op, key: key.as_bytes() }).is_empty());
            }
        }
    }
});
