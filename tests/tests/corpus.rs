//! Every parser over the inputs that are kept: those that lead somewhere, and those that once broke something.
//!
//! `make fuzz` looks for others.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library, and only compiled in here")]
mod fuzz;

/// Of each input so many beginnings are tried too, as of something that was cut off.
const CUTS: usize = 16;

#[test]
fn what_strangers_say_harms_no_parser() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in fuzz::TARGETS {
        let inputs = fs::read_dir(corpus.join(target.name));
        let mut inputs = inputs.expect("a corpus").peekable();
        assert!(inputs.peek().is_some(), "{}: no input", target.name);
        for input in inputs {
            let path = input.expect("a file").path();
            let bytes = fs::read(&path).expect("it can be read");
            for cut in (0..=CUTS).map(|n| bytes.len() * n / CUTS) {
                let run = catch_unwind(|| (target.run)(&bytes[..cut]));
                assert!(run.is_ok(), "{} bytes of {}", cut, path.display());
            }
        }
    }
}

#[test]
fn every_corpus_is_a_targets() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for directory in fs::read_dir(corpus).expect("the corpora") {
        let name = directory.expect("a directory").file_name();
        let name = name.to_str().expect("a name");
        assert!(fuzz::target(name).is_some(), "{name} is no target");
    }
}
