//! End to end: real nodes as child processes, a real PostgreSQL and Redis, the public protocols, a real browser.
//!
//! Every test starts the nodes that it needs and has a database of its own; nothing is shared but the PostgreSQL
//! server. `fanfare_tests` has the clients. Build the program first: `cargo build -p fanfare-server`.

mod bad_input;
mod browser;
mod bus_failover;
mod busy;
mod cluster;
mod crash;
mod database;
mod drain;
mod failover;
mod health;
mod herd;
mod http_api;
mod idempotency;
mod limits;
mod outage;
mod polling;
mod position;
mod presence;
mod retention;
mod revocation;
mod shared_state;
mod slow_reader;
mod socketio;
mod stall;
mod start;
mod tokens;
mod watch;
mod watch_page;
mod webhooks;
