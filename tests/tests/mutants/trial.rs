//! A load of `fanfare bench run` on servers under test, and what `fanfare bench check` says of its history.

use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fanfare_bench::local::{Node, TempDir};
use fanfare_tests::servers;
use fanfare_tests::wait::eventually;
use serde_json::Value;

/// How long the generator waits for the last deliveries of a server that has them all, in seconds.
const PATIENT: &str = "60";

/// The same for one that has not.
const HASTY: &str = "4";

/// Whether the server under test keeps its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The program that is released.
    Clean,
    /// The one that breaks them, as `FANFARE_SABOTAGE` says.
    Sabotaged(&'static str),
}

impl Server {
    /// The program, and what it needs in its environment.
    pub(crate) fn program(self) -> (PathBuf, Vec<(String, String)>) {
        let (program, how) = match self {
            // It must not know the word.
            Self::Clean => (servers::binary(), "drop:2"),
            Self::Sabotaged(how) => (servers::sabotaged(), how),
        };
        (
            program,
            vec![("FANFARE_SABOTAGE".to_owned(), how.to_owned())],
        )
    }

    /// How long to wait for what may never come.
    pub(crate) fn drain(self) -> &'static str {
        match self {
            Self::Clean => PATIENT,
            Self::Sabotaged(_) => HASTY,
        }
    }
}

/// A load under way.
#[derive(Debug)]
pub(crate) struct Trial {
    bench: Child,
    dir: TempDir,
}

impl Trial {
    /// Begins a load on `nodes`; the run is called `run`, so that its channels are `bench:run:0` and so on.
    pub(crate) fn begin(nodes: &[Node], drain: &str, load: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let urls: Vec<String> = nodes.iter().map(Node::url).collect();
        let bench = Command::new(servers::binary())
            .args(["bench", "run", "--run", "run", "--url", &urls.join(",")])
            .args(["--warmup", "0", "--drain", drain])
            .args(load.split(' '))
            .arg("--history")
            .arg(dir.path().join("history"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { bench, dir }
    }

    /// Waits for the end of the load and judges its history.
    pub(crate) fn verdict(mut self) -> Verdict {
        // Whether the run held by its own measure does not matter here.
        eventually("the load ends", || self.bench.try_wait().unwrap());
        let said = self.bench.wait_with_output().unwrap().stderr;
        let report = self.dir.path().join("report.json");
        let output = Command::new(servers::binary())
            .args(["bench", "check"])
            .arg(self.dir.path().join("history"))
            .arg("--json")
            .arg(&report)
            .output()
            .unwrap();
        let text = std::fs::read(&report).unwrap_or_else(|error| {
            panic!(
                "{error}: {} {}",
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&said)
            )
        });
        let verdict = Verdict {
            report: serde_json::from_slice(&text).unwrap(),
            table: String::from_utf8_lossy(&output.stdout).into_owned(),
        };
        assert_eq!(output.status.success(), verdict.report["passed"] == true);
        verdict
    }
}

/// What the checker said.
pub(crate) struct Verdict {
    pub(crate) report: Value,
    table: String,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table)
    }
}

impl Verdict {
    /// How often a rule was broken.
    pub(crate) fn broken(&self, rule: &str) -> u64 {
        let rules = self.report["rules"].as_array().unwrap();
        let found = rules.iter().find(|report| report["name"] == rule);
        found.unwrap()["violations"].as_u64().unwrap()
    }

    /// Nothing was found, although there was something to look at.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.report["passed"], true, "{}", self.table);
        for count in ["acknowledged", "deliveries", "reads"] {
            assert!(
                self.report["counts"][count].as_u64() > Some(0),
                "{}",
                self.table
            );
        }
    }

    /// This rule was broken, and the lines that show it are named.
    pub(crate) fn assert_broken(&self, rule: &str) {
        assert!(self.broken(rule) > 0, "{rule}: {}", self.table);
        let rules = self.report["rules"].as_array().unwrap();
        let found = rules.iter().find(|report| report["name"] == rule).unwrap();
        assert!(found["evidence"][0]["lines"][0].is_string(), "{found}");
    }
}
