//! `fanfare bench soak`: one rate for long, on PostgreSQL, with retention running. Minute by minute: how soon publishes were
//! acknowledged, how large tables and indexes are, and how many dead rows they carry.

use std::io::Write as _;

use serde::Serialize;

use crate::error::BenchError;
use crate::log::args::{LogKind, SoakArgs};
use crate::log::report::{LogReport, Showing};
use crate::log::stand::{LogPoint, Stand, StandOptions};
use crate::log::tables::{self, TableUse, Tables};
use crate::mode::positive;
use crate::output::{grouped, ms, table};
use crate::plot::{Plot, Scale};

/// The stem of its files.
const STEM: &str = "soak";

/// The tables that grow, or are written all the time, in the order of the page.
const TABLES: [&str; 3] = ["publications", "channels", "lane_log"];

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// One minute.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Minute {
    /// Counted from 1.
    pub(crate) minute: usize,
    /// What was published in it.
    pub(crate) load: LogPoint,
    /// The tables at its end.
    pub(crate) tables: Tables,
}

/// Runs it.
pub(crate) fn run(args: &SoakArgs) -> Result<(), BenchError> {
    positive("--rate", args.rate)?;
    positive("--minute", args.minute)?;
    if args.minutes == 0 {
        return Err(BenchError::option("--minutes", "must be at least 1"));
    }
    let mut report = LogReport::new(args, &args.traffic.out)?;
    let options = StandOptions {
        kind: LogKind::Postgres,
        flush_ms: args.flush_ms,
        bystanders: 0,
        config: Some(config(args)),
    };
    let mut stand = Stand::start(options, &args.traffic, &mut report.circumstances)?;
    let publish = args.traffic.publish(0.0, args.minute);
    for minute in 1..=args.minutes {
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "minute {minute} of {}", args.minutes);
        let load = stand.load(args.rate, &publish, f64::INFINITY)?;
        let tables = match stand.postgres() {
            Some(postgres) => tables::read(postgres)?,
            None => Tables::new(),
        };
        report.points.push(Minute {
            minute,
            load,
            tables,
        });
        report.save(STEM, &show(args, &report.points))?;
    }
    report.take(stand.finish());
    let showing = show(args, &report.points);
    report.conclude(STEM, &showing)
}

/// What is said is checked by the node, which says what is wrong with it.
fn config(args: &SoakArgs) -> String {
    format!(
        "retention_interval = {:?}\n[[namespaces]]\nname = \"bench\"\nhistory_max_age = {:?}\n",
        args.retention_interval, args.history_max_age
    )
}

fn show(args: &SoakArgs, minutes: &[Minute]) -> Showing {
    let mut text = format!(
        "One node on PostgreSQL, {} messages a second of {} bytes in {} channels for {} minutes of {} s; messages are kept for \
         {} and removed every {}. Sizes in MiB, table and indexes; *dead* are rows that vacuum has not removed yet.\n\n",
        grouped(args.rate),
        args.traffic.size,
        grouped(args.traffic.channels as f64),
        minutes.len(),
        args.minute,
        args.history_max_age,
        args.retention_interval
    );
    let mut head: Vec<String> = [
        "minute",
        "acknowledged/s",
        "p50 / p99 / p99.9 ms",
        "slowest ms",
        "WAL bytes for a message",
        "PostgreSQL: cores",
        "removed/s",
    ]
    .map(str::to_owned)
    .to_vec();
    for name in TABLES {
        head.push(format!("{name}: MiB"));
        head.push("dead".to_owned());
    }
    head.push("channels updated in place".to_owned());
    head.push("vacuums".to_owned());
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let befores = std::iter::once(None).chain(minutes.iter().map(Some));
    let rows: Vec<Vec<String>> = minutes
        .iter()
        .zip(befores)
        .map(|(minute, before)| row(minute, before))
        .collect();
    text.push_str(&table(&head, &rows));
    Showing {
        title: "The log under load for long",
        text,
        plots: vec![("latency", latency(minutes)), ("size", size(minutes))],
    }
}

fn row(minute: &Minute, before: Option<&Minute>) -> Vec<String> {
    let load = &minute.load;
    let of = |name: &str| minute.tables.get(name).copied().unwrap_or_default();
    let earlier = |name: &str| before.and_then(|it| it.tables.get(name).copied());
    let removed = of("publications").deleted;
    let removed = removed.saturating_sub(earlier("publications").unwrap_or_default().deleted);
    let mut cells = vec![
        minute.minute.to_string(),
        grouped(load.achieved_per_second),
        format!(
            "{} / {} / {}",
            ms(load.ack.p50_us),
            ms(load.ack.p99_us),
            ms(load.ack.p999_us)
        ),
        ms(load.ack.max_us),
        grouped(load.wal_per_message()),
        format!("{:.2}", load.cores(load.cpu.postgres)),
        grouped(removed as f64 / load.window_seconds.max(f64::MIN_POSITIVE)),
    ];
    for name in TABLES {
        let table = of(name);
        cells.push(format!(
            "{:.1} + {:.1}",
            table.table_bytes as f64 / MIB,
            table.index_bytes as f64 / MIB
        ));
        cells.push(grouped(table.dead as f64));
    }
    let channels = of("channels");
    cells.push(match channels.updated {
        0 => "-".to_owned(),
        updated => format!(
            "{:.1} %",
            channels.hot_updated as f64 / updated as f64 * 100.0
        ),
    });
    let vacuums = minute.tables.values().map(|table| table.autovacuums);
    cells.push(vacuums.sum::<u64>().to_string());
    cells
}

fn latency(minutes: &[Minute]) -> Plot {
    let line = |pick: fn(&LogPoint) -> u64| {
        minutes
            .iter()
            .map(move |minute| (minute.minute as f64, pick(&minute.load) as f64 / 1_000.0))
    };
    Plot::new(
        "Acknowledgement latency",
        "minute by minute, with retention and vacuum running",
        ("minute", Scale::Linear),
        ("milliseconds", Scale::Logarithmic),
    )
    .line("p50", line(|load| load.ack.p50_us))
    .line("p99", line(|load| load.ack.p99_us))
    .line("p99.9", line(|load| load.ack.p999_us))
}

fn size(minutes: &[Minute]) -> Plot {
    let plot = Plot::new(
        "Tables with their indexes",
        "at the end of each minute",
        ("minute", Scale::Linear),
        ("MiB", Scale::Linear),
    );
    TABLES.iter().fold(plot, |plot, &name| {
        let bytes = |table: &TableUse| (table.table_bytes + table.index_bytes) as f64 / MIB;
        let line = minutes.iter().filter_map(|minute| {
            let table = minute.tables.get(name)?;
            Some((minute.minute as f64, bytes(table)))
        });
        plot.line(name, line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_tells_what_was_removed_in_it() {
        let minute = |minute, deleted| {
            let publications = TableUse {
                deleted,
                dead: 7,
                ..TableUse::default()
            };
            let load = LogPoint {
                window_seconds: 60.0,
                ..LogPoint::default()
            };
            Minute {
                minute,
                load,
                tables: [("publications".to_owned(), publications)].into(),
            }
        };
        let (first, second) = (minute(1, 0), minute(2, 120_000));
        let cells = row(&second, Some(&first));
        assert_eq!(
            (&cells[0][..], &cells[6][..], &cells[8][..]),
            ("2", "2,000", "7")
        );
        let whole = minute(1, 600);
        assert_eq!(row(&whole, None)[6], "10");
    }
}
