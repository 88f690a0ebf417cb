//! Voice: who is in it, and signals from one member to another. The sound itself goes from browser to browser.

use std::time::Duration;

use fanfare_engine::port::state::{Announce, Entered, Held, Holder, Lease, Per, StateKey};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use crate::{
    Watch,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode},
    json as to_json, message,
    payload::Signal,
    session::events::without_nulls,
    turn::TURN_TTL_SECONDS,
};

/// Most members of a room in voice: each is connected to each.
pub(crate) const PEERS_MAX: u32 = 8;
/// A place in voice is held for so long, and renewed.
const LEASE: Duration = Duration::from_secs(45);
/// How often it is renewed.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_secs(15);
/// How long a place may be held in all.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(24 * 3600);

impl Watch {
    /// Takes a place in voice. Returns who was there before.
    pub(crate) async fn voice_enter(
        &self,
        room: RoomCode,
        session: Uuid,
        member: &MemberId,
    ) -> Result<Vec<MemberId>, Failure> {
        let told = json!({ "oderId": member });
        let lease = Lease {
            held: held(room, session)?,
            member: member.as_str().to_owned(),
            info: to_json(&told)?,
            ttl: Some(LEASE),
            capacity: Some(PEERS_MAX),
            announce: Some(Announce {
                per: Per::Member,
                joined: Some(message("voice:peer:joined", &told)?),
                left: message("voice:peer:left", &told)?,
            }),
        };
        let entered = self.state.enter(std::slice::from_ref(&lease)).await?;
        if entered.first() == Some(&Entered::Full) {
            let words = format!("at most {PEERS_MAX} members can speak");
            return Err(Failure::new(Code::VoiceFull, words));
        }
        self.rooms.set_voice(room, session, Some(Instant::now()));
        let holders = self.voices(room).await?;
        self.replace(room, session, member, &holders).await?;
        let mut peers: Vec<MemberId> = holders
            .iter()
            .filter(|holder| holder.member != member.as_str())
            .filter_map(|holder| MemberId::parse(&holder.member))
            .collect();
        peers.sort();
        peers.dedup();
        Ok(peers)
    }

    /// One connection of a member speaks: the others of the same member are told to stop, and lose their places.
    async fn replace(
        &self,
        room: RoomCode,
        session: Uuid,
        member: &MemberId,
        holders: &[Holder],
    ) -> Result<(), Failure> {
        let is_other = |it: &&Holder| it.member == member.as_str() && it.holder != session;
        let others: Vec<Uuid> = holders
            .iter()
            .filter(is_other)
            .map(|it| it.holder)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let told = json!({ "sessionId": session.to_string() });
        self.tell(member.channel(), "voice:replaced", &told)?;
        // Those on other nodes find their places gone when they renew them.
        let places = others.iter().map(|other| held(room, *other));
        let places: Vec<Held> = places.collect::<Result<_, _>>()?;
        for other in others {
            self.rooms.set_voice(room, other, None);
        }
        self.state.leave(&places).await?;
        Ok(())
    }

    /// Gives a place in voice back. Whether there was one.
    pub(crate) async fn voice_leave(&self, room: RoomCode, session: Uuid) -> Result<(), Failure> {
        self.rooms.set_voice(room, session, None);
        self.state.leave(&[held(room, session)?]).await?;
        Ok(())
    }

    /// Renews the places that are held here; those that were lost, or have been held for too long, end.
    pub(crate) async fn voice_renew(&self) {
        let (over, current): (Vec<_>, Vec<_>) = self
            .rooms
            .voices()
            .into_iter()
            .partition(|(.., since)| since.elapsed() >= HELD_MAX);
        for (room, session, _) in over {
            if let Err(error) = self.voice_leave(room, session).await {
                debug!(%error, "a place in voice could not be given back");
            }
        }
        let leases = current
            .iter()
            .filter_map(|(room, session, _)| held(*room, *session).ok());
        let leases: Vec<Held> = leases.collect();
        if leases.is_empty() {
            return;
        }
        match self.state.renew(&leases).await {
            Ok(renewed) => {
                let lost = current.iter().zip(renewed).filter(|(_, there)| !there);
                for ((room, session, _), _) in lost {
                    self.rooms.set_voice(*room, *session, None);
                }
            }
            Err(error) => debug!(%error, "places in voice could not be renewed"),
        }
    }

    /// Brings a signal to another member who is in voice in the same room.
    pub(crate) async fn voice_signal(
        &self,
        room: RoomCode,
        from: &MemberId,
        signal: &Signal,
    ) -> Result<(), Failure> {
        let target = signal.target()?;
        let raw = signal.signal()?;
        let holders = self.voices(room).await?;
        let is_in = |member: &MemberId| holders.iter().any(|it| it.member == member.as_str());
        if !is_in(from) {
            return Err(not_in_voice());
        }
        if !is_in(&target) || target == *from {
            let words = "nobody with this targetId is in voice here";
            return Err(Failure::new(Code::VoicePeerNotFound, words));
        }
        let told = json!({ "fromId": from, "signal": raw });
        self.tell(target.channel(), "voice:signal", &told)
    }

    /// `voice:ice:servers` for a member.
    pub(crate) fn ice_servers(&self, member: &MemberId) -> Value {
        let ice = &self.config.ice;
        let servers = ice.servers(member.as_str(), self.clock.now() / 1000);
        let expires = servers.iter().any(|server| server.credential.is_some());
        let ttl = expires.then_some(TURN_TTL_SECONDS);
        without_nulls(json!({ "iceServers": servers, "ttlSeconds": ttl }))
    }

    async fn voices(&self, room: RoomCode) -> Result<Vec<Holder>, Failure> {
        // Of one member there may be two for a moment.
        let most = PEERS_MAX as usize * 2;
        Ok(self.state.leases(&scope(room)?, most).await?)
    }
}

pub(crate) fn not_in_voice() -> Failure {
    Failure::new(Code::NotInVoice, "join voice first: voice:join")
}

fn scope(room: RoomCode) -> Result<StateKey, Failure> {
    StateKey::of("voice", &room.channel()).map_err(Failure::internal)
}

fn held(room: RoomCode, session: Uuid) -> Result<Held, Failure> {
    Ok(Held {
        scope: scope(room)?,
        holder: session,
    })
}
