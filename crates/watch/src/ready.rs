//! Ready checks and the countdown after them: objects of the shared state. Whoever makes the change that ends a check
//! tells of its end, so it is told once; every node with members looks at deadlines, so it survives its node.

pub(crate) mod check;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_engine::port::state::{Change, Changed, Expected, Object, StateKey};
use fanfare_wire::Millis;
use serde_json::{Value, json};
use tokio::{task, time::sleep};
use tracing::debug;

use self::check::{Check, NotAsked, TIMEOUT, Verdict};
use crate::{
    Watch,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode, random_bytes},
    json as to_json,
    payload::Respond,
    room::Room,
    sync::{Command, Order, When},
};

/// How long a check that nobody looks at stays.
const CHECK_TTL: Duration = Duration::from_secs(120);
/// Times that a change is tried on what is newest.
const TRIES_MAX: usize = 20;
/// From the end of a check to the first step of the countdown, in milliseconds: by then everybody has heard of it.
const COUNTDOWN_LEAD: Millis = 200;
const COUNTDOWN: Millis = 3000;
const COUNTDOWN_STEPS: usize = 4;

impl Watch {
    /// Begins a check.
    pub(crate) async fn ready_begin(
        self: &Arc<Self>,
        room: &Room,
        by: &MemberId,
    ) -> Result<Check, Failure> {
        if !room.may_control(by) {
            let words = "who may not control the playback cannot ask whether all are ready";
            return Err(Failure::new(Code::Forbidden, words));
        }
        let present = self.present(room.code).await?;
        let now = self.clock.now();
        let id = URL_SAFE_NO_PAD.encode(random_bytes::<9>()?);
        let check = Check::begin(id, room.code.to_string(), by, &present, now);
        let key = key(room.code)?;
        let mut expected = Expected::Nothing;
        for _ in 0..TRIES_MAX {
            match self.put(&key, expected, Some(&check)).await? {
                Changed::Done { .. } => {
                    self.tell(
                        room.code.channel(),
                        "ready:start",
                        &json!({ "check": check }),
                    )?;
                    self.watch_deadline(room.code);
                    self.ready_look(room.code).await?;
                    return Ok(check);
                }
                Changed::Conflict { current: None } => expected = Expected::Nothing,
                Changed::Conflict {
                    current: Some(object),
                } => match read(&object) {
                    Some(other) if now < other.deadline => {
                        let words = "a ready check is under way";
                        return Err(Failure::new(Code::ReadyCheckActive, words));
                    }
                    // What has ended, or cannot be read, is in nobody's way.
                    _ => expected = Expected::Version(object.version),
                },
            }
        }
        Err(Failure::unavailable("the shared state"))
    }

    /// Answers a check.
    pub(crate) async fn ready_answer(
        self: &Arc<Self>,
        room: RoomCode,
        member: &MemberId,
        answer: &Respond,
    ) -> Result<(), Failure> {
        let key = key(room)?;
        for _ in 0..TRIES_MAX {
            let object = self.state.object(&key).await?;
            let found = object.and_then(|object| Some((read(&object)?, object.version)));
            let found = found.filter(|(check, _)| check.check_id == answer.check_id);
            let Some((mut check, version)) = found else {
                let words = "this ready check is over";
                return Err(Failure::new(Code::ReadyCheckNotFound, words));
            };
            let answered = check.answer(member, answer.status);
            answered.map_err(|NotAsked| {
                Failure::new(Code::NotAParticipant, "this ready check did not ask you")
            })?;
            let changed = self.put(&key, Expected::Version(version), Some(&check));
            if let Changed::Done { .. } = changed.await? {
                self.tell(room.channel(), "ready:update", &json!({ "check": check }))?;
                return self.ready_look(room).await;
            }
        }
        Err(Failure::unavailable("the shared state"))
    }

    /// The check that is under way.
    pub(crate) async fn ready_current(&self, room: RoomCode) -> Result<Option<Check>, Failure> {
        let object = self.state.object(&key(room)?).await?;
        let now = self.clock.now();
        Ok(object
            .and_then(|object| read(&object))
            .filter(|check| now < check.deadline))
    }

    /// Ends the check if it is over: who has left counts no longer, and the time may be.
    pub(crate) async fn ready_look(self: &Arc<Self>, room: RoomCode) -> Result<(), Failure> {
        let key = key(room)?;
        let Some(object) = self.state.object(&key).await? else {
            return Ok(());
        };
        let Some(mut check) = read(&object) else {
            return Ok(());
        };
        let present = self.present(room).await?;
        let verdict = check.look(&present, self.clock.now());
        if verdict == Verdict::Open {
            return Ok(());
        }
        let removed = self.put(&key, Expected::Version(object.version), None);
        if let Changed::Conflict { .. } = removed.await? {
            // Somebody answered or ended it meanwhile, and looks too.
            return Ok(());
        }
        self.ready_ended(room, &check, verdict).await
    }

    async fn ready_ended(
        self: &Arc<Self>,
        room: RoomCode,
        check: &Check,
        verdict: Verdict,
    ) -> Result<(), Failure> {
        let id = json!({ "checkId": check.check_id });
        if verdict == Verdict::TimedOut {
            self.tell(room.channel(), "ready:timeout", &id)?;
            self.tell(room.channel(), "ready:update", &json!({ "check": check }))?;
        }
        let all_ready = verdict == Verdict::AllReady;
        let complete = json!({ "checkId": check.check_id, "allReady": all_ready });
        self.tell(room.channel(), "ready:complete", &complete)?;
        match all_ready {
            true => self.count_down(room, check).await,
            false => Ok(()),
        }
    }

    /// Tells of the countdown, and commits the start that ends it: it happens whatever becomes of this node.
    async fn count_down(self: &Arc<Self>, room: RoomCode, check: &Check) -> Result<(), Failure> {
        let starts = self.clock.now() + COUNTDOWN_LEAD;
        let goes = starts + COUNTDOWN;
        let steps: [Value; COUNTDOWN_STEPS] = [3.into(), 2.into(), 1.into(), "GO!".into()];
        let config = json!({
            "countdownId": check.check_id,
            "durationMs": COUNTDOWN,
            "steps": steps,
            "serverStartTime": starts,
            "goAt": goes,
        });
        // Who began the check may control the playback, unless that was taken away meanwhile: then the owner does it.
        let now = self.load(room).await?;
        let by = match now.may_control(&check.initiated_by) {
            true => check.initiated_by.clone(),
            false => now.owner.unwrap_or_else(|| check.initiated_by.clone()),
        };
        let command = Command {
            order: Order::Play,
            by,
            when: When::At(goes),
            expected: None,
            key: Some(format!("countdown-{}", check.check_id)),
        };
        // Nobody counts down to what does not happen.
        self.command(room, command).await?;
        self.tell(
            room.channel(),
            "countdown:start",
            &json!({ "config": config }),
        )?;
        let watch = Arc::clone(self);
        let id = check.check_id.clone();
        task::spawn(async move {
            if let Err(error) = watch.tick(room, &id, starts, steps).await {
                debug!(%error, "a countdown was not told to its end");
            }
        });
        Ok(())
    }

    /// The steps, for those without a clock.
    async fn tick(
        &self,
        room: RoomCode,
        id: &str,
        starts: Millis,
        steps: [Value; COUNTDOWN_STEPS],
    ) -> Result<(), Failure> {
        let step_length = COUNTDOWN / 4;
        let mut at = starts;
        for step in steps {
            self.wait_until(at).await;
            let told = json!({ "step": step, "remaining": starts + COUNTDOWN - at });
            self.tell(room.channel(), "countdown:tick", &told)?;
            at += step_length;
        }
        self.wait_until(at).await;
        self.tell(
            room.channel(),
            "countdown:complete",
            &json!({ "countdownId": id }),
        )
    }

    async fn wait_until(&self, time: Millis) {
        let left = u64::try_from(time - self.clock.now()).unwrap_or_default();
        sleep(Duration::from_millis(left)).await;
    }

    /// Looks when the time is over. The other nodes do too, a little later.
    fn watch_deadline(self: &Arc<Self>, room: RoomCode) {
        let watch = Arc::clone(self);
        task::spawn(async move {
            sleep(Duration::from_millis(TIMEOUT.unsigned_abs() + 10)).await;
            if let Err(error) = watch.ready_look(room).await {
                debug!(%error, "a ready check was not looked at");
            }
        });
    }

    async fn put(
        &self,
        key: &StateKey,
        expected: Expected,
        check: Option<&Check>,
    ) -> Result<Changed, Failure> {
        let change = Change {
            expected,
            value: check.map(to_json).transpose()?,
            ttl: CHECK_TTL,
            tell: None,
        };
        Ok(self.state.change(key, change).await?)
    }
}

fn read(object: &Object) -> Option<Check> {
    serde_json::from_slice(object.value.as_bytes()).ok()
}

fn key(room: RoomCode) -> Result<StateKey, Failure> {
    StateKey::of("ready", &room.channel()).map_err(Failure::internal)
}
