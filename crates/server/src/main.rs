//! Fanfare, a real-time server for applications that may not lose a message.
fn main() {}
