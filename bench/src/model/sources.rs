//! Reads what other commands measured: the raw figures in one folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::counters::NodeCounters;
use crate::error::BenchError;
use crate::model::costs::{Observation, UnitCosts};
use crate::model::predict::reached;
use crate::report::Machine;
use crate::scenario::Point;

/// Loads of scenario A that the model is measured against.
const CHECKED: [&str; 2] = ["a1", "a2"];

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Sources {
    folder: PathBuf,
    /// Measured loads.
    pub(super) observations: Vec<Observation>,
    /// Processors of the machine that was measured.
    pub(super) cores: f64,
    /// A debug build was measured.
    pub(super) is_debug: bool,
    /// Memory of an idle connection, KiB, by `bench idle`.
    idle_kib: Option<f64>,
    /// Which files were there.
    files: Vec<&'static str>,
}

#[derive(Deserialize)]
struct ScenarioFile {
    circumstances: Place,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Place {
    build: String,
    machine: Machine,
}

#[derive(Deserialize)]
struct FanoutFile {
    build: String,
    parameters: FanoutParameters,
    rate_steps: Vec<FanoutStep>,
}

#[derive(Deserialize)]
struct FanoutParameters {
    client: Clients,
    publish: Publish,
    own: bool,
    #[serde(default)]
    rounds: f64,
}

#[derive(Deserialize)]
struct Clients {
    clients: f64,
}

#[derive(Deserialize)]
struct Publish {
    size: f64,
    duration: f64,
}

#[derive(Deserialize)]
struct FanoutStep {
    achieved_per_second: f64,
    deliveries: f64,
    server_cpu_seconds: f64,
    counters: Option<NodeCounters>,
}

#[derive(Deserialize)]
struct IdleFile {
    idle_fit: Option<IdleFit>,
}

#[derive(Deserialize)]
struct IdleFit {
    kib_per_connection: f64,
}

impl Sources {
    /// Reads what there is in `folder`; what is not there is left out.
    ///
    /// # Errors
    /// When a file is there and cannot be understood.
    pub(super) fn read(folder: &Path) -> Result<Self, BenchError> {
        let mut sources = Self {
            folder: folder.to_owned(),
            ..Self::default()
        };
        for (file, scenario) in [("scenario-a.json", "a"), ("scenario-c.json", "c")] {
            if let Some(read) = sources.file::<ScenarioFile>(file)? {
                sources.scenario(scenario, read);
            }
        }
        if let Some(read) = sources.file::<FanoutFile>("fanout.json")? {
            sources.fanout(&read);
        }
        if let Some(read) = sources.file::<IdleFile>("idle.json")? {
            sources.idle_kib = read.idle_fit.map(|fit| fit.kib_per_connection);
        }
        Ok(sources)
    }

    /// The unit costs that explain what was found.
    ///
    /// # Errors
    /// When too little was measured; says what is missing.
    pub(super) fn costs(&self) -> Result<UnitCosts, BenchError> {
        for (file, command) in [
            ("scenario-a.json", "fanfare bench scenario a"),
            ("scenario-c.json", "fanfare bench scenario c"),
        ] {
            if !self.files.contains(&file) {
                return Err(BenchError::option(
                    "--from",
                    format!(
                        "there is no {file} in {}: run `{command} --out {}` first, or give --costs",
                        self.folder.display(),
                        self.folder.display()
                    ),
                ));
            }
        }
        let mut costs = UnitCosts::fit(&self.observations);
        if let Some(kib) = self.idle_kib {
            costs.node.connection_kib = kib;
            costs.sources.push("idle".to_owned());
        }
        Ok(costs)
    }

    /// Which build was measured.
    pub(super) fn build(&self) -> &'static str {
        if self.is_debug { "debug" } else { "release" }
    }

    fn file<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, BenchError> {
        let path = self.folder.join(name);
        let Ok(text) = fs::read(&path) else {
            return Ok(None);
        };
        self.files.push(name);
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| {
            BenchError::option(
                "--from",
                format!("{} cannot be understood: {error}", path.display()),
            )
        })
    }

    fn scenario(&mut self, scenario: &str, read: ScenarioFile) {
        self.cores = read.circumstances.machine.cores as f64;
        self.is_debug |= read.circumstances.build != "release";
        let most = read.points.iter().map(|point| point.nodes).max();
        let least = read.points.iter().map(|point| point.nodes).min();
        let measured = read
            .points
            .iter()
            .filter(|point| point.window_seconds > 0.0 && point.cpu.nodes > 0.0);
        for point in measured {
            // Of the numbers of nodes the ends are what the model learns from; those between are what it must know.
            let between =
                scenario == "c" && Some(point.nodes) != most && Some(point.nodes) != least;
            let is_check = match scenario {
                "a" => CHECKED.contains(&point.reading.as_str()),
                _ => between && point.rate > 0.0,
            };
            self.observations
                .push(observation(scenario, point, is_check));
        }
    }

    fn fanout(&mut self, read: &FanoutFile) {
        self.is_debug |= read.build != "release";
        let seconds = read.parameters.publish.duration * read.parameters.rounds.max(1.0);
        // Against another server nobody knows how it commits.
        let steps = read.rate_steps.iter().filter(|_| read.parameters.own);
        for step in steps.filter(|step| step.server_cpu_seconds > 0.0) {
            let Some(counted) = step.counters else {
                continue;
            };
            let per_second = |count: u64| count as f64 / seconds;
            self.observations.push(Observation {
                source: "fanout".to_owned(),
                nodes: 1.0,
                clients: read.parameters.client.clients,
                channels: 1.0,
                size: read.parameters.publish.size,
                messages: step.achieved_per_second,
                batches: per_second(counted.batches),
                deliveries: step.deliveries / seconds,
                writes: per_second(counted.writes),
                written_kib: per_second(counted.written_bytes) / 1024.0,
                node_cores: step.server_cpu_seconds / seconds,
                ..Observation::default()
            });
        }
    }
}

fn observation(scenario: &str, point: &Point, is_check: bool) -> Observation {
    let per_second = |count: u64| count as f64 / point.window_seconds;
    let wal_bytes = match point.acknowledged {
        0 => 0.0,
        messages => point.postgres.wal_bytes as f64 / messages as f64,
    };
    Observation {
        source: format!("scenario {scenario}"),
        nodes: point.nodes as f64,
        clients: point.clients as f64,
        channels: point.channels as f64,
        size: point.size as f64,
        messages: point.achieved_per_second,
        batches: per_second(point.counted.batches),
        deliveries: per_second(point.counted.deliveries),
        writes: per_second(point.counted.writes),
        written_kib: per_second(point.counted.written_bytes) / 1024.0,
        hints: per_second(point.counted.hints),
        // What Redis counts contains the heartbeats of the nodes.
        publishes: match point.clients {
            0 => 0.0,
            _ => per_second(point.counted.hints) / reached(point.nodes as f64, point.subscribers()),
        },
        redis_bytes: per_second(point.redis.output_bytes),
        node_cores: point.cores(point.cpu.nodes),
        redis_cores: Some(point.cores(point.cpu.redis)),
        postgres_cores: Some(point.cores(point.cpu.postgres)),
        wal_bytes,
        commit_ms: match point.held {
            // Where nothing holds, waiting is what takes the time.
            true => point.ack.p50_us as f64 / 1_000.0,
            false => 0.0,
        },
        node_kib: point.node_kib_per_client,
        kernel_kib: point.kernel_kib_per_client,
        is_check,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::local::TempDir;

    fn point(reading: &str, nodes: usize, rate: f64) -> serde_json::Value {
        json!({
            "reading": reading, "nodes": nodes, "clients": 100, "channels": 1, "size": 200, "rate": rate,
            "achieved_per_second": rate, "window_seconds": 10.0, "acknowledged": 1000,
            "cpu": {"nodes": 5.0, "redis": 0.1, "postgres": 0.2, "generator": 1.0},
            "counted": {"writes": 1000, "written_bytes": 300_000, "deliveries": 1000, "batches": 500, "hints": 200},
            "postgres": {"wal_bytes": 900_000},
        })
    }

    fn file(points: &[serde_json::Value]) -> String {
        json!({"circumstances": {"build": "release", "machine": {"cpu": "", "cores": 2, "memory_mib": 1, "kernel": ""}}, "points": points})
            .to_string()
    }

    #[test]
    fn what_is_missing_is_named_with_its_command() {
        let dir = TempDir::new().unwrap();
        let sources = Sources::read(dir.path()).unwrap();
        let text = sources.costs().unwrap_err().to_string();
        assert!(
            text.contains("scenario-a.json") && text.contains("bench scenario a"),
            "{text}"
        );
        fs::write(
            dir.path().join("scenario-a.json"),
            file(&[point("a1", 4, 100.0)]),
        )
        .unwrap();
        let text = Sources::read(dir.path())
            .unwrap()
            .costs()
            .unwrap_err()
            .to_string();
        assert!(text.contains("bench scenario c"), "{text}");
        fs::write(dir.path().join("scenario-c.json"), "{").unwrap();
        assert!(Sources::read(dir.path()).is_err());
    }

    #[test]
    fn the_ends_teach_and_those_between_check() {
        let dir = TempDir::new().unwrap();
        let readings = [point("a1", 4, 100.0), point("literal", 4, 10.0)];
        fs::write(dir.path().join("scenario-a.json"), file(&readings)).unwrap();
        let nodes = [
            point("idle", 2, 0.0),
            point("total", 2, 100.0),
            point("idle", 4, 0.0),
            point("total", 4, 100.0),
            point("total", 8, 100.0),
        ];
        fs::write(dir.path().join("scenario-c.json"), file(&nodes)).unwrap();
        let fanout = json!({
            "build": "release",
            "parameters": {"client": {"clients": 10}, "publish": {"size": 200, "duration": 5.0}, "own": true, "rounds": 2},
            "rate_steps": [{"achieved_per_second": 10.0, "deliveries": 1000, "server_cpu_seconds": 0.5,
                            "counters": {"writes": 900, "written_bytes": 300_000, "batches": 100}}],
        });
        fs::write(dir.path().join("fanout.json"), fanout.to_string()).unwrap();
        fs::write(
            dir.path().join("idle.json"),
            r#"{"idle_fit": {"kib_per_connection": 0.75}}"#,
        )
        .unwrap();
        let sources = Sources::read(dir.path()).unwrap();
        let checks: Vec<f64> = sources
            .observations
            .iter()
            .filter(|one| one.is_check)
            .map(|one| one.nodes)
            .collect();
        assert_eq!(checks, [4.0, 4.0], "a1, and 4 nodes under load");
        let fanout = sources
            .observations
            .iter()
            .find(|one| one.source == "fanout")
            .unwrap();
        assert_eq!(
            (fanout.writes, fanout.batches, fanout.node_cores),
            (90.0, 10.0, 0.05)
        );
        assert_eq!(fanout.postgres_cores, None);
        let costs = sources.costs().unwrap();
        assert_eq!(costs.node.connection_kib, 0.75);
        assert_eq!(costs.postgres.wal_bytes, 900.0);
        assert!(costs.sources.contains(&"idle".to_owned()) && costs.node.write_us >= 0.0);
        assert!(!sources.is_debug && sources.cores == 2.0);
    }
}
