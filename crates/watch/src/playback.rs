//! Playback as arithmetic: where the picture is at a time, and what a command makes of it. No IO and no clock: the time is
//! passed in.
//!
//! The state is an anchor: "at this server time the picture was there". Before the anchor's time (a command is carried
//! out a little in the future) the picture is taken to stand at the anchor.

use fanfare_wire::Millis;

/// Latest media time that can be asked for, in milliseconds: a week.
pub const MEDIA_TIME_MAX: Millis = 7 * 24 * 3600 * 1000;

/// Slowest and fastest playback, in thousandths.
pub const RATE_MILLI: std::ops::RangeInclusive<i64> = 100..=4000;

/// Shortest time between a command and its instant, in milliseconds.
pub const LEAD_MIN: Millis = 150;
/// Longest time between a command and its instant, unless its sender wishes for more, in milliseconds.
pub const LEAD_MAX: Millis = 500;
/// What is added to the longest round trip for the lead, in milliseconds.
const LEAD_MARGIN: Millis = 50;
/// How far ahead a sender may wish for a command's instant, in milliseconds.
pub const WISH_MAX: Millis = 2000;
/// A wish farther away from the server's time than this, in milliseconds, comes from a wrong clock.
pub const SKEW_MAX: Millis = 10_000;

/// Where the picture is, as an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Playback {
    /// Counts commands: 0 for a new room, 1 more with each, never less.
    pub version: i64,
    /// Whether the picture moves from the anchor on.
    pub is_playing: bool,
    /// How fast, in thousandths.
    pub rate_milli: i64,
    /// The server time of the anchor.
    pub anchor_server: Millis,
    /// The media time of the anchor.
    pub anchor_media: Millis,
    /// Whether the picture moved before the anchor's time: then a later command cannot take effect before it, because
    /// where the picture was is not known any more.
    pub moved_before: bool,
    /// How long the video is, if that is known.
    pub duration: Option<Millis>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Move.
    Play,
    /// Stand still.
    Pause,
    /// Go there.
    Seek(Millis),
    /// Move so fast, in thousandths.
    SetRate(i64),
    /// Another video of this length: at its beginning, paused.
    SetSource(Option<Millis>),
}

/// A wished instant that no right clock would wish for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSkew;

impl Playback {
    /// A new room: at the beginning, paused.
    #[must_use]
    pub fn new(now: Millis, duration: Option<Millis>) -> Self {
        Self {
            version: 0,
            is_playing: false,
            rate_milli: 1000,
            anchor_server: now,
            anchor_media: 0,
            moved_before: false,
            duration,
        }
    }

    /// Where the picture is at a server time, in milliseconds of media time.
    #[must_use]
    pub fn position_at(&self, time: Millis) -> Millis {
        let end = self.duration.unwrap_or(Millis::MAX);
        if !self.is_playing || time <= self.anchor_server {
            return self.anchor_media.min(end);
        }
        let moved = i128::from(time - self.anchor_server) * i128::from(self.rate_milli);
        // To the nearest millisecond.
        let moved = Millis::try_from((moved + 500) / 1000).unwrap_or(Millis::MAX);
        self.anchor_media.saturating_add(moved).min(end)
    }

    /// The state after an action that takes effect at an instant, which [`Playback::instant`] has chosen.
    #[must_use]
    pub fn after(&self, action: Action, at: Millis) -> Self {
        let here = self.position_at(at);
        let moving = self.is_moving_at(at);
        let next = Self {
            version: self.version + 1,
            ..*self
        };
        let anchored = |media| Self {
            anchor_server: at,
            anchor_media: media,
            moved_before: moving,
            ..next
        };
        match action {
            // Nobody jumps: who plays goes on, at the end of the video from its beginning.
            Action::Play if self.is_playing && !self.is_over_at(at) => next,
            Action::Play => {
                let from = if self.is_over_at(at) { 0 } else { here };
                Self {
                    is_playing: true,
                    ..anchored(from)
                }
            }
            Action::Pause if !self.is_playing => next,
            Action::Pause => Self {
                is_playing: false,
                ..anchored(here)
            },
            Action::Seek(media) => anchored(self.within(media)),
            Action::SetRate(rate_milli) => Self {
                rate_milli: rate_milli.clamp(*RATE_MILLI.start(), *RATE_MILLI.end()),
                ..anchored(here)
            },
            Action::SetSource(duration) => Self {
                is_playing: false,
                duration,
                ..anchored(0)
            },
        }
    }

    /// When a command takes effect: `lead` after now, or later if that is wished for and near enough.
    ///
    /// # Errors
    /// [`ClockSkew`] if the wish is farther than [`SKEW_MAX`] from now.
    pub fn instant(
        &self,
        now: Millis,
        lead: Millis,
        wish: Option<Millis>,
    ) -> Result<Millis, ClockSkew> {
        let soonest = now.saturating_add(lead.clamp(LEAD_MIN, LEAD_MAX));
        let wished = match wish {
            Some(wish) if wish.abs_diff(now) > SKEW_MAX.unsigned_abs() => return Err(ClockSkew),
            Some(wish) => wish.clamp(soonest, now.saturating_add(WISH_MAX).max(soonest)),
            None => soonest,
        };
        // A pending change of a moving picture happens first. A pending start from rest can be taken back.
        Ok(match self.moved_before {
            true => wished.max(self.anchor_server),
            false => wished,
        })
    }

    fn is_moving_at(&self, time: Millis) -> bool {
        match time < self.anchor_server {
            true => self.moved_before,
            false => self.is_playing && !self.is_over_at(time),
        }
    }

    fn is_over_at(&self, time: Millis) -> bool {
        self.duration
            .is_some_and(|end| end > 0 && self.position_at(time) >= end)
    }

    fn within(&self, media: Millis) -> Millis {
        media.clamp(
            0,
            self.duration.unwrap_or(MEDIA_TIME_MAX).min(MEDIA_TIME_MAX),
        )
    }
}

/// How long before its instant a command is told, for members with these round trips in milliseconds.
#[must_use]
pub fn lead_for(longest_round_trip: Millis) -> Millis {
    longest_round_trip
        .saturating_add(LEAD_MARGIN)
        .clamp(LEAD_MIN, LEAD_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn playing(media: Millis) -> Playback {
        Playback::new(NOW - 1000, None)
            .after(Action::Seek(media), NOW - 1000)
            .after(Action::Play, NOW)
    }

    #[test]
    fn the_picture_moves_from_the_anchor_at_its_rate() {
        let playback = playing(5000);
        assert_eq!(playback.position_at(NOW - 400), 5000);
        assert_eq!(playback.position_at(NOW + 400), 5400);
        let doubled = playback.after(Action::SetRate(2000), NOW + 1000);
        assert_eq!(doubled.position_at(NOW + 1500), 7000);
        let paused = doubled.after(Action::Pause, NOW + 2000);
        assert_eq!(paused.position_at(NOW + 99_000), 8000);
        assert_eq!(paused.version, 4);
    }

    #[test]
    fn it_stops_at_the_end_and_begins_again_with_the_next_play() {
        let short = Playback::new(NOW, Some(10_000)).after(Action::Play, NOW);
        assert_eq!(short.position_at(NOW + 60_000), 10_000);
        let again = short.after(Action::Play, NOW + 60_000);
        assert_eq!(again.position_at(NOW + 61_000), 1000);
        assert_eq!(short.after(Action::Seek(99_000), NOW).anchor_media, 10_000);
    }

    #[test]
    fn a_wish_is_kept_within_reason() {
        let still = Playback::new(NOW, None);
        assert_eq!(still.instant(NOW, 200, None), Ok(NOW + 200));
        assert_eq!(still.instant(NOW, 200, Some(NOW - 9000)), Ok(NOW + 200));
        assert_eq!(still.instant(NOW, 200, Some(NOW + 900)), Ok(NOW + 900));
        assert_eq!(
            still.instant(NOW, 200, Some(NOW + 9000)),
            Ok(NOW + WISH_MAX)
        );
        for far in [
            0,
            NOW - SKEW_MAX - 1,
            NOW + SKEW_MAX + 1,
            Millis::MAX,
            Millis::MIN,
        ] {
            assert_eq!(still.instant(NOW, 200, Some(far)), Err(ClockSkew));
        }
        assert_eq!(lead_for(0), LEAD_MIN);
        assert_eq!(lead_for(250), 300);
        assert_eq!(lead_for(Millis::MAX), LEAD_MAX);
    }

    #[test]
    fn a_start_that_is_pending_can_be_taken_back_and_a_pending_seek_comes_first() {
        let pending = Playback::new(NOW, None).after(Action::Play, NOW + 3000);
        let at = pending.instant(NOW + 10, 150, None).unwrap();
        assert_eq!(at, NOW + 160);
        let paused = pending.after(Action::Pause, at);
        assert_eq!((paused.anchor_media, paused.is_playing), (0, false));

        let seeking = playing(0).after(Action::Seek(60_000), NOW + 2000);
        let at = seeking.instant(NOW + 10, 150, None).unwrap();
        assert_eq!(at, NOW + 2000);
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Play),
            Just(Action::Pause),
            (0..MEDIA_TIME_MAX).prop_map(Action::Seek),
            RATE_MILLI.prop_map(Action::SetRate),
            proptest::option::of(1..MEDIA_TIME_MAX).prop_map(Action::SetSource),
        ]
    }

    /// A room in which these actions came, so many milliseconds one after the other.
    fn played(steps: &[(Action, Millis)]) -> (Playback, Millis) {
        let mut now = NOW;
        let mut playback = Playback::new(now, None);
        for (action, pause) in steps {
            now += pause;
            let at = playback.instant(now, LEAD_MIN, None).unwrap();
            playback = playback.after(*action, at);
        }
        (playback, now)
    }

    proptest! {
        #[test]
        fn only_seek_and_source_move_the_picture(
            steps in proptest::collection::vec((any_action(), 0..5000i64), 0..12),
            next in prop_oneof![
                Just(Action::Play), Just(Action::Pause), RATE_MILLI.prop_map(Action::SetRate)
            ],
        ) {
            let (playback, now) = played(&steps);
            let at = playback.instant(now, LEAD_MIN, None).unwrap();
            prop_assume!(!(next == Action::Play && playback.is_over_at(at)));
            let after = playback.after(next, at);
            prop_assert!((after.position_at(at) - playback.position_at(at)).abs() <= 1);
        }

        #[test]
        fn play_while_playing_changes_no_position(
            steps in proptest::collection::vec((any_action(), 0..5000i64), 0..12),
            later in 0..3_600_000i64,
        ) {
            let (playback, now) = played(&steps);
            let at = playback.instant(now, LEAD_MIN, None).unwrap();
            let started = playback.after(Action::Play, at);
            let at = started.instant(now, LEAD_MIN, None).unwrap();
            prop_assume!(!started.is_over_at(at));
            let again = started.after(Action::Play, at);
            prop_assert_eq!(again.position_at(at + later), started.position_at(at + later));
            prop_assert_eq!(again.version, started.version + 1);
        }

        #[test]
        fn versions_count_and_positions_stay_within_the_video(
            steps in proptest::collection::vec((any_action(), 0..5000i64), 0..12),
            later in 0..MEDIA_TIME_MAX,
        ) {
            let (playback, now) = played(&steps);
            prop_assert_eq!(playback.version, i64::try_from(steps.len()).unwrap());
            let position = playback.position_at(now + later);
            prop_assert!(position >= 0);
            prop_assert!(playback.duration.is_none_or(|end| position <= end));
            prop_assert!(position >= playback.position_at(now), "the picture never goes back by itself");
        }

        #[test]
        fn an_instant_is_never_before_the_lead_nor_before_a_change_under_way(
            steps in proptest::collection::vec((any_action(), 0..5000i64), 0..12),
            wish in proptest::option::of(-SKEW_MAX..=SKEW_MAX),
            lead in 0..2000i64,
        ) {
            let (playback, now) = played(&steps);
            let at = playback.instant(now, lead, wish.map(|wish| now + wish)).unwrap();
            prop_assert!(at >= now + LEAD_MIN);
            prop_assert!(at <= now + WISH_MAX || at == playback.anchor_server);
            prop_assert!(!playback.moved_before || at >= playback.anchor_server);
        }
    }
}
