//! What the file says of the Centrifuge protocol.

use fanfare_gateway::{PING_SECONDS_MAX, Pings};
use serde::Deserialize;

use super::{
    ConfigError,
    check::{Bounds, small},
};

/// The file's `[centrifuge]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileCentrifuge {
    pub(super) ping_seconds: Option<u64>,
    pub(super) pong_seconds: Option<u64>,
}

/// Checks and completes what the file says.
pub(super) fn resolve(file: &FileCentrifuge) -> Result<Pings, ConfigError> {
    let unsaid = Pings::default();
    let bounds = Bounds::new(unsaid.interval.into(), 1, PING_SECONDS_MAX.into());
    let interval = small("centrifuge.ping_seconds", (None, file.ping_seconds), bounds)?;
    // With short intervals the default is as long as they are.
    let patience = u64::from(unsaid.patience.min(interval));
    let bounds = Bounds::new(patience, 1, interval.into());
    let patience = small("centrifuge.pong_seconds", (None, file.pong_seconds), bounds)?;
    Ok(Pings { interval, patience })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings(ping_seconds: Option<u64>, pong_seconds: Option<u64>) -> Result<(u32, u32), String> {
        let file = FileCentrifuge {
            ping_seconds,
            pong_seconds,
        };
        let pings = resolve(&file).map_err(|error| error.to_string())?;
        Ok((pings.interval, pings.patience))
    }

    #[test]
    fn pongs_are_due_before_the_next_ping() {
        assert_eq!(pings(None, None), Ok((25, 8)));
        assert_eq!(pings(Some(3), None), Ok((3, 3)));
        assert_eq!(pings(Some(60), Some(20)), Ok((60, 20)));
        for (ping, pong, setting) in [
            (Some(0), None, "centrifuge.ping_seconds"),
            (Some(601), None, "centrifuge.ping_seconds"),
            (None, Some(0), "centrifuge.pong_seconds"),
            (Some(5), Some(6), "centrifuge.pong_seconds"),
        ] {
            let error = pings(ping, pong).unwrap_err();
            assert!(error.starts_with(setting), "{error}");
        }
    }
}
