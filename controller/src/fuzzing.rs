//! The parsers that are nobody's business elsewhere, for `tests/fuzz`: what they take is bytes, and what they give can be
//! looked at from outside.

pub use crate::api::fuzzing::{journaled, judge};
pub use crate::store::local::fuzzing::{Record, Written, records_in, segment_of};
pub use crate::web::fuzzing::{basic, cookie, form, normalised, proxy, reported};
