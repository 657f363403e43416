//! Keys from JSON text by a path: never a panic, whatever the column holds.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use schemas::{
    record::Operation,
    rules::{Image, Row, Rules, Value},
};

const RULES: &str = "[[rule]]\ntable = 's.t'\nkeys = ['{j|json:$}', '{j|json:$.a[1].b}', '{j|json:$[0]}']\n";

struct Document<'a>(&'a [u8]);

impl Row for Document<'_> {
    fn value(&self, _: Image, _: usize) -> Value<'_> {
        Value::Text(Cow::Borrowed(self.0))
    }

    fn changed(&self, _: usize) -> bool {
        true
    }
}

fuzz_target!(|bytes: &[u8]| {
    let rules = Rules::parse("fuzz", RULES).expect("rules");
    let plan = rules.for_table("s", "t").expect("a table of theirs");
    plan.apply(Operation::Insert, &Document(bytes), &mut |outcome| drop(outcome));
});
