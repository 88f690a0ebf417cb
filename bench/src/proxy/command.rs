//! `fanfare bench proxy`: the proxy as a command of its own, with faults that stay.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::error::BenchError;
use crate::proxy::{Content, Faults, PathFaults, Proxy, PushFaults};

/// Between two lines that tell what passed.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// `fanfare bench proxy`.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Server to forward to, as host:port.
    #[arg(long, value_name = "ADDRESS")]
    pub to: String,
    /// Directions that the faults below are for.
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub direction: Direction,
    /// How much later bytes come, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// A random further delay up to this, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub jitter_ms: u64,
    /// Bytes that pass in a second, on each connection [default: as many as come].
    #[arg(long, value_name = "BYTES")]
    pub rate: Option<NonZeroU64>,
    /// Hold everything: nothing arrives, and nothing ends.
    #[arg(long)]
    pub black_hole: bool,
    /// Reset a connection after this many bytes.
    #[arg(long, value_name = "BYTES")]
    pub cut_after: Option<u64>,
    /// Reset all connections this often, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub reset_every_ms: Option<u64>,
    /// How long a new connection waits before anything passes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub accept_delay_ms: u64,
    /// Drop this share (0 to 1) of the Pub/Sub messages of the Redis behind it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub drop: f64,
    /// Repeat this share of them.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub repeat: f64,
    /// Put this share of them off behind later ones.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub reorder: f64,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From whoever connects to the server behind the proxy.
    Up,
    /// From the server behind the proxy to whoever connected.
    Down,
    /// Both ways.
    Both,
}

impl ProxyArgs {
    fn faults(&self) -> Result<Faults, BenchError> {
        for (option, share) in [
            ("--drop", self.drop),
            ("--repeat", self.repeat),
            ("--reorder", self.reorder),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(BenchError::option(option, "must be a share from 0 to 1"));
            }
        }
        let path = PathFaults {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            rate: self.rate,
            black_hole: self.black_hole,
            cut_after: self.cut_after,
        };
        let mut faults = Faults {
            accept_delay: Duration::from_millis(self.accept_delay_ms),
            pushes: PushFaults {
                drop: self.drop,
                repeat: self.repeat,
                reorder: self.reorder,
            },
            ..Faults::default()
        };
        if self.direction != Direction::Down {
            faults.up = path;
        }
        if self.direction != Direction::Up {
            faults.down = path;
        }
        Ok(faults)
    }
}

/// Runs until it is killed.
pub(crate) fn run(args: &ProxyArgs) -> Result<(), BenchError> {
    let faults = args.faults()?;
    let resolved = args
        .to
        .to_socket_addrs()
        .map_err(|source| BenchError::Resolve {
            url: args.to.clone(),
            source,
        })?
        .next();
    let to = resolved.ok_or_else(|| BenchError::option("--to", "has no address"))?;
    let content = if faults.pushes == PushFaults::default() {
        Content::Bytes
    } else {
        Content::Redis
    };
    let proxy = Proxy::start_at(args.listen, to, content)?;
    proxy.set(faults);
    // Nobody has to read this; the proxy goes on.
    let _ = writeln!(
        std::io::stdout(),
        "proxy on {} in front of {to}",
        proxy.address()
    );
    let pause = args
        .reset_every_ms
        .map_or(TELL_EVERY, Duration::from_millis);
    let mut told = proxy.passed();
    loop {
        thread::sleep(pause);
        if args.reset_every_ms.is_some() {
            proxy.reset_all();
        }
        let passed = proxy.passed();
        if passed != told {
            told = passed;
            let _ = writeln!(
                std::io::stderr(),
                "{} connections, {} open; messages: {} dropped, {} repeated, {} reordered",
                passed.connections,
                passed.open,
                passed.dropped,
                passed.repeated,
                passed.reordered
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn faults(line: &str) -> Result<Faults, BenchError> {
        let line = format!("proxy --listen 127.0.0.1:1 --to 127.0.0.1:2 {line}");
        Line::try_parse_from(line.split_whitespace())
            .unwrap()
            .proxy
            .faults()
    }

    #[test]
    fn faults_are_those_of_the_command_line() {
        assert_eq!(faults("").unwrap(), Faults::default());
        let both = faults("--delay-ms 5 --jitter-ms 7 --rate 1000").unwrap();
        assert_eq!(both.up, both.down);
        assert_eq!(both.up.delay, Duration::from_millis(5));
        assert_eq!(both.up.rate, NonZeroU64::new(1_000));
        let down = faults("--black-hole --direction down").unwrap();
        assert!(down.down.black_hole && !down.up.black_hole);
        assert!(faults("--drop 0.1 --reorder 0.2").unwrap().pushes.reorder > 0.1);
        assert!(faults("--drop 2").is_err());
    }
}
