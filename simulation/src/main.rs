//! Runs seeds: `fanfare-simulation --seeds 1..1000`, and one again with everything it does: `--seed 77`.

use std::{ops::Range, process::ExitCode, time::Instant};

use clap::Parser;

/// Runs whole clusters under a virtual clock, one for each seed, and says which of them broke a promise.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run one seed and print everything that happens.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds, FROM..TO.
    #[arg(long, value_parser = range, default_value = "0..1000")]
    seeds: Range<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let trace = arguments.seed.is_some();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.seeds,
    };
    let count = seeds.end.saturating_sub(seeds.start);
    let started = Instant::now();
    let mut failed = 0_u64;
    let mut received = 0;
    for seed in seeds {
        let verdict = fanfare_simulation::run(seed, |_| {}, trace);
        received += verdict.figures.received;
        if trace {
            println!("{:#?}\n{:#?}", verdict.plan, verdict.figures);
        }
        if !verdict.violations.is_empty() {
            failed += 1;
            println!("seed {seed}:");
            for violation in &verdict.violations {
                println!("  {violation}");
            }
        }
    }
    println!(
        "{count} seeds, {failed} failed; {received} deliveries; {:.1} s",
        started.elapsed().as_secs_f64()
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = text
        .split_once("..")
        .ok_or("write FROM..TO, for example 0..1000")?;
    Ok(parse(from)?..parse(to)?)
}
