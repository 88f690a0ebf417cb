//! Runs one scene of this program under callgrind.

use std::{
    env, fs, io,
    path::Path,
    process::{self, Command},
};

use crate::scenes::{COUNTED, Counted};

/// The argument that has this program run one scene; its output is how many units that were.
pub const SCENE: &str = "--scene";

/// Why there is no count.
#[derive(Debug)]
pub enum CallgrindError {
    /// valgrind could not be started.
    Start(io::Error),
    /// The scene failed; what it said.
    Scene(String),
    /// The file that callgrind writes could not be read, or made no sense.
    Output(io::Error),
}

impl std::fmt::Display for CallgrindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(error) => write!(
                f,
                "cannot start valgrind ({error}): scripts/install.sh test installs it"
            ),
            Self::Scene(said) => write!(f, "the scene failed: {said}"),
            Self::Output(error) => write!(f, "cannot read what callgrind wrote: {error}"),
        }
    }
}

impl std::error::Error for CallgrindError {}

/// Instructions for one unit of a scene.
///
/// # Errors
/// When valgrind is not there, or the scene fails.
pub fn count(scene: &Counted) -> Result<f64, CallgrindError> {
    let program = env::current_exe().map_err(CallgrindError::Start)?;
    let out = env::temp_dir().join(format!("fanfare-{}-{}.out", scene.name, process::id()));
    let counted = run(&program, scene, &out);
    // It is not there if nothing was counted.
    let _ = fs::remove_file(&out);
    counted
}

fn run(program: &Path, scene: &Counted, out: &Path) -> Result<f64, CallgrindError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([SCENE, scene.name])
        .output()
        .map_err(CallgrindError::Start)?;
    let failed = || CallgrindError::Scene(String::from_utf8_lossy(&output.stderr).into_owned());
    if !output.status.success() {
        return Err(failed());
    }
    let units: u64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| failed())?;
    let text = fs::read_to_string(out).map_err(CallgrindError::Output)?;
    match total(&text) {
        Some(instructions) if instructions > 0 && units > 0 => {
            Ok(instructions as f64 / units as f64)
        }
        _ => Err(CallgrindError::Output(io::Error::other(
            "nothing was counted",
        ))),
    }
}

/// The instructions of a whole run, from the lines that end or begin callgrind's file.
fn total(text: &str) -> Option<u64> {
    let value = |line: &str| {
        let rest = line
            .strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    text.lines().filter_map(value).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_that_of_the_file() {
        assert_eq!(
            total("events: Ir\nsummary: 120\n\nfn=(1)\n1 120\n"),
            Some(120)
        );
        assert_eq!(total("events: Ir\n\nfn=(1)\n1 7\ntotals: 7\n"), Some(7));
        assert_eq!(total("events: Ir\n"), None);
    }
}
