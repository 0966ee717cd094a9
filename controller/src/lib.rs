pub mod dispatch;
pub mod intake;
pub mod store;
