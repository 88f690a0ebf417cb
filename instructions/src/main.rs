//! `fanfare-instructions`: counts all scenes and holds them against what is recorded. `--write` records them.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path, process::ExitCode};

use fanfare_instructions::{
    callgrind::{self, SCENE},
    compiler,
    expected::{Recorded, TOLERANCE, Verdict},
    scenes,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [] => check(),
        ["--write"] => write(),
        [SCENE, name] => scene(name),
        _ => Err("usage: fanfare-instructions [--write]".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One scene, for callgrind.
fn scene(name: &str) -> Result<ExitCode, Box<dyn Error>> {
    let scene = scenes::ALL.iter().find(|scene| scene.name == name);
    let units = (scene.ok_or("no such scene")?.run)()?;
    println!("{units}");
    Ok(ExitCode::SUCCESS)
}

fn check() -> Result<ExitCode, Box<dyn Error>> {
    let recorded = Recorded::parse(&fs::read_to_string(file())?);
    let is_judged = recorded.compiler == compiler();
    let mut is_off = false;
    println!("{:>10} {:>10} {:>8}", "counted", "recorded", "change");
    for scene in &scenes::ALL {
        let count = callgrind::count(scene)?;
        let verdict = recorded.judge(scene.name, count);
        is_off |= verdict != Verdict::Same;
        let (before, change) = match recorded.counts.get(scene.name) {
            Some(before) => (
                format!("{before:.1}"),
                format!("{:+.1} %", (count / before - 1.0) * 100.0),
            ),
            None => ("-".to_owned(), "new".to_owned()),
        };
        let mark = match verdict {
            Verdict::Same => "",
            Verdict::More => "  <- more",
            Verdict::Less => "  <- less",
            Verdict::New => "  <- not recorded",
        };
        println!(
            "{count:>10.1} {before:>10} {change:>8}  {}, per {}{mark}",
            scene.name, scene.unit
        );
    }
    if !is_judged {
        println!(
            "recorded with {}, this is {}: not judged",
            recorded.compiler,
            compiler()
        );
    } else if is_off {
        println!(
            "more than {:.0} % off: `make instructions ARGS=--write` records what is meant",
            TOLERANCE * 100.0
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn write() -> Result<ExitCode, Box<dyn Error>> {
    let mut counts = BTreeMap::new();
    for scene in &scenes::ALL {
        counts.insert(scene.name.to_owned(), callgrind::count(scene)?);
    }
    let compiler = compiler();
    let text = Recorded { compiler, counts }.text();
    print!("{text}");
    fs::write(file(), text)?;
    Ok(ExitCode::SUCCESS)
}

fn file() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/recorded.txt"))
}
