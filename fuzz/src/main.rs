//! `fanfare-fuzz`: looks for bytes for which something does not hold that should.
//!
//! Without arguments each target has its turn, a minute altogether. What is found is written to a file and the command ends with 1;
//! `fanfare-fuzz --target NAME FILE` gives it to the target again.

use std::{
    fs, io, panic,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use fanfare_fuzz::{
    Target,
    hunt::{Report, Until, hunt},
    targets::{TARGETS, named},
};

/// Gives the decoders bytes for which something may not hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long altogether
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the inputs [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// One target only
    #[arg(long)]
    target: Option<String>,
    /// Where to write what is found
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    out: PathBuf,
    /// Give these to the target, and nothing else
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fanfare-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything held.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let targets: Vec<&Target> = match &arguments.target {
        None => TARGETS.iter().collect(),
        Some(name) => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            let unknown = || io::Error::other(format!("--target is one of {}", names.join(", ")));
            vec![named(name).ok_or_else(unknown)?]
        }
    };
    if !arguments.files.is_empty() {
        for file in &arguments.files {
            let bytes = fs::read(file)?;
            for target in &targets {
                // A panic says what does not hold.
                let _ = (target.run)(&bytes);
                println!("{}: {} holds", target.name, file.display());
            }
        }
        return Ok(true);
    }
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    println!("seed {seed}");
    let turn = Duration::from_secs(arguments.seconds) / targets.len() as u32;
    let mut held = true;
    for target in targets {
        // Thousands of panics while what was found is made shorter say nothing.
        let loud = panic::take_hook();
        panic::set_hook(Box::new(|_| ()));
        let report = hunt(target, seed, Until::Time(turn));
        panic::set_hook(loud);
        println!(
            "{}: {} inputs, {} outcomes",
            target.name, report.runs, report.outcomes
        );
        held &= say(target, &report, arguments)?;
    }
    Ok(held)
}

/// Writes what was found. Returns whether everything held.
fn say(target: &Target, report: &Report, arguments: &Arguments) -> io::Result<bool> {
    let Some(found) = &report.found else {
        return Ok(true);
    };
    fs::create_dir_all(&arguments.out)?;
    let file = arguments
        .out
        .join(format!("{}-{}", target.name, report.runs));
    fs::write(&file, found)?;
    println!(
        "{}: FOUND \"{}\"\n  say it again with: fanfare-fuzz --target {} {}",
        target.name,
        found.escape_ascii(),
        target.name,
        file.display()
    );
    let _ = panic::catch_unwind(|| (target.run)(found));
    Ok(false)
}
