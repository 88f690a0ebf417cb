//! SQLite, PostgreSQL and Redis behind the ports of the Fanfare engine.
//!
//! | module | port |
//! | --- | --- |
//! | [`sqlite`] | the log, and the tables of apps, in one file, for a server that runs alone |
//! | [`postgres`] | the same in a database that many nodes share |
//! | [`redis`] | the bus between nodes |
//!
//! [`doctor`] examines live servers for the operator.
//!
//! Nothing here knows of clients, gateways or commands: configuration comes in as arguments, errors go out as values.

mod apps;
pub mod doctor;
mod epoch;
pub mod postgres;
pub mod redis;
pub mod sqlite;
