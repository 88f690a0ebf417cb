//! A ready check as a value: who has answered what, and when it is over. No IO.

use fanfare_wire::Millis;
use serde::{Deserialize, Serialize};

use crate::{identity::MemberId, payload::Answer, room::Present};

/// How long members have to answer, in milliseconds.
pub(crate) const TIMEOUT: Millis = 30_000;

/// One check of a room. This is also how clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    pub(crate) check_id: String,
    pub(crate) room_id: String,
    pub(crate) initiated_by: MemberId,
    pub(crate) participants: Vec<Participant>,
    pub(crate) timeout_ms: Millis,
    pub(crate) created_at: Millis,
    pub(crate) deadline: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Participant {
    pub(crate) oder_id: MemberId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<String>,
    pub(crate) username: String,
    pub(crate) status: Readiness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readiness {
    Pending,
    Ready,
    NotReady,
    Timeout,
    Left,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answers are missing.
    Open,
    /// Everybody who is still there is ready.
    AllReady,
    /// Somebody is not.
    Declined,
    /// The time is over.
    TimedOut,
}

/// Who answered was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAsked;

impl Check {
    /// A check of everybody who is there; who begins it is ready.
    pub(crate) fn begin(
        check_id: String,
        room_id: String,
        by: &MemberId,
        present: &[Present],
        now: Millis,
    ) -> Self {
        let participant = |one: &Present| Participant {
            oder_id: one.oder_id.clone(),
            user_id: one.user_id.clone(),
            username: one.username.clone(),
            status: match one.oder_id == *by {
                true => Readiness::Ready,
                false => Readiness::Pending,
            },
        };
        Self {
            check_id,
            room_id,
            initiated_by: by.clone(),
            participants: present.iter().map(participant).collect(),
            timeout_ms: TIMEOUT,
            created_at: now,
            deadline: now + TIMEOUT,
        }
    }

    /// A member has answered.
    pub(crate) fn answer(&mut self, member: &MemberId, answer: Answer) -> Result<(), NotAsked> {
        let found = self
            .participants
            .iter_mut()
            .find(|it| it.oder_id == *member);
        let participant = found.ok_or(NotAsked)?;
        participant.status = match answer {
            Answer::Ready => Readiness::Ready,
            Answer::NotReady => Readiness::NotReady,
        };
        Ok(())
    }

    /// Looks at who is still there and what time it is. How the check stands then.
    pub(crate) fn look(&mut self, present: &[Present], now: Millis) -> Verdict {
        let is_late = now >= self.deadline;
        for participant in &mut self.participants {
            let is_there = present.iter().any(|it| it.oder_id == participant.oder_id);
            match participant.status {
                Readiness::Pending if !is_there => participant.status = Readiness::Left,
                // It came back.
                Readiness::Left if is_there => participant.status = Readiness::Pending,
                _ => {}
            }
            if is_late && participant.status == Readiness::Pending {
                participant.status = Readiness::Timeout;
            }
        }
        let any = |status| self.participants.iter().any(|it| it.status == status);
        if any(Readiness::NotReady) {
            Verdict::Declined
        } else if any(Readiness::Timeout) {
            Verdict::TimedOut
        } else if any(Readiness::Pending) {
            Verdict::Open
        } else if any(Readiness::Ready) {
            Verdict::AllReady
        } else {
            // Nobody is left who could begin.
            Verdict::TimedOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{payload::Status, room::tests::room};

    fn present(name: &str) -> Present {
        Present {
            oder_id: MemberId::of_user(room().code, name),
            user_id: None,
            username: name.to_owned(),
            guest: false,
            status: Status::Online,
            joined_at: 0,
        }
    }

    fn check(present: &[Present]) -> Check {
        Check::begin(
            "c".to_owned(),
            "r".to_owned(),
            &present[0].oder_id,
            present,
            1000,
        )
    }

    #[test]
    fn it_is_over_when_everybody_there_is_ready() {
        let all = [present("ann"), present("bob"), present("cid")];
        let mut check = check(&all);
        assert_eq!(check.look(&all, 2000), Verdict::Open);
        check.answer(&all[1].oder_id, Answer::Ready).unwrap();
        assert_eq!(check.look(&all, 2000), Verdict::Open);
        assert_eq!(
            check.look(&all[..2], 2000),
            Verdict::AllReady,
            "cid has left"
        );
        assert_eq!(check.look(&all, 2000), Verdict::Open, "cid is back");
        check.answer(&all[2].oder_id, Answer::NotReady).unwrap();
        assert_eq!(check.look(&all, 2000), Verdict::Declined);
        let stranger = present("dan").oder_id;
        assert_eq!(check.answer(&stranger, Answer::Ready), Err(NotAsked));
    }

    #[test]
    fn time_ends_it_and_one_alone_is_ready_at_once() {
        let all = [present("ann"), present("bob")];
        let mut check = check(&all);
        assert_eq!(check.look(&all, 1000 + TIMEOUT - 1), Verdict::Open);
        assert_eq!(check.look(&all, 1000 + TIMEOUT), Verdict::TimedOut);
        assert_eq!(check.participants[1].status, Readiness::Timeout);
        assert_eq!(
            self::check(&all[..1]).look(&all[..1], 1000),
            Verdict::AllReady
        );
    }

    #[test]
    fn clients_read_it_under_known_names() {
        let all = [present("ann")];
        let value = serde_json::to_value(check(&all)).unwrap();
        assert_eq!(value["checkId"], "c");
        assert_eq!(value["timeoutMs"], TIMEOUT);
        assert_eq!(value["participants"][0]["status"], "ready");
        assert_eq!(serde_json::from_value::<Check>(value).unwrap(), check(&all));
    }
}
