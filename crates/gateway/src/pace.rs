//! How often one connection publishes: an account for each namespace that bounds it, kept in the connection's session.

use std::time::{Duration, Instant};

use crate::access::Rate;

/// The accounts of one connection. There are no more than namespaces with a bound, and none before the first publish into one.
#[derive(Debug, Default)]
pub(crate) struct Paces(Vec<(Box<str>, Instant)>);

impl Paces {
    /// Takes one turn in a namespace, or says in how long there is one.
    pub(crate) fn take(
        &mut self,
        namespace: &str,
        rate: Rate,
        now: Instant,
    ) -> Result<(), Duration> {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let at = self.0.iter().position(|(name, _)| **name == *namespace);
        let at = at.unwrap_or_else(|| {
            self.0.push((namespace.into(), now));
            self.0.len() - 1
        });
        let due = &mut self.0[at].1;
        // Each turn puts off when the account would be whole again; that may lie ahead by as many turns as come at once.
        let ahead = interval * rate.burst.max(1);
        let next = (*due).max(now) + interval;
        match next.checked_duration_since(now + ahead) {
            None | Some(Duration::ZERO) => {
                *due = next;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let mut paces = Paces::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for _ in 0..3 {
            assert_eq!(paces.take("a", RATE, at(0)), Ok(()));
        }
        assert_eq!(
            paces.take("a", RATE, at(0)),
            Err(Duration::from_millis(100))
        );
        // Who is refused is not put off by it.
        assert_eq!(
            paces.take("a", RATE, at(40)),
            Err(Duration::from_millis(60))
        );
        assert_eq!(paces.take("a", RATE, at(100)), Ok(()));
        assert!(paces.take("a", RATE, at(101)).is_err());
        // After a quiet time there is one burst, however long it was.
        for _ in 0..3 {
            assert_eq!(paces.take("a", RATE, at(60_000)), Ok(()));
        }
        assert!(paces.take("a", RATE, at(60_000)).is_err());
    }

    #[test]
    fn each_namespace_has_an_account() {
        let mut paces = Paces::default();
        let now = Instant::now();
        let once = Rate {
            per_second: 1,
            burst: 1,
        };
        for namespace in ["", "a", "b"] {
            assert_eq!(paces.take(namespace, once, now), Ok(()));
            let wait = paces.take(namespace, once, now);
            assert_eq!(wait, Err(Duration::from_secs(1)));
        }
        assert_eq!(paces.0.len(), 3);
    }
}
