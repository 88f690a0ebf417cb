//! Who owns a room whose owner is away. The decision, without IO: every node with members makes it, and the change of the
//! room's row makes it happen once.

use fanfare_wire::Millis;

use crate::{
    identity::MemberId,
    room::{Present, Room},
};

/// An owner of whom nothing was seen for so many milliseconds is away.
pub(crate) const AWAY_AFTER: Millis = 15_000;
/// The room of an owner of whom nothing was seen for so many milliseconds is handed over.
pub(crate) const HANDOVER_AFTER: Millis = 60_000;
/// How long a former owner who came back may take the room back, in milliseconds.
pub(crate) const OFFER_FOR: Millis = 60_000;

/// What is to be done about the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// It is absent since now.
    NoteAbsent,
    /// It is there again; tell the room if that was told of its absence.
    NoteBack {
        /// The room was told.
        tell: bool,
    },
    /// Tell the room that it is away.
    TellAway,
    /// Another one owns the room.
    HandOver(MemberId),
}

/// What is to be done now, with these members there.
pub(crate) fn next_step(room: &Room, present: &[Present], now: Millis) -> Step {
    let Some(owner) = &room.owner else {
        // Nobody claimed it, or it could not be written: whoever has been there for longest.
        return heir(present, None).map_or(Step::Wait, Step::HandOver);
    };
    let is_there = present.iter().any(|member| member.oder_id == *owner);
    match (is_there, room.owner_absent_since) {
        (true, None) => Step::Wait,
        (true, Some(_)) => Step::NoteBack {
            tell: room.owner_away_told,
        },
        (false, _) if present.is_empty() => Step::Wait,
        (false, None) => Step::NoteAbsent,
        (false, Some(since)) if now - since >= HANDOVER_AFTER => {
            heir(present, Some(owner)).map_or(Step::Wait, Step::HandOver)
        }
        (false, Some(since)) if now - since >= AWAY_AFTER && !room.owner_away_told => {
            Step::TellAway
        }
        (false, Some(_)) => Step::Wait,
    }
}

/// Whoever has been there for longest, guests only if there is no other. The same for every node.
fn heir(present: &[Present], but: Option<&MemberId>) -> Option<MemberId> {
    present
        .iter()
        .filter(|member| Some(&member.oder_id) != but)
        .min_by_key(|member| (member.guest, member.joined_at, &member.oder_id))
        .map(|member| member.oder_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{payload::Status, room::tests::room};

    fn present(name: &str, guest: bool, joined_at: Millis) -> Present {
        Present {
            oder_id: MemberId::of_user(room().code, name),
            user_id: None,
            username: name.to_owned(),
            guest,
            status: Status::Online,
            joined_at,
        }
    }

    #[test]
    fn an_owner_is_missed_then_away_then_replaced() {
        let mut room = room();
        let (ann, bob, cid, guest) = (
            present("ann", false, 1),
            present("bob", false, 9),
            present("cid", false, 5),
            present("guest", true, 2),
        );
        let others = [guest.clone(), bob.clone(), cid.clone()];
        let everybody = [ann.clone(), bob, cid.clone()];
        assert_eq!(next_step(&room, &everybody, 1000), Step::Wait);
        assert_eq!(next_step(&room, &others, 1000), Step::NoteAbsent);
        room.owner_absent_since = Some(1000);
        assert_eq!(
            next_step(&room, &everybody, 1001),
            Step::NoteBack { tell: false }
        );
        assert_eq!(next_step(&room, &others, 1000 + AWAY_AFTER - 1), Step::Wait);
        assert_eq!(next_step(&room, &others, 1000 + AWAY_AFTER), Step::TellAway);
        room.owner_away_told = true;
        assert_eq!(next_step(&room, &others, 1000 + AWAY_AFTER), Step::Wait);
        assert_eq!(
            next_step(&room, &everybody, 50_000),
            Step::NoteBack { tell: true }
        );
        let late = 1000 + HANDOVER_AFTER;
        assert_eq!(next_step(&room, &others, late), Step::HandOver(cid.oder_id));
        assert_eq!(
            next_step(&room, std::slice::from_ref(&guest), late),
            Step::HandOver(guest.oder_id)
        );
        assert_eq!(next_step(&room, &[], late), Step::Wait);
    }

    #[test]
    fn a_room_that_nobody_claimed_goes_to_the_first() {
        let mut room = room();
        room.owner = None;
        let (bob, cid) = (present("bob", false, 9), present("cid", false, 5));
        assert_eq!(next_step(&room, &[], 0), Step::Wait);
        assert_eq!(
            next_step(&room, &[bob, cid.clone()], 0),
            Step::HandOver(cid.oder_id)
        );
    }
}
