//! `fanfare bench peers`: other servers beside this one, under the same load from the same generator.
//!
//! Every trial is the same: the servers are started, the clients connect, the load is put on them, and all of it ends. A round is one
//! trial of each server, one after the other, so that a machine that changes its mood changes it for all of them. Publishers and
//! subscribers of all of them run in the same processes on the same clock, and messages have the same data, in which the time stands
//! at which they should have been sent.

mod args;
mod contender;
mod keeps;
mod launch;
mod page;
mod program;
mod report;
mod trial;

pub use self::args::{Peer, PeersArgs};

use std::io::Write as _;

use crate::error::BenchError;
use crate::mode::positive;
use crate::mode::servers::NODES_MAX;
use crate::peers::contender::Contender;
use crate::peers::report::PeersReport;
use crate::scenario::most_clients;

/// Runs it.
pub(crate) fn run(args: &PeersArgs) -> Result<(), BenchError> {
    check(args)?;
    let mut report = PeersReport::begin(args)?;
    let mut peers = Vec::new();
    for &peer in &args.peers {
        match peer {
            Peer::Centrifugo if args.centrifugo.is_empty() => {
                report.not_made(peer, "none was named: --centrifugo URL");
            }
            peer if !peers.contains(&peer) => peers.push(peer),
            _ => {}
        }
    }
    for round in 1..=args.load.repeat.max(1) {
        peers.retain(|&peer| {
            // People see what is going on; nobody has to.
            let _ = writeln!(std::io::stderr(), "round {round}: {}", peer.name());
            let trial = Contender::start(peer, args)
                .and_then(|contender| trial::run(peer, contender, args));
            match trial {
                Ok(trial) => report.add(trial),
                Err(error) => {
                    // A server that is not there, or not up to it, is a result too.
                    let _ = writeln!(std::io::stderr(), "{}: {error}", peer.name());
                    let why = match error {
                        BenchError::Local(reason) => reason.to_string(),
                        other => other.to_string(),
                    };
                    report.not_made(peer, why);
                    return false;
                }
            }
            true
        });
        report.save()?;
    }
    report.conclude()
}

fn check(args: &PeersArgs) -> Result<(), BenchError> {
    positive("--rate", args.rate)?;
    positive("--seconds", args.load.seconds)?;
    if args.subscribers == 0 {
        return Err(BenchError::option("--subscribers", "must be at least 1"));
    }
    if args.nodes == 0 || args.nodes > NODES_MAX {
        return Err(BenchError::option(
            "--nodes",
            format!("must be 1 to {NODES_MAX}"),
        ));
    }
    // Nchan without Redis is one node, whatever the others have.
    let limit = most_clients(1);
    if args.clients == 0 || args.clients > limit.clients {
        return Err(BenchError::option(
            "--clients",
            format!("must be 1 to {} ({})", limit.clients, limit.reason),
        ));
    }
    Ok(())
}
