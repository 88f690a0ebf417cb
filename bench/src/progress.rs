//! Progress on standard error: a bar on a terminal, a plain line every five seconds elsewhere.

use std::io::{self, IsTerminal, Write};

use crate::clock::{self, MILLISECOND, SECOND};

/// Width of the bar, in characters.
const WIDTH: usize = 30;

/// Between two drawings on a terminal.
const DRAW_EVERY: u64 = 200 * MILLISECOND;

/// Between two lines elsewhere.
const LINE_EVERY: u64 = 5 * SECOND;

/// Shows how far one part of a benchmark is.
pub(crate) struct Progress {
    what: &'static str,
    terminal: bool,
    begun: u64,
    next: u64,
    drawn: bool,
}

impl Progress {
    /// Begins a part.
    pub(crate) fn new(what: &'static str) -> Self {
        let terminal = io::stderr().is_terminal();
        let now = clock::now();
        Self {
            what,
            terminal,
            begun: now,
            next: if terminal { now } else { now + LINE_EVERY },
            drawn: false,
        }
    }

    /// Shows `share` (0 to 1) and `detail`, when it is time to.
    pub(crate) fn show(&mut self, share: f64, detail: impl FnOnce() -> String) {
        let now = clock::now();
        if now < self.next {
            return;
        }
        let share = share.clamp(0.0, 1.0);
        let seconds = clock::between(self.begun, now).as_secs();
        // Nobody is told when standard error is gone; the benchmark goes on.
        let _ = if self.terminal {
            self.next = now + DRAW_EVERY;
            self.drawn = true;
            let line = format!(
                "{:>10} [{}] {:>3.0} %  {seconds} s  {}",
                self.what,
                bar(share),
                share * 100.0,
                detail()
            );
            write!(io::stderr(), "\r\x1b[K{line}")
        } else {
            self.next = now + LINE_EVERY;
            writeln!(
                io::stderr(),
                "{}: {:.0} %, {seconds} s, {}",
                self.what,
                share * 100.0,
                detail()
            )
        };
    }

    /// Takes the bar away.
    pub(crate) fn clear(self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(share: f64) -> String {
    let full = (share * WIDTH as f64).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_one_width() {
        for share in [0.0, 0.01, 0.5, 0.999, 1.0] {
            assert_eq!(bar(share).len(), WIDTH);
        }
        assert_eq!(bar(0.0).matches('#').count(), 0);
        assert_eq!(bar(1.0).matches('#').count(), WIDTH);
    }
}
