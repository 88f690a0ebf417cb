//! One phase of publishing at one rate, with the measured window in it.

use std::thread;
use std::time::Duration;

use crate::args::PublishArgs;
use crate::clock::{self, MILLISECOND, SECOND};
use crate::crowd::Audience;
use crate::error::BenchError;
use crate::progress::Progress;
use crate::publish::{Ledger, Plan, Publisher};
use crate::report::{PublicationReport, RateStep};
use crate::schedule::Schedule;
use crate::system::{self, Sample};

/// From the order to start to the first message.
const LEAD: u64 = 200 * MILLISECOND;

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(20);

/// What one phase came to.
#[derive(Debug)]
pub(crate) struct Phase {
    /// The publisher's books.
    pub(crate) ledger: Ledger,
    /// When the measured window began.
    pub(crate) before: Sample,
    /// When it ended.
    pub(crate) after: Sample,
    /// Deliveries in the window.
    pub(crate) deliveries: u64,
    /// When the publisher had its last answer, or gave up.
    pub(crate) published_at: u64,
}

impl Phase {
    /// The phase as one rate of several; what only the caller knows is left empty.
    pub(crate) fn rate_step(&self, publications: &PublicationReport, pids: &[u32]) -> RateStep {
        let cpu = system::total_cpu_seconds(&self.before.processes_until(&self.after, pids));
        let generator = self.before.generator_until(&self.after);
        RateStep {
            offered_per_second: publications.offered_per_second,
            achieved_per_second: publications.achieved_per_second,
            deliveries: self.deliveries,
            server_cpu_seconds: cpu,
            deliveries_per_cpu_second: if cpu > 0.0 {
                self.deliveries as f64 / cpu
            } else {
                0.0
            },
            generator_share: generator.busiest_thread_share,
            ack_latency: Some(self.ledger.latency().summary()),
            ..RateStep::default()
        }
    }
}

/// Publishes `plan` at `rate` and waits for the answers.
pub(crate) fn publish(
    plan: Plan,
    rate: f64,
    args: &PublishArgs,
    audience: Option<&dyn Audience>,
    pids: &[u32],
) -> Result<Phase, BenchError> {
    publish_watched(plan, rate, args, audience, pids, &mut || Ok(()))
}

/// The same; `watch` is called at the beginning and at the end of the measured window.
pub(crate) fn publish_watched(
    plan: Plan,
    rate: f64,
    args: &PublishArgs,
    audience: Option<&dyn Audience>,
    pids: &[u32],
    watch: &mut dyn FnMut() -> Result<(), BenchError>,
) -> Result<Phase, BenchError> {
    let publisher = Publisher::prepare(plan)?;
    let start = clock::now() + LEAD;
    let measure_from = start + (args.warmup * SECOND as f64) as u64;
    let schedule = Schedule::new(start, rate, args.warmup + args.duration);
    if let Some(audience) = audience {
        audience.measure(measure_from)?;
    }
    publisher.start(schedule, measure_from)?;

    let mut look = Look {
        progress: Progress::new("publish"),
        publisher: &publisher,
        schedule: &schedule,
        start,
        audience,
    };
    look.until(measure_from)?;
    let before = Sample::take(pids);
    let delivered_before = delivered(audience)?;
    watch()?;
    look.until(schedule.end())?;
    let after = Sample::take(pids);
    let deliveries = delivered(audience)?.saturating_sub(delivered_before);
    watch()?;
    look.until(u64::MAX)?;
    look.progress.clear();
    let ledger = publisher.finish()?;
    Ok(Phase {
        published_at: ledger.last_ack().max(schedule.end()),
        ledger,
        before,
        after,
        deliveries,
    })
}

struct Look<'a> {
    progress: Progress,
    publisher: &'a Publisher,
    schedule: &'a Schedule,
    start: u64,
    audience: Option<&'a dyn Audience>,
}

impl Look<'_> {
    /// Shows the progress until a time, or until the publisher has finished.
    fn until(&mut self, time: u64) -> Result<(), BenchError> {
        loop {
            let now = clock::now();
            if now >= time || self.publisher.has_finished() {
                return Ok(());
            }
            let whole = self.schedule.end() - self.start;
            let share = now.saturating_sub(self.start) as f64 / whole as f64;
            let (publisher, audience) = (self.publisher, self.audience);
            let mut failed = None;
            self.progress.show(share, || {
                describe(publisher, audience).unwrap_or_else(|error| {
                    failed = Some(error);
                    String::new()
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            thread::sleep(LOOK.min(clock::between(now, time)));
        }
    }
}

fn delivered(audience: Option<&dyn Audience>) -> Result<u64, BenchError> {
    audience.map_or(Ok(0), |audience| Ok(audience.look()?.delivered))
}

fn describe(publisher: &Publisher, audience: Option<&dyn Audience>) -> Result<String, BenchError> {
    let (sent, acknowledged, errors) = publisher.progress();
    let mut text = format!("{sent} sent, {acknowledged} acknowledged, {errors} errors");
    if let Some(audience) = audience {
        let look = audience.look()?;
        text.push_str(&format!(
            ", {} delivered to {}, {} violations, {} reconnects",
            look.delivered, look.live, look.violations, look.reconnects
        ));
    }
    Ok(text)
}
