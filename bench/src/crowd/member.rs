//! One process of subscribers: does as it is told on standard input, until that ends.

use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::crowd::message::{Answer, Look, Order, Party};
use crate::error::BenchError;
use crate::fleet::{Credentials, Fleet, FleetOptions};
use crate::target::Target;
use crate::token::Signer;

/// Runs until it is told to finish, or whoever started it has gone.
///
/// # Errors
/// When it is not told anything that it understands.
pub(crate) fn run() -> Result<(), BenchError> {
    let mut fleet = None;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|source| BenchError::system("read an order", source))?;
        let order = serde_json::from_str(&line)
            .map_err(|error| BenchError::system("understand an order", error.into()))?;
        let ends = matches!(order, Order::Finish);
        let answer = obey(&mut fleet, order).unwrap_or_else(|error| match error {
            BenchError::NotReady {
                ready,
                wanted,
                seconds,
                reason,
                ..
            } => Answer::NotReady {
                ready,
                wanted,
                seconds,
                reason,
            },
            other => Answer::Failed(other.to_string()),
        });
        let mut text = serde_json::to_vec(&answer)
            .map_err(|error| BenchError::system("write an answer", error.into()))?;
        text.push(b'\n');
        out.write_all(&text)
            .and_then(|()| out.flush())
            .map_err(|source| BenchError::system("answer an order", source))?;
        if ends {
            return Ok(());
        }
    }
    Ok(())
}

fn obey(fleet: &mut Option<Fleet>, order: Order) -> Result<Answer, BenchError> {
    if let Order::Begin(party) = order {
        *fleet = Some(begin(&party)?);
        return Ok(Answer::Done);
    }
    if matches!(order, Order::Finish) {
        let fleet = fleet.take().ok_or(BenchError::Thread("subscriber"))?;
        return Ok(Answer::Findings(Box::new(fleet.finish()?)));
    }
    let fleet = fleet.as_ref().ok_or(BenchError::Thread("subscriber"))?;
    Ok(match order {
        Order::Begin(_) | Order::Finish => Answer::Done,
        Order::Connect {
            clients,
            patience_seconds,
        } => {
            fleet.connect_to(clients, Duration::from_secs(patience_seconds), |_| {})?;
            Answer::Done
        }
        Order::Measure(from) => {
            fleet.measure(from)?;
            Answer::Done
        }
        Order::TakeLatency => Answer::Latency(fleet.take_latency()?),
        Order::Look => Answer::Look(look(fleet)),
        Order::Jitter(jitter) => {
            fleet.jitter(jitter)?;
            Answer::Done
        }
        Order::Await {
            expected,
            patience_seconds,
        } => {
            let patience = Duration::from_secs_f64(patience_seconds);
            Answer::Incomplete(fleet.wait_complete(expected, patience, |_| {})?)
        }
    })
}

/// How the subscribers of a fleet are.
pub(crate) fn look(fleet: &Fleet) -> Look {
    Look {
        live: fleet.live(),
        delivered: fleet.delivered(),
        violations: fleet.violations(),
        reconnects: fleet.reconnects(),
    }
}

fn begin(party: &Party) -> Result<Fleet, BenchError> {
    let credentials = match (&party.token, &party.token_secret) {
        (Some(token), _) => Credentials::Token(token.clone()),
        (None, Some(secret)) => Credentials::Signer(Signer::new(secret, &party.user)),
        (None, None) => Credentials::None,
    };
    let source = party.source.map(|last| Ipv4Addr::new(127, 0, 0, last));
    Fleet::start(FleetOptions {
        targets: Target::parse_all("--url", &party.urls)?,
        sources: source.into_iter().collect(),
        per_source: usize::MAX,
        channels: party.channels.clone(),
        dialect: party.dialect,
        credentials,
        threads: 1,
        numbers: (party.first, party.processes),
        connect_rate: party.connect_rate,
        reconnect: party.reconnect,
        recorder: None,
    })
}
