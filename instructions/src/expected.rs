//! What is recorded: a line for the compiler, then one for each scene, its name and its count.

use std::collections::BTreeMap;

/// By how much a count may differ from the recorded one, as a share of it. The same program counts alike on all machines but
/// for details of the C library and of where memory happens to lie.
pub const TOLERANCE: f64 = 0.03;

const HEAD: &str = "# Instructions in user space for one unit of each scene, as counted by callgrind; `make instructions ARGS=--write`.\n";
const COMPILER: &str = "compiler: ";

/// Counts of all scenes, with the compiler that they hold for.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The compiler, as [`crate::compiler`] says it.
    pub compiler: String,
    /// By the name of the scene.
    pub counts: BTreeMap<String, f64>,
}

/// What a count is, beside the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As recorded.
    Same,
    /// It became dearer.
    More,
    /// It became cheaper: to be recorded, or the next regression hides in the difference.
    Less,
    /// There is nothing recorded to compare it with.
    New,
}

impl Recorded {
    /// Reads the file; what is no line of it is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines().find_map(|line| line.strip_prefix(COMPILER));
        let count = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        Self {
            compiler: compiler.unwrap_or_default().to_owned(),
            counts: lines().filter_map(count).collect(),
        }
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let counts = self.counts.iter();
        let lines = counts.map(|(name, count)| format!("{name} {count:.1}\n"));
        let lines: String = lines.collect();
        format!("{HEAD}{COMPILER}{}\n{lines}", self.compiler)
    }

    /// Judges a count.
    #[must_use]
    pub fn judge(&self, scene: &str, count: f64) -> Verdict {
        match self.counts.get(scene) {
            None => Verdict::New,
            Some(recorded) if count > recorded * (1.0 + TOLERANCE) => Verdict::More,
            Some(recorded) if count < recorded * (1.0 - TOLERANCE) => Verdict::Less,
            Some(_) => Verdict::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let recorded = Recorded {
            compiler: "rustc 1.0 (x), x86_64-linux".to_owned(),
            counts: [("pass".to_owned(), 100.0), ("hint".to_owned(), 7.5)].into(),
        };
        assert_eq!(Recorded::parse(&recorded.text()), recorded);
        for (count, verdict) in [
            (96.9, Verdict::Less),
            (97.1, Verdict::Same),
            (102.9, Verdict::Same),
            (103.1, Verdict::More),
        ] {
            assert_eq!(recorded.judge("pass", count), verdict, "{count}");
        }
        assert_eq!(recorded.judge("other", 1.0), Verdict::New);
    }
}
