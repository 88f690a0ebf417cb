//! Every backend against the contract of its port, and against what only that backend has to endure.
//!
//! PostgreSQL and Redis are started by the tests, each with its own files on a free loopback port.

mod doctor;
mod postgres;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod redis_state;
mod sqlite;
