//! Which seeds a simulation runs.

use std::ops::Range;

/// `DD_SIMULATION=FIRST..END` asks for those; `make simulation` asks for ten thousand. Else the pinned ones and a few.
pub(crate) fn seeds(pinned: &[u64], few: Range<u64>) -> Vec<u64> {
    seeds_of("DD_SIMULATION", pinned, few)
}

/// The same, asked for by a variable of another name.
#[expect(
    clippy::disallowed_methods,
    reason = "which seeds are run is for whoever runs the test"
)]
pub(crate) fn seeds_of(variable: &str, pinned: &[u64], few: Range<u64>) -> Vec<u64> {
    let asked = std::env::var(variable).ok();
    let Some((first, end)) = asked.as_deref().and_then(|range| range.split_once("..")) else {
        return pinned.iter().copied().chain(few).collect();
    };
    let bound = |text: &str| text.parse::<u64>().expect("a range of seeds is FIRST..END");
    (bound(first)..bound(end)).collect()
}
