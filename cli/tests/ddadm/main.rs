//! Command lines of `ddadm`, and what they ask a controller.

mod calls;
mod described;
mod requests;
mod scripted;
