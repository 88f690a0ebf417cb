//! A full disk, the same for every database that lies on one.

use std::time::{Duration, Instant};

use crate::faults::probe::{Message, Told};
use crate::faults::row::RowError;
use crate::faults::stage::Stage;

/// Until then commits must have stopped fitting into files that are there already.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// Fills the disk, publishes until a publish is no longer acknowledged, waits, and makes room again. Gives that publish
/// and what was told of it.
pub(super) fn fill_and_relieve(
    stage: &mut Stage<'_>,
    rest: f64,
) -> Result<(Message, Told), RowError> {
    stage.fault("the disk is full", |stage| {
        stage.scene.disk()?.fill()?;
        let begun = Instant::now();
        loop {
            let (message, told) = stage.publish(0);
            if !matches!(told, Told::Acknowledged { .. }) {
                stage.tell("first refusal after", begun.elapsed().as_secs_f64(), "s");
                stage.rest(rest);
                stage.scene.disk()?.relieve()?;
                return Ok((message, told));
            }
            if begun.elapsed() > REFUSED_WITHIN {
                stage.scene.disk()?.relieve()?;
                return Err(RowError::NoEffect("it still commits".to_owned()));
            }
        }
    })
}

/// Gets that publish acknowledged, within so many seconds.
pub(super) fn finish(
    stage: &mut Stage<'_>,
    (message, told): (Message, Told),
    seconds_max: f64,
) -> Result<(), RowError> {
    let begun = Instant::now();
    let address = stage.scene.address(0);
    stage.finish_publish(&message, told, address)?;
    let took = begun.elapsed().as_secs_f64();
    stage.at_most("acknowledged again", took, "s", seconds_max);
    Ok(())
}
