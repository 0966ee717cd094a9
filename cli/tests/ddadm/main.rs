//! Command lines of `ddadm`, and what they ask a controller.

mod calls;
mod requests;
mod scripted;
