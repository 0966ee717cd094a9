pub mod authority;
pub mod config;
pub mod dispatch;
pub mod intake;
pub mod store;
pub mod tls;
