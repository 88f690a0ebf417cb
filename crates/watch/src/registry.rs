//! Who is here, on this node: the connections of each room, for what the node itself has to do for them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_gateway::socketio::{Args, Client};
use fanfare_wire::Millis;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    identity::{MemberId, RoomCode},
    playback::{LEAD_MIN, lead_for},
};

/// A report of a round trip counts for so long.
const REPORT_AGE_MAX: Duration = Duration::from_secs(15);

/// The rooms that have members on this node.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<HashMap<RoomCode, Local>>);

#[derive(Default)]
struct Local {
    seats: HashMap<Uuid, Seat>,
    /// How long before their instant commands are told, as agreed with the other nodes.
    lead: Option<Millis>,
}

/// A connection in a room.
pub(crate) struct Seat {
    pub(crate) member: MemberId,
    pub(crate) client: Client,
    /// Its place in voice, and since when.
    pub(crate) voice: Option<Instant>,
    round_trip: Option<(Millis, Instant)>,
}

impl Seat {
    pub(crate) fn new(member: MemberId, client: Client) -> Self {
        Self {
            member,
            client,
            voice: None,
            round_trip: None,
        }
    }
}

impl Rooms {
    /// Seats a connection. One that has joined again keeps its place in voice.
    pub(crate) fn seat(&self, room: RoomCode, session: Uuid, mut seat: Seat) {
        let mut rooms = self.lock();
        let seats = &mut rooms.entry(room).or_default().seats;
        if let Some(before) = seats.remove(&session) {
            seat.voice = before.voice;
            seat.round_trip = before.round_trip;
        }
        seats.insert(session, seat);
    }

    pub(crate) fn unseat(&self, room: RoomCode, session: Uuid) {
        let mut rooms = self.lock();
        if let Some(local) = rooms.get_mut(&room) {
            local.seats.remove(&session);
            if local.seats.is_empty() {
                rooms.remove(&room);
            }
        }
    }

    /// All rooms with members here.
    pub(crate) fn codes(&self) -> Vec<RoomCode> {
        self.lock().keys().copied().collect()
    }

    /// Remembers how long a connection's way there and back is.
    pub(crate) fn report(&self, room: RoomCode, session: Uuid, round_trip: Millis) {
        if let Some(local) = self.lock().get_mut(&room)
            && let Some(seat) = local.seats.get_mut(&session)
        {
            seat.round_trip = Some((round_trip, Instant::now()));
        }
    }

    /// The lead that the members here need.
    pub(crate) fn lead_here(&self, room: RoomCode) -> Millis {
        let rooms = self.lock();
        let Some(local) = rooms.get(&room) else {
            return LEAD_MIN;
        };
        let fresh = local
            .seats
            .values()
            .filter_map(|seat| seat.round_trip)
            .filter(|(_, when)| when.elapsed() < REPORT_AGE_MAX);
        lead_for(fresh.map(|(trip, _)| trip).max().unwrap_or_default())
    }

    /// The lead that all members need, as far as this node knows.
    pub(crate) fn lead(&self, room: RoomCode) -> Millis {
        let here = self.lead_here(room);
        let agreed = self.lock().get(&room).and_then(|local| local.lead);
        here.max(agreed.unwrap_or_default())
    }

    pub(crate) fn agree_lead(&self, room: RoomCode, lead: Option<Millis>) {
        if let Some(local) = self.lock().get_mut(&room) {
            local.lead = lead;
        }
    }

    /// A connection has taken, or given back, its place in voice.
    pub(crate) fn set_voice(&self, room: RoomCode, session: Uuid, since: Option<Instant>) {
        if let Some(local) = self.lock().get_mut(&room)
            && let Some(seat) = local.seats.get_mut(&session)
        {
            seat.voice = since;
        }
    }

    /// All places in voice that are held here.
    pub(crate) fn voices(&self) -> Vec<(RoomCode, Uuid, Instant)> {
        let rooms = self.lock();
        let seats = rooms.iter().flat_map(|(room, local)| {
            local
                .seats
                .iter()
                .filter_map(|(session, seat)| Some((*room, *session, seat.voice?)))
        });
        seats.collect()
    }

    /// The connections of a room here, or of one member of it.
    pub(crate) fn clients(&self, room: RoomCode, member: Option<&MemberId>) -> Vec<Client> {
        let rooms = self.lock();
        let seats = rooms
            .get(&room)
            .into_iter()
            .flat_map(|local| local.seats.values());
        seats
            .filter(|seat| member.is_none_or(|member| seat.member == *member))
            .map(|seat| seat.client.clone())
            .collect()
    }

    /// Tells everybody here that the server goes.
    pub(crate) fn farewell(&self, window: Duration) {
        let clients: Vec<Client> = {
            let rooms = self.lock();
            let seats = rooms.values().flat_map(|local| local.seats.values());
            seats.map(|seat| seat.client.clone()).collect()
        };
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        for client in clients {
            // Spread over the window, so that they do not all come back at once.
            let random = u64::from(u16::from_be_bytes([
                Uuid::new_v4().as_bytes()[0],
                Uuid::new_v4().as_bytes()[1],
            ]));
            let told = json!({
                "message": "the server goes; connect again",
                "reconnectIn": 200 + window.saturating_mul(random) / 65_536,
            });
            // Who is gone needs no farewell.
            let _ = client.emit("server:shutdown", Args::one(&told));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomCode, Local>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
