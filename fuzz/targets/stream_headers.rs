//! Records on Kafka, with any headers: never a panic. The first byte says how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, rest)) = bytes.split_first() else { return };
    let (place, rest) = rest.split_at(rest.len().min(usize::from(cuts >> 3)));
    let (format, payload) = rest.split_at(rest.len().min(usize::from(cuts & 3)));
    let place = (cuts & 4 == 0).then_some(place);
    stream::kafka::fuzzing::record(&[("place", place), ("format", Some(format))], payload);
});
