//! Which seeds a simulation runs.

use std::ops::Range;

/// `DD_SIMULATION=FIRST..END` asks for those; `make simulation` asks for ten thousand. Else the pinned ones and a few.
#[expect(
    clippy::disallowed_methods,
    reason = "which seeds are run is for whoever runs the test"
)]
pub(crate) fn seeds(pinned: &[u64], few: Range<u64>) -> Vec<u64> {
    let asked = std::env::var("DD_SIMULATION").ok();
    let Some((first, end)) = asked.as_deref().and_then(|range| range.split_once("..")) else {
        return pinned.iter().copied().chain(few).collect();
    };
    let bound = |text: &str| text.parse::<u64>().expect("DD_SIMULATION=FIRST..END");
    (bound(first)..bound(end)).collect()
}
