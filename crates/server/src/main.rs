//! Fanfare, a real-time server for applications that may not lose a message.
//!
//! The commands, and nothing else: what `serve` is made of stands in [`wiring`].

mod apps;
mod bench_leases;
mod cli;
mod config;
mod doctor;
mod mail;
mod pages;
#[cfg(feature = "sabotage")]
mod sabotage;
mod shared;
mod token_command;
mod tokens;
mod webhooks;
mod wiring;

use std::{
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use fanfare_bench::BenchArgs;
use tracing_subscriber::{
    Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    cli::{Benchmark, Cli, Command},
    config::{Config, LogConfig, LogFormat},
};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanfare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Serve(settings) => {
            let config = Config::load(*settings)?;
            start_logging(config.log);
            runtime(wiring::threads(&config))?.block_on(wiring::serve(config))?;
        }
        Command::Token(arguments) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            println!("{}", token_command::sign(&arguments, i64::try_from(now)?)?);
        }
        Command::Doctor(settings) => {
            let config = Config::load(*settings)?;
            return Ok(runtime(1)?.block_on(doctor::run(&config))?);
        }
        Command::Bench(arguments) => match arguments.command {
            Benchmark::Outside(command) => fanfare_bench::run(BenchArgs { command: *command })?,
            Benchmark::Leases(arguments) => {
                runtime(2)?.block_on(bench_leases::run(arguments))?;
            }
        },
        Command::Version => println!("fanfare {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
}

/// Logs go to standard error: standard output says where the server listens.
fn start_logging(config: LogConfig) {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let level = LevelFilter::from_level(config.level);
    let layer = match config.format {
        LogFormat::Json => layer.json().boxed(),
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(level))
        .init();
}
