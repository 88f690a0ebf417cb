//! The fault runner in its short form, as anyone would call it: a few rows of the matrix, and scenario B. Nothing may be
//! lost, repeated or out of order; how long anything took is not judged here.

use std::path::Path;
use std::process::{Command, Output};

use fanfare_tests::servers::binary;
use serde_json::Value;

/// Node killed, node stopped, Redis away, Redis losing messages, sessions cut during COMMIT, one key at two nodes.
const ROWS: &str = "1,4,5,7,13,34";

#[test]
fn nothing_is_lost_whatever_fails() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let markdown = folder.join("faults.md");
    let output = bench(&[
        "faults",
        "--short",
        "--rows",
        ROWS,
        "--out",
        &folder.display().to_string(),
        "--markdown",
        &markdown.display().to_string(),
    ]);
    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.join("faults.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), ROWS.split(',').count());
    for row in rows {
        assert_eq!(row["violations"], 0, "{row:#}");
        assert!(row["acknowledged"].as_u64() > Some(100), "{row:#}");
        assert!(row["deliveries"].as_u64() > Some(100), "{row:#}");
    }
    assert!(output.status.success(), "{}", told(&output));
    let table = std::fs::read_to_string(markdown).unwrap();
    assert_eq!(
        table
            .lines()
            .filter(|line| line.contains("| held") || line.contains("| MISS"))
            .count(),
        rows.len()
    );
}

#[test]
fn redis_goes_away_at_the_500th_of_1000_messages() {
    let output = bench(&["scenario", "b", "--clients", "20", "--away", "2"]);
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    for expected in [
        "in the database   1000",
        "20000 deliveries: 1000 for each of 20",
        "verdict           PASSED",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(binary())
        .arg("bench")
        .args(arguments)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}
