//! Snapshots of cache nodes: whatever a file holds, it is taken or refused, without a panic, and with as much memory as it has bytes.
#![no_main]

use cache_node::snapshot::{check, format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let length = u64::try_from(input.len()).unwrap_or(u64::MAX);
    // As it is; with good checksums; and each part alone.
    std::hint::black_box(check(input, length).is_ok());
    let sealed = seal(input);
    std::hint::black_box(check(sealed.as_slice(), u64::try_from(sealed.len()).unwrap_or(u64::MAX)).is_ok());
    if let Ok(kept) = format::rules(input) {
        let mut again = Vec::new();
        format::put_rules(&kept, &mut again);
        assert_eq!(again, input);
    }
    if let Ok(header) = format::header(input) {
        let mut again = Vec::new();
        format::put_header(&header, &mut again);
        assert_eq!(again, input);
    }
});

/// Blocks whose kind is the first byte of a part of the input.
fn seal(input: &[u8]) -> Vec<u8> {
    let mut out = format::MAGIC.to_vec();
    let kinds = [
        format::Kind::Header,
        format::Kind::Rules,
        format::Kind::Tombstones,
        format::Kind::Marks,
        format::Kind::Entries,
        format::Kind::End,
    ];
    let parts = input.split(|byte| *byte == 0xff).filter_map(|part| part.split_first());
    for (number, (first, payload)) in parts.enumerate() {
        let kind = kinds[usize::from(*first) % kinds.len()];
        out.extend(format::head(kind, u64::try_from(number).unwrap_or(u64::MAX), payload));
        out.extend_from_slice(payload);
    }
    out
}
