//! The reply cutter of the router, and what it makes of replies; the log of deletes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use router::{
    log::Records,
    wire::{
        answer,
        cut::{Cutter, Entries, Shape},
    },
};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (shape, cut_at, bytes) = input;
    let shapes = [Shape::Values, Shape::Line, Shape::Meta, Shape::Block];
    let shape = shapes[usize::from(shape) % shapes.len()];
    let mut whole = Cutter::default();
    let first = whole.next(shape, bytes);
    // Cut in two, it says the same.
    let mut cut = Cutter::default();
    let at = usize::from(cut_at).min(bytes.len());
    let second = match cut.next(shape, &bytes[..at]) {
        Ok(None) => cut.next(shape, bytes),
        said => said,
    };
    if let (Ok(first), Ok(second)) = (&first, &second) {
        assert_eq!(first, second);
    }
    if let Ok(Some(cut)) = first {
        assert!(cut.bytes <= bytes.len());
        let entries = Entries(&bytes[..cut.bytes]).count();
        assert!(shape != Shape::Values || entries <= cut.values);
    }
    let mut out = Vec::new();
    answer::renamed(bytes, b"key", &mut out);
    answer::merge(bytes, |_| None, &mut out);
    assert!(Records(bytes).count() <= bytes.len());
});
