//! The benchmarks as anyone would call them, at a size that says nothing about speed: what they write, that everything
//! arrives, and that one reads what another wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use fanfare_tests::servers::{self, binary};
use serde_json::Value;

/// A load that any machine carries, and patience for those that are busy.
const SMALL: &str = "--seconds 1 --warmup 0.2 --drain 60 --publishers 4 --p99-max-ms 60000";

#[test]
fn fan_out_is_given_as_a_ratio_to_the_bare_loop() {
    let folder = folder("fanout");
    bench(
        &folder,
        "fanout --own --clients 100 --rates 100 --rounds 2 --duration 1 --warmup 0.2 --drain 60",
    );
    let report = read(&folder, "fanout.json");
    assert_eq!(report["verdict"]["passed"], true, "{report:#}");
    let steps = report["rate_steps"].as_array().unwrap();
    assert_eq!(steps.len(), 1);
    for step in steps {
        let bare = &step["yardstick"];
        assert_eq!(bare["ratios"].as_array().unwrap().len(), 2, "{step:#}");
        assert!(bare["deliveries"].as_u64() > Some(0), "{step:#}");
        // Both counted what they wrote; nobody's count is believed for what arrived.
        assert!(bare["counters"]["writes"].as_u64() > Some(0), "{step:#}");
        assert!(step["counters"]["writes"].as_u64() > Some(0), "{step:#}");
    }
    // There is enough to do to be counted in hundredths of a second.
    assert!(
        steps[0]["yardstick"]["ratio"].as_f64() > Some(0.0),
        "{report:#}"
    );
    // 100 messages a second for 1.2 s, twice, to 100 clients.
    assert_eq!(report["subscribers"]["delivered"], 2 * 100 * 120);
    assert_shown(&folder, "fanout", &["cost", "ratio"]);
}

#[test]
fn the_log_is_measured_at_every_rate_and_has_what_it_acknowledged() {
    let folder = folder("log");
    bench(
        &folder,
        "log --rates 200,400 --flush-ms 1 --bystanders 1 --channels 20 --seconds 1 --warmup 0.2 --wal-segments 2 \
         --drain 60 --p99-max-ms 60000",
    );
    let report = read(&folder, "log.json");
    assert_eq!(report["verdict"]["passed"], true, "{report:#}");
    let points = report["points"].as_array().unwrap();
    let made: Vec<_> = points
        .iter()
        .map(|point| (point["log"].as_str().unwrap(), &point["flush_ms"]))
        .map(|(log, flush)| (log, flush.as_u64().unwrap()))
        .collect();
    let expected = [("sqlite", 0), ("postgres", 1)].map(|made| [made, made]);
    assert_eq!(made, expected.concat());
    for point in points {
        let counted = &point["counted"];
        assert!(counted["publications"].as_u64() > Some(0), "{point:#}");
        assert!(
            counted["batches"].as_u64() <= counted["publications"].as_u64(),
            "{point:#}"
        );
        let has_wal = point["postgres"]["wal_bytes"].as_u64() > Some(0);
        assert_eq!(has_wal, point["log"] == "postgres", "{point:#}");
    }
    assert_shown(&folder, "log", &["latency", "cpu"]);

    bench(
        &folder,
        "soak --minutes 2 --minute 1 --rate 300 --channels 20 --history-max-age 1s --retention-interval 1s --wal-segments 2 \
         --drain 60",
    );
    let report = read(&folder, "soak.json");
    assert_eq!(report["verdict"]["passed"], true, "{report:#}");
    let minutes = report["points"].as_array().unwrap();
    assert_eq!(minutes.len(), 2);
    for minute in minutes {
        let publications = &minute["tables"]["publications"];
        assert!(publications["table_bytes"].as_u64() > Some(0), "{minute:#}");
    }
    assert_shown(&folder, "soak", &["latency", "size"]);
}

#[test]
fn one_message_reaches_everybody_in_a_large_channel() {
    let folder = folder("one-message");
    bench(
        &folder,
        &format!("scenario d --nodes 2 --clients 60 --shares 1 --messages 2 {SMALL}"),
    );
    let report = read(&folder, "scenario-d.json");
    let reaches = report["more"]["reaches"].as_array().unwrap();
    assert_eq!(reaches.len(), 2);
    for reach in reaches {
        assert_eq!(reach["clients"], 60);
        assert!(
            reach["last_ms"].as_f64() >= reach["first_ms"].as_f64(),
            "{reach:#}"
        );
    }
    assert_shown(&folder, "scenario-d", &["last"]);
}

#[test]
fn the_model_reads_what_the_scenarios_wrote() {
    let folder = folder("scenarios");
    let load = "--rate 50 --subscribers 10";
    bench(
        &folder,
        &format!("scenario a --nodes 2 --clients 40 --readings a1 {load} {SMALL}"),
    );
    let report = read(&folder, "scenario-a.json");
    let point = &report["points"][0];
    assert_eq!(
        (&point["reading"], &point["channels"]),
        (&"a1".into(), &4.into())
    );
    assert_eq!(point["delivered"], point["expected"], "{point:#}");
    assert_eq!(point["expected"], 60 * 10, "50 messages a second for 1.2 s");
    assert!(point["counted"]["batches"].as_u64() > Some(0), "{point:#}");
    let not_made: Vec<&str> = report["not_made"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| missing["what"].as_str().unwrap())
        .collect();
    assert_eq!(not_made, ["a2", "a3", "literal"]);
    assert_shown(&folder, "scenario-a", &["latency"]);

    bench(
        &folder,
        &format!(
            "scenario c --nodes 2 --clients 40 --clients-per-node 0 --idle-seconds 1 {load} {SMALL}"
        ),
    );
    let report = read(&folder, "scenario-c.json");
    let readings: Vec<&str> = report["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["reading"].as_str().unwrap())
        .collect();
    assert_eq!(readings, ["idle", "total"]);
    assert_shown(&folder, "scenario-c", &["latency", "redis", "cores"]);

    bench(
        &folder,
        "model --from . --clients 1000000 --rate 1000 --subscribers 100",
    );
    let report = read(&folder, "model.json");
    let prediction = &report["predictions"][0];
    assert_eq!(prediction["deliveries_per_second"], 100_000.0);
    assert!(
        prediction["nodes"].as_u64() > Some(3),
        "a million clients: {prediction:#}"
    );
    assert_eq!(report["comparisons"].as_array().unwrap().len(), 1, "a1");
    bench(&folder, "model --from . --costs unit-costs.json");
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(index.contains("[scenario-c](scenario-c.md)"), "{index}");
    assert!(
        index.contains("| scenario-d | one message to the largest channel | not made |"),
        "{index}"
    );
}

#[test]
fn whoever_is_cut_off_has_everything_in_the_end() {
    let folder = folder("storm");
    bench(
        &folder,
        &format!(
            "scenario storm --nodes 2 --clients 40 --messages 15 --rate 5 --every 0.6 --offline 0.2 {SMALL}"
        ),
    );
    let report = read(&folder, "scenario-storm.json");
    assert_eq!(report["verdict"]["passed"], true, "{report:#}");
    let storms = report["more"]["storms"].as_array().unwrap();
    assert_eq!(storms.len(), 2);
    for storm in storms {
        assert_eq!(storm["expected"], 15 * 40, "{storm:#}");
        assert_eq!(storm["delivered"], 15 * 40, "{storm:#}");
        assert_eq!(storm["unrecovered"], 0, "{storm:#}");
        assert!(storm["cuts"].as_u64() > Some(0), "{storm:#}");
        assert!(storm["rejoin"]["count"].as_u64() > Some(0), "{storm:#}");
    }
    assert_shown(&folder, "scenario-storm", &["replay", "delivery"]);
}

#[test]
fn others_are_measured_beside_fanfare_and_added_to_it() {
    let folder = folder("peers");
    let load = format!("--nodes 2 --clients 40 --rate 50 --subscribers 10 {SMALL}");
    bench(
        &folder,
        &format!("peers --peers fanfare,fanfare-socketio,centrifugo --repeat 2 {load}"),
    );
    let missing = read(&folder, "peers.json")["not_made"].clone();
    assert_eq!(missing[0]["what"], "centrifugo", "{missing:#}");

    // Fanfare speaks what Centrifugo speaks, so it may stand in for one that runs already.
    let server = servers::start(servers::dev());
    bench(
        &folder,
        &format!(
            "peers --peers centrifugo --centrifugo {} --centrifugo-namespace demo --centrifugo-pid {} --add {load}",
            server.url(),
            server.pid()
        ),
    );
    let report = read(&folder, "peers.json");
    let trials = report["trials"].as_array().unwrap();
    let names: Vec<&str> = trials
        .iter()
        .map(|trial| trial["peer"].as_str().unwrap())
        .collect();
    let ours = ["fanfare", "fanfare-socketio"];
    assert_eq!(names, [&ours[..], &ours, &["centrifugo"]].concat());
    for trial in trials {
        assert_eq!(trial["reasons"], serde_json::json!([]), "{trial:#}");
        let (found, point) = (&trial["found"], &trial["point"]);
        assert_eq!(found["expected"], 60 * 10, "50 messages a second for 1.2 s");
        assert_eq!(found["delivered"], 60 * 10, "{trial:#}");
        assert_eq!(
            point["delivery"]["count"],
            50 * 10,
            "the warm-up is left out"
        );
        assert!(trial["nodes_after_mib"].as_f64() > Some(1.0), "{trial:#}");
    }
    assert_eq!(report["not_made"], serde_json::json!([]), "it is made now");
    let page = std::fs::read_to_string(folder.join("peers.md")).unwrap();
    assert!(
        page.contains("| centrifugo | 1 | all of 600 | all |"),
        "{page}"
    );
    assert!(
        page.contains("| fanfare | 2 | all of 1,200 | all |"),
        "{page}"
    );
    assert!(
        page.contains("| 1 of 1 |") || page.contains("| 0 of 1 |"),
        "{page}"
    );
    assert_shown(&folder, "peers", &["latency-40-50"]);
}

/// An empty folder of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("benchmarks")
        .join(name);
    // It is not there the first time.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a benchmark that writes into `folder`, and must end well.
#[track_caller]
fn bench(folder: &Path, line: &str) {
    let output = Command::new(binary())
        .current_dir(folder)
        .arg("bench")
        .args(line.split(' '))
        .args(["--out", "."])
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&text)
    );
}

#[track_caller]
fn read(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
}

/// The page of a run shows its plots, and they are there.
#[track_caller]
fn assert_shown(folder: &Path, stem: &str, plots: &[&str]) {
    let page = std::fs::read_to_string(folder.join(format!("{stem}.md"))).unwrap();
    assert!(page.contains(&format!("({stem}.json)")), "{page}");
    for plot in plots {
        let file = format!("{stem}-{plot}.svg");
        assert!(page.contains(&format!("]({file})")), "{file}: {page}");
        let svg = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("prefers-color-scheme:dark"));
    }
}
