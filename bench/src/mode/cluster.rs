//! `fanfare bench cluster`: the load of `run` on servers that are started for it, and stopped after it.
//!
//! The nodes are this very program. Nothing that runs already is touched. The servers end with this process even when it
//! is killed; files that it could not remove then are removed by the next run.

use std::env;

use crate::args::ClusterArgs;
use crate::error::BenchError;
use crate::mode::run::measure;
use crate::mode::servers::{NODES_MAX, ServerOptions, Servers};
use crate::mode::{Setup, conclude};
use crate::system;

/// Runs it.
pub(crate) fn run(mut args: ClusterArgs) -> Result<(), BenchError> {
    if args.sqlite {
        args.nodes = 1;
    }
    if args.nodes == 0 || args.nodes > NODES_MAX {
        return Err(BenchError::option(
            "--nodes",
            format!("must be 1 to {NODES_MAX}"),
        ));
    }
    // What is clear beforehand is said before anything is started.
    system::check_open_files(args.load.client.clients)?;
    let mut servers = Servers::start(&ServerOptions {
        nodes: args.nodes,
        sqlite: args.sqlite,
        node_threads: args.node_threads,
        node_arguments: args.node_arguments.clone(),
        flush_ms: args.flush_ms,
        ..ServerOptions::default()
    })?;
    let mut setup = Setup::new(&servers.target(), args.load.channels)?;
    setup.record_to(args.load.history.as_deref())?;
    let mut report = setup.report("cluster", &args);
    report.cluster = Some(servers.describe()?);
    if system::is_in_memory(&env::temp_dir()) {
        report.warnings.push(format!(
            "{} is kept in memory: commits cost less than on a disk; set TMPDIR to a folder on one",
            env::temp_dir().display()
        ));
    }

    let processes = servers.processes();
    let mut load = args.load.clone();
    let own = processes.iter().map(|(_, pid)| *pid);
    load.output.pids.splice(0..0, own);
    let measured = measure(&setup, &load, &mut report);
    let ended = servers.ended();
    if let Err(source) = measured {
        return Err(match ended.is_empty() {
            true => source,
            false => BenchError::ServerEnded {
                reasons: ended,
                source: Box::new(source),
            },
        });
    }
    report.verdict.reasons.extend(ended);
    // The servers come first among the observed processes.
    for (process, (label, _)) in report.processes.iter_mut().zip(processes) {
        process.label = Some(label);
    }
    report.warnings.extend(servers.stop());
    conclude(report, &args.load.output)
}
