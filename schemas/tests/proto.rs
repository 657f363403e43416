//! The committed Rust of the stream's records is what the .proto file says. No `protoc`: pure Rust.

use std::{env, fs, path::Path};

const FILE: &str = "mcsqueal/stream/v1.proto";
const GENERATED: &str = "src/record/generated.rs";
const HEAD: &str = "//! Generated from `proto/mcsqueal/stream/v1.proto`; `UPDATE_EXPECT=1 cargo test -p schemas` makes it anew.\n\n";

#[test]
fn generated_code_is_up_to_date() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors =
        protox::compile([FILE], [crate_folder.join("proto")]).expect("the .proto file is valid");
    let out = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .out_dir(out.path())
        .format(true)
        .compile_fds(descriptors)
        .expect("code can be generated");
    let generated =
        fs::read_to_string(out.path().join("mcsqueal.stream.v1.rs")).expect("the module is there");
    let generated = format!("{HEAD}{generated}");
    let committed = crate_folder.join(GENERATED);
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&committed, &generated).expect("write the generated code");
    }
    let committed = fs::read_to_string(&committed).expect("read the generated code");
    assert_eq!(committed, generated, "run UPDATE_EXPECT=1 cargo test -p schemas --test proto");
}
