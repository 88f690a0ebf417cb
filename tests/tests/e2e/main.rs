//! End to end: real nodes as child processes, a real PostgreSQL and Redis, the public protocols, a real browser.
//!
//! Every test starts the nodes that it needs and has a database of its own; nothing is shared but the PostgreSQL
//! server. `fanfare_tests` has the clients. Build the program first: `cargo build -p fanfare-server`.

mod bad_input;
mod browser;
mod bus_failover;
mod busy;
mod channel_options;
mod chat_page;
mod chat_people;
mod chat_sockets;
mod chat_talk;
mod cluster;
mod crash;
mod database;
mod drain;
mod failover;
mod health;
mod herd;
mod http_api;
mod idempotency;
mod issuers;
mod limits;
mod listen;
mod mail;
mod mail_page;
mod namespaces;
mod openapi;
mod outage;
mod owner;
mod paging;
mod polling;
mod position;
mod presence;
mod protobuf;
mod proxies;
mod retention;
mod revocation;
mod selection;
mod server_api;
mod server_subs;
mod shared_state;
mod slow_reader;
mod socketio;
mod sql;
mod stall;
mod start;
mod state;
mod tokens;
mod transports;
mod user_channels;
mod watch;
mod watch_page;
mod webhooks;
