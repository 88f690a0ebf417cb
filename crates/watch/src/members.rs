//! Who is in a room, on all nodes: leases of connections, counted by member.

use std::time::Duration;

use fanfare_engine::port::state::{Announce, Entered, Held, Lease, Per, StateKey};
use fanfare_wire::Json;
use serde_json::json;
use tokio::time::sleep;
use tracing::debug;
use uuid::Uuid;

use crate::{
    Watch,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode},
    json as to_json, message,
    payload::PARTICIPANTS_MAX,
    room::{Present, Room},
};

/// How long a member who lost its connection is still there for the others.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// Connections of a room that are looked at: of each of its members some tabs.
const LEASES_MAX: usize = PARTICIPANTS_MAX as usize * 8;

impl Watch {
    /// Takes a place in a room, or takes it anew with other facts about the member.
    pub(crate) async fn enter(
        &self,
        room: &Room,
        session: Uuid,
        present: &Present,
        is_new: bool,
    ) -> Result<(), Failure> {
        let joined = json!({ "participant": room.participant(present) });
        let left = json!({ "oderId": present.oder_id });
        let announce = Announce {
            per: Per::Member,
            joined: match is_new {
                true => Some(message("room:participant:joined", &joined)?),
                false => None,
            },
            left: message("room:participant:left", &left)?,
        };
        let lease = Lease {
            held: held(room.code, session)?,
            member: present.oder_id.as_str().to_owned(),
            info: to_json(present)?,
            ttl: None,
            capacity: Some(room.max_participants),
            announce: Some(announce),
        };
        let entered = self.state.enter(std::slice::from_ref(&lease)).await?;
        match entered.first() {
            Some(Entered::Held { .. }) => Ok(()),
            Some(Entered::Full) => Err(Failure::new(Code::RoomFull, "the room is full")),
            None => Err(Failure::internal("no answer about a place in a room")),
        }
    }

    /// Gives a place back.
    pub(crate) async fn leave(&self, room: RoomCode, session: Uuid) {
        let Ok(held) = held(room, session) else {
            return;
        };
        if let Err(error) = self.state.leave(&[held]).await {
            // Its node renews nothing that it has forgotten: the lease ends with the node's.
            debug!(%error, "a place in a room could not be given back");
        }
    }

    /// Gives a place back unless its holder is there again soon, which holds another place for the same member then.
    pub(crate) async fn leave_later(&self, room: RoomCode, session: Uuid) {
        sleep(LINGER).await;
        self.leave(room, session).await;
    }

    /// Who is in a room: each member once, those who have been in for longest first.
    pub(crate) async fn present(&self, room: RoomCode) -> Result<Vec<Present>, Failure> {
        let holders = self.state.leases(&scope(room)?, LEASES_MAX).await?;
        let mut present: Vec<Present> = holders
            .iter()
            .filter_map(|holder| read(&holder.info))
            .collect();
        present.sort_by(|a, b| (&a.oder_id, a.joined_at).cmp(&(&b.oder_id, b.joined_at)));
        present.dedup_by(|a, b| a.oder_id == b.oder_id);
        present.sort_by(|a, b| (a.joined_at, &a.oder_id).cmp(&(b.joined_at, &b.oder_id)));
        Ok(present)
    }

    /// How many members are in a room.
    pub(crate) async fn count(&self, room: RoomCode) -> Result<u64, Failure> {
        Ok(self.state.count(&scope(room)?).await?.members)
    }
}

fn read(info: &Json) -> Option<Present> {
    serde_json::from_slice(info.as_bytes()).ok()
}

fn scope(room: RoomCode) -> Result<StateKey, Failure> {
    StateKey::of("members", &room.channel()).map_err(Failure::internal)
}

fn held(room: RoomCode, session: Uuid) -> Result<Held, Failure> {
    Ok(Held {
        scope: scope(room)?,
        holder: session,
    })
}

/// The name of a member that is there.
pub(crate) fn name_of(present: &[Present], member: &MemberId) -> String {
    present
        .iter()
        .find(|one| one.oder_id == *member)
        .map_or_else(|| "another member".to_owned(), |one| one.username.clone())
}
