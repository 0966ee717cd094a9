//! What both ends of SMTP share.
