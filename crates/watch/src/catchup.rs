//! What a member has missed: the commands and messages after what it says that it has seen.

use fanfare_wire::{Epoch, Publication, Seq};
use serde_json::Value;

use crate::{
    Watch,
    chat::{event_of, message_of},
    failure::Failure,
    identity::RoomCode,
    payload::Join,
};

/// Publications that are looked through; who has missed more begins anew with the state.
const MISSED_MAX: usize = 1000;

/// What was missed, oldest first.
#[derive(Debug)]
pub(crate) struct Missed {
    pub(crate) commands: Vec<Value>,
    pub(crate) messages: Vec<Value>,
    /// Not all of it: more than is looked through, or more than retention has kept.
    pub(crate) truncated: bool,
    pub(crate) epoch: Epoch,
    pub(crate) head: Seq,
}

/// Up to where a member has seen.
#[derive(Debug)]
enum Mark<'a> {
    Offset(u64),
    Last {
        sequence: Option<i64>,
        message: Option<&'a str>,
    },
}

impl Watch {
    /// What was missed, if the member says what it has seen.
    pub(crate) async fn missed(
        &self,
        room: RoomCode,
        join: &Join,
    ) -> Result<Option<Missed>, Failure> {
        let mark = match (&join.since, join.last_seen_sequence, &join.last_message_id) {
            (Some(since), ..) => Mark::Offset(since.offset),
            (None, None, None) => return Ok(None),
            (None, sequence, message) => Mark::Last {
                sequence,
                message: message.as_deref(),
            },
        };
        let page = self.page_before(room, None, MISSED_MAX).await?;
        let is_other = join
            .since
            .as_ref()
            .is_some_and(|since| since.epoch != page.epoch.as_str());
        if is_other {
            return Ok(Some(Missed {
                commands: Vec::new(),
                messages: newest_messages(&page.publications),
                truncated: true,
                epoch: page.epoch,
                head: page.head,
            }));
        }
        // A page is cut short by its bytes, too.
        let oldest = page.publications.last();
        let is_whole = page.trimmed == Seq::ZERO && oldest.is_none_or(|it| it.seq <= Seq(1));
        let (commands, messages, found) = sort(&page.publications, &mark);
        Ok(Some(Missed {
            commands,
            messages,
            truncated: !(found || is_whole),
            epoch: page.epoch,
            head: page.head,
        }))
    }
}

fn newest_messages(newest_first: &[Publication]) -> Vec<Value> {
    let messages = newest_first.iter().filter_map(message_of);
    let mut messages: Vec<Value> = messages.take(crate::chat::MESSAGES_ON_JOIN).collect();
    messages.reverse();
    messages
}

/// Commands and messages after a mark, oldest first, and whether the mark was met.
fn sort(newest_first: &[Publication], mark: &Mark<'_>) -> (Vec<Value>, Vec<Value>, bool) {
    let (mut commands, mut messages) = (Vec::new(), Vec::new());
    let (mut commands_met, mut messages_met) = match mark {
        // Nothing was before the first.
        Mark::Offset(offset) => (*offset == 0, *offset == 0),
        // What was not asked for is not looked for.
        Mark::Last { sequence, message } => (sequence.is_none(), message.is_none()),
    };
    let wants_messages = !messages_met || matches!(mark, Mark::Offset(_));
    let wants_commands = !commands_met || matches!(mark, Mark::Offset(_));
    for publication in newest_first {
        match mark {
            Mark::Offset(offset) if publication.seq.0 <= *offset => {
                return reversed(commands, messages, true);
            }
            Mark::Offset(_) => {}
            Mark::Last { .. } if commands_met && messages_met => break,
            Mark::Last { .. } => {}
        }
        if let Some(command) = command_of(publication) {
            let seen = matches!(mark, Mark::Last { sequence: Some(last), .. }
                if command["sequenceNumber"].as_i64().is_some_and(|it| it <= *last));
            commands_met |= seen;
            if wants_commands && !seen && !(commands_met && matches!(mark, Mark::Last { .. })) {
                commands.push(command);
            }
        } else if let Some(message) = message_of(publication) {
            let seen = matches!(mark, Mark::Last { message: Some(last), .. }
                if message["id"].as_str() == Some(last));
            messages_met |= seen;
            if wants_messages && !(messages_met && matches!(mark, Mark::Last { .. })) {
                messages.push(message);
            }
        }
    }
    let met = match mark {
        Mark::Offset(offset) => newest_first
            .last()
            .is_none_or(|oldest| oldest.seq.0 <= offset + 1),
        // A sequence of 0 is what every room begins with.
        Mark::Last { sequence, .. } => (commands_met || *sequence == Some(0)) && messages_met,
    };
    reversed(commands, messages, met)
}

fn reversed(
    mut commands: Vec<Value>,
    mut messages: Vec<Value>,
    met: bool,
) -> (Vec<Value>, Vec<Value>, bool) {
    commands.reverse();
    messages.reverse();
    (commands, messages, met)
}

fn command_of(publication: &Publication) -> Option<Value> {
    if event_of(publication)? != "sync:command" {
        return None;
    }
    let mut told: Value = serde_json::from_slice(publication.data.as_bytes()).ok()?;
    Some(told["command"].take())
}

#[cfg(test)]
mod tests {
    use fanfare_wire::Json;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn publication(seq: u64, event: &str, data: &Value) -> Publication {
        let json = |value: &Value| Json::parse(value.to_string().as_bytes()).unwrap();
        Publication {
            seq: Seq(seq),
            id: Uuid::nil(),
            time: 0,
            data: json(data),
            info: None,
            tags: Some(json(&json!({ "event": event }))),
        }
    }

    /// Commands 1 to 3 at 1, 3, 5; messages a to c at 2, 4, 6. The newest first.
    fn log() -> Vec<Publication> {
        let command = |seq: u64| json!({ "command": { "sequenceNumber": seq.div_ceil(2) } });
        let id = |seq: u64| ["a", "b", "c"][usize::try_from(seq).unwrap() / 2 - 1];
        let message = |seq: u64| json!({ "id": id(seq) });
        (1..=6)
            .rev()
            .map(|seq| match seq % 2 {
                1 => publication(seq, "sync:command", &command(seq)),
                _ => publication(seq, "chat:message", &message(seq)),
            })
            .collect()
    }

    fn counted(mark: &Mark<'_>, newest_first: &[Publication]) -> (Vec<i64>, Vec<String>, bool) {
        let (commands, messages, met) = sort(newest_first, mark);
        let commands = commands
            .iter()
            .filter_map(|it| it["sequenceNumber"].as_i64());
        let messages = messages.iter().filter_map(|it| it["id"].as_str());
        (
            commands.collect(),
            messages.map(str::to_owned).collect(),
            met,
        )
    }

    #[test]
    fn what_follows_an_offset_is_missed() {
        let (commands, messages, met) = counted(&Mark::Offset(3), &log());
        assert_eq!((commands, met), (vec![3], true));
        assert_eq!(messages, ["b", "c"]);
        let (commands, messages, met) = counted(&Mark::Offset(6), &log());
        assert!(commands.is_empty() && messages.is_empty() && met);
        let (commands, _, met) = counted(&Mark::Offset(0), &log());
        assert_eq!((commands, met), (vec![1, 2, 3], true));
        assert!(
            !counted(&Mark::Offset(1), &log()[..3]).2,
            "2 and 3 are not known"
        );
    }

    #[test]
    fn what_follows_the_last_command_and_the_last_message_is_missed() {
        let mark = |sequence, message| Mark::Last { sequence, message };
        let (commands, messages, met) = counted(&mark(Some(1), Some("b")), &log());
        assert_eq!((commands, met), (vec![2, 3], true));
        assert_eq!(messages, ["c"]);
        let (commands, messages, met) = counted(&mark(Some(2), None), &log());
        assert_eq!((commands, messages.len(), met), (vec![3], 0, true));
        assert!(!counted(&mark(None, Some("z")), &log()).2);
        assert!(counted(&mark(Some(0), None), &log()).2);
    }
}
