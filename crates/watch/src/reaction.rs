//! Reactions, and how many there were at which moment of the video.

use std::collections::BTreeMap;

use fanfare_engine::port::tables::{Step, Value as Param};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Watch, draft,
    failure::Failure,
    identity::RoomCode,
    payload::{Animation, Reaction},
    room::{Present, Room},
    schema,
    session::events::without_nulls,
};

/// The step of the timeline, in milliseconds of media time.
const STEP: i64 = 5000;
/// Counts that a room keeps.
const COUNTS_MAX: i64 = 5000;

impl Watch {
    /// Shows a reaction to everybody and counts it. Returns its id.
    pub(crate) async fn react(
        &self,
        room: &Room,
        by: &Present,
        reaction: &Reaction,
    ) -> Result<Uuid, Failure> {
        let id = Uuid::now_v7();
        let (emoji, media) = (reaction.emoji()?, reaction.media_time()?);
        // Where on the picture: the same for everybody, and anywhere.
        let random = Uuid::new_v4();
        let fraction = |at: usize| f64::from(random.as_bytes()[at]) / 255.0;
        let told = without_nulls(json!({
            "id": id.to_string(),
            "roomId": room.code.as_str(),
            "oderId": by.oder_id,
            "userId": by.user_id,
            "username": by.username,
            "guestName": by.guest.then_some(&by.username),
            "emoji": emoji,
            "position": { "x": fraction(0), "y": fraction(1) },
            "mediaTimeMs": media,
            "animation": reaction.animation.unwrap_or(Animation::Float),
            "createdAt": self.clock.now(),
        }));
        let params: Vec<Param> = vec![
            room.code.as_str().into(),
            (media / STEP * STEP).into(),
            emoji.into(),
            COUNTS_MAX.into(),
        ];
        let count = Step::new(schema::COUNT_REACTION, params);
        let mut draft = draft(room.code.channel(), "reaction:new", &told)?;
        draft.id = id;
        self.write(vec![count], vec![draft]).await?;
        Ok(id)
    }

    /// `reaction:timeline`.
    pub(crate) async fn timeline(&self, room: RoomCode) -> Result<Value, Failure> {
        let params = vec![room.as_str().into()];
        let rows = self.engine.query(schema::SELECT_REACTIONS, params).await?;
        let mut steps: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
        for row in &rows {
            if let (Some(step), Some(emoji), Some(amount)) = (row.int(0), row.text(1), row.int(2)) {
                steps
                    .entry(step)
                    .or_default()
                    .insert(emoji.to_owned(), amount);
            }
        }
        let steps = steps
            .into_iter()
            .map(|(step, reactions)| json!({ "mediaTimeMs": step, "reactions": reactions }));
        Ok(json!({ "reactions": steps.collect::<Vec<_>>() }))
    }
}
