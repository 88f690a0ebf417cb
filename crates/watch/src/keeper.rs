//! What happens by itself. Every node does it for the rooms that have members on it; what must happen once is made so by
//! the change of a row or an object, not by who does it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use fanfare_engine::port::state::{Change, Expected, StateHealth, StateKey};
use fanfare_gateway::socketio::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::{
    task,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use crate::{
    Watch,
    clock::ASK_INTERVAL,
    failure::Failure,
    identity::RoomCode,
    json as to_json, members,
    owner::{self, Step},
    playback::LEAD_MIN,
    room::Present,
    schema,
    voice::RENEW_INTERVAL,
};

/// How often a node looks after its rooms.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Rooms that are looked after at the same time.
const LOOKS_MAX: usize = 8;
/// How often a node looks for rooms that nobody uses.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long an agreement about the lead holds.
const LEAD_TTL: Duration = Duration::from_secs(30);
const MIGRATE_RETRY: Duration = Duration::from_secs(2);

/// Starts the tasks of the app on this node.
pub(crate) fn start(watch: &Arc<Watch>) {
    task::spawn(Arc::clone(watch).keep());
    task::spawn(Arc::clone(watch).keep_voices());
}

impl Watch {
    async fn keep(self: Arc<Self>) {
        self.migrate().await;
        let mut looks = ticks(LOOK_INTERVAL);
        let mut sweeps = ticks(SWEEP_INTERVAL);
        let mut clock = ticks(ASK_INTERVAL);
        let mut degraded = false;
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    degraded = self.tell_health(degraded);
                    self.look().await;
                }
                _ = clock.tick() => {
                    if let Err(error) = self.clock.ask(&self.engine).await {
                        debug!(%error, "the database did not tell its time");
                    }
                }
                _ = sweeps.tick() => loop {
                    match self.remove_idle().await {
                        Ok(0) => break,
                        Ok(rooms) => info!(rooms, "rooms that nobody used were removed"),
                        Err(error) => {
                            debug!(%error, "no rooms were removed");
                            break;
                        }
                    }
                },
            }
        }
    }

    /// Waits for no database: a place in voice ends if it is not renewed in time.
    async fn keep_voices(self: Arc<Self>) {
        let mut renewals = ticks(RENEW_INTERVAL);
        loop {
            renewals.tick().await;
            self.voice_renew().await;
        }
    }

    /// Until the database has the tables.
    async fn migrate(&self) {
        while let Err(error) = self.engine.migrate(schema::APP, schema::MIGRATIONS).await {
            warn!(%error, "the watch party waits for its tables");
            sleep(MIGRATE_RETRY).await;
        }
        if let Err(error) = self.clock.ask(&self.engine).await {
            debug!(%error, "the database did not tell its time");
        }
        self.ready.store(true, Relaxed);
    }

    /// Looks after the rooms with members here.
    async fn look(self: &Arc<Self>) {
        let begun = Instant::now();
        let rooms = stream::iter(self.rooms.codes());
        rooms
            .for_each_concurrent(LOOKS_MAX, |room| async move {
                if let Err(error) = self.look_after(room).await {
                    debug!(%error, %room, "a room was not looked after");
                }
            })
            .await;
        if begun.elapsed() > LOOK_INTERVAL {
            debug!(took = ?begun.elapsed(), "looking after the rooms takes long");
        }
    }

    async fn look_after(self: &Arc<Self>, code: RoomCode) -> Result<(), Failure> {
        self.agree_on_lead(code).await?;
        self.ready_look(code).await?;
        let present = self.present(code).await?;
        let room = self.load(code).await?;
        if !present.is_empty() {
            self.note_activity(&room).await?;
        }
        if self.state.health() == StateHealth::Down {
            // Who is on other nodes is not seen: the owner may be.
            return Ok(());
        }
        let now = self.clock.now();
        match owner::next_step(&room, &present, now) {
            Step::Wait => Ok(()),
            Step::HandOver(heir) => {
                let name = members::name_of(&present, &heir);
                let reason = if room.owner.is_some() {
                    "away"
                } else {
                    "first_join"
                };
                self.write_owner(room, heir, &name, reason).await?;
                Ok(())
            }
            step => {
                self.write_absence(&room, &step, now).await?;
                Ok(())
            }
        }
    }

    /// The nodes agree on the longest lead that any of their members needs.
    async fn agree_on_lead(&self, code: RoomCode) -> Result<(), Failure> {
        let key = StateKey::of("lead", &code.channel()).map_err(Failure::internal)?;
        let here = self.rooms.lead_here(code);
        let object = self.state.object(&key).await?;
        let agreed = object
            .as_ref()
            .and_then(|object| serde_json::from_slice::<i64>(object.value.as_bytes()).ok());
        self.rooms.agree_lead(code, agreed);
        let (raise, refresh) = match (agreed, &object) {
            (Some(lead), Some(object)) => {
                let age = self.clock.now() - object.changed_at;
                let half = LEAD_TTL.as_millis() / 2;
                (
                    here > lead,
                    here == lead && age.unsigned_abs() as u128 > half,
                )
            }
            _ => (here > LEAD_MIN, false),
        };
        if raise || refresh {
            let change = Change {
                expected: object.map_or(Expected::Nothing, |it| Expected::Version(it.version)),
                value: Some(to_json(&here)?),
                ttl: LEAD_TTL,
                tell: None,
            };
            // Who was faster has raised it too; the next look sees how far.
            self.state.change(&key, change).await?;
            self.rooms.agree_lead(code, Some(here));
        }
        Ok(())
    }

    /// Tells the members here when the shared state goes and comes. How it is now.
    fn tell_health(self: &Arc<Self>, before: bool) -> bool {
        let degraded = self.state.health() == StateHealth::Down;
        if degraded != before {
            let args = Args::one(&json!({ "degraded": degraded }));
            for code in self.rooms.codes() {
                for client in self.rooms.clients(code, None) {
                    // Who is gone does not want to know.
                    let _ = client.emit("room:degraded", args.clone());
                }
            }
            if !degraded {
                let watch = Arc::clone(self);
                task::spawn(async move { watch.show_rooms().await });
            }
        }
        degraded
    }

    /// Shows everybody here who is in the room: what was told of it while the state was away may have been lost.
    async fn show_rooms(self: Arc<Self>) {
        for code in self.rooms.codes() {
            let shown = async {
                let room = self.load(code).await?;
                let present: Vec<Present> = self.present(code).await?;
                let state = self.room_state(&room, &present, None);
                for client in self.rooms.clients(code, None) {
                    // Who is gone does not want to know.
                    let _ = client.emit("room:state", Args::one(&state));
                }
                Ok::<(), Failure>(())
            };
            if let Err(error) = shown.await {
                debug!(%error, "a room was not shown again");
            }
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
