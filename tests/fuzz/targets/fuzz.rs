//! libFuzzer's way in. One program for all targets, for each links everything: `DD_FUZZ_TARGET` says which one runs.

#![no_main]

use std::sync::LazyLock;

use dd_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("DD_FUZZ_TARGET").unwrap_or_default();
    dd_fuzz::target(&name).expect("DD_FUZZ_TARGET names a target of tests/fuzz/src/lib.rs")
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
