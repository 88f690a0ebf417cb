//! The channels of one client in a namespace: who waits for them, in which wire form they come, and how far the client has
//! read, for it to carry.
//!
//! A client that carries one channel shares its frames with everybody else: each says how far it has read, and the
//! session need not know. One that carries several is given frames of its own, because each of them says it for all.

use fanfare_engine::hub::{Recovery, Request, Resume, Start};
use fanfare_wire::{
    ChannelName, Epoch, FormId, Seq,
    socketio::{
        self,
        seen::{CHANNELS_MAX, put_seen},
    },
};
use tokio::sync::oneshot;

use super::app::{JoinError, Joined, Keep};

/// The name of the event that tells nothing but how far a client has read.
pub(super) const POSITION_EVENT: &str = "fanfare:position";

/// The wire forms of a namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forms {
    /// For those that carry this channel alone.
    pub(super) seen: FormId,
    /// For those that do not carry it.
    pub(super) plain: FormId,
    /// For those that carry several.
    pub(super) personal: FormId,
    /// For those of them that are told who joins and leaves, where the others are not.
    pub(super) joins: Option<FormId>,
}

/// The channels of one client in a namespace.
pub(super) struct Channels {
    namespace: Box<str>,
    forms: Forms,
    /// Whether the client carries anything.
    recovery: bool,
    members: Vec<Member>,
}

/// One channel.
struct Member {
    channel: ChannelName,
    keep: Keep,
    /// The client is told who joins and leaves.
    joins: bool,
    form: FormId,
    state: State,
}

/// A join that is asked for.
pub(super) struct Wish {
    pub(super) channel: ChannelName,
    pub(super) start: Start,
    pub(super) keep: Keep,
    pub(super) joins: bool,
    pub(super) waiting: Waiting,
}

/// A channel that a client comes back to.
pub(super) struct Return {
    pub(super) channel: ChannelName,
    pub(super) seq: Seq,
    pub(super) joins: bool,
    /// It is given the newest alone of what it has missed.
    pub(super) newest: bool,
}

enum State {
    Joining {
        tag: u32,
        reply: Waiting,
        /// Where a client that comes back has been, and is until it is told otherwise.
        was: Option<Seq>,
    },
    /// Reformed by the hub, which is going to say where the cursor stands.
    Reforming,
    /// The number is right only in the personal form.
    Live(Seq),
}

/// Who waits for a channel to be joined.
pub(super) enum Waiting {
    /// A join of the app's.
    Join(oneshot::Sender<Result<Joined, JoinError>>),
    /// A client that comes back.
    Resume,
}

impl Return {
    /// What to ask for, the log being of this epoch.
    pub(super) fn into_wish(self, epoch: Epoch) -> Wish {
        let Self {
            channel,
            seq,
            joins,
            newest,
        } = self;
        let resume = Resume {
            epoch: Some(epoch),
            seq,
            oldest_if_truncated: false,
        };
        Wish {
            channel,
            start: match newest {
                true => Start::Newest(Some(resume)),
                false => Start::Resume(resume),
            },
            keep: Keep::Position,
            joins,
            waiting: Waiting::Resume,
        }
    }
}

impl Channels {
    pub(super) fn new(namespace: &str, forms: Forms, recovery: bool) -> Self {
        Self {
            namespace: namespace.into(),
            forms,
            recovery,
            members: Vec::new(),
        }
    }

    /// How many there are, those that are being joined included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the client is in a channel, or on its way.
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.members.iter().any(|member| member.channel == *channel)
    }

    /// Whether another one may be kept in this way.
    pub(super) fn can_carry(&self, keep: Keep) -> bool {
        let carried = self.members.iter().filter(|it| it.keep != Keep::Nothing);
        !self.recovery || keep == Keep::Nothing || carried.count() < CHANNELS_MAX
    }

    /// Begins to join a channel: what to ask the hub for.
    pub(super) fn join(&mut self, tag: u32, wish: Wish) -> Request {
        let Wish {
            channel,
            start,
            keep,
            joins,
            waiting: reply,
        } = wish;
        let keep = if self.recovery { keep } else { Keep::Nothing };
        let was = match (&reply, &start) {
            (Waiting::Resume, Start::Resume(resume) | Start::Newest(Some(resume))) => {
                Some(resume.seq)
            }
            _ => None,
        };
        self.members.push(Member {
            channel: channel.clone(),
            keep,
            joins,
            form: self.forms.plain,
            state: State::Joining { tag, reply, was },
        });
        let form = self.form_of(keep, joins);
        if let Some(member) = self.members.last_mut() {
            member.form = form;
        }
        Request::Subscribe {
            tag,
            channel,
            start,
            form,
            filter: None,
        }
    }

    /// The hub has placed the cursor. What came of it, for whoever waits, and what to ask the hub for next.
    pub(super) fn joined(
        &mut self,
        tag: u32,
        joined: Joined,
    ) -> Option<(Waiting, Joined, Vec<Request>)> {
        let member = self.asked(tag, &joined.channel)?;
        let before = std::mem::replace(&mut member.state, State::Live(joined.position));
        let State::Joining { reply, .. } = before else {
            return None;
        };
        let requests = self.reform();
        Some((reply, joined, requests))
    }

    /// The hub could not place the cursor.
    pub(super) fn failed(&mut self, tag: u32, channel: &ChannelName) -> Option<Waiting> {
        self.asked(tag, channel)?;
        let at = self.members.iter().position(|it| it.channel == *channel)?;
        match self.members.remove(at).state {
            State::Joining { reply, .. } => Some(reply),
            State::Reforming | State::Live(_) => None,
        }
    }

    /// The hub has changed the form of a channel.
    pub(super) fn reformed(&mut self, channel: &ChannelName, position: Seq) {
        if let Some(member) = self.member(channel) {
            member.state = State::Live(position);
        }
    }

    /// Leaves a channel: what to ask the hub for, unless the client is not in it.
    pub(super) fn leave(&mut self, channel: &ChannelName) -> Option<Vec<Request>> {
        let at = self.members.iter().position(|it| it.channel == *channel)?;
        self.members.remove(at);
        let mut requests = vec![Request::Unsubscribe(channel.clone())];
        requests.append(&mut self.reform());
        Some(requests)
    }

    /// Leaves all of them.
    pub(super) fn leave_all(&mut self) -> Vec<Request> {
        let members = self.members.drain(..);
        members
            .map(|member| Request::Unsubscribe(member.channel))
            .collect()
    }

    /// Whether it is known how far the client has read, of all that it carries.
    pub(super) fn is_settled(&self) -> bool {
        let reforming = |member: &Member| matches!(member.state, State::Reforming);
        !self.members.iter().any(reforming)
    }

    /// Whether a channel is carried by the client.
    pub(super) fn carries(&self, channel: &ChannelName) -> bool {
        let carried = |it: &Member| it.channel == *channel && it.keep != Keep::Nothing;
        self.members.iter().any(carried)
    }

    /// Notes that a publication is written, and appends how far the client has read then, if it carries that.
    pub(super) fn put_seen_after(
        &mut self,
        channel: &ChannelName,
        seq: Seq,
        epoch: &Epoch,
        out: &mut Vec<u8>,
    ) {
        if let Some(member) = self.member(channel) {
            member.state = State::Live(seq);
        }
        if self.recovery {
            self.put_seen(epoch, out);
        }
    }

    /// Appends an event that tells how far the client has read, if it carries that.
    pub(super) fn put_position(&self, epoch: &Epoch, out: &mut Vec<u8>) {
        if !self.recovery {
            return;
        }
        let mut seen = Vec::new();
        self.put_seen(epoch, &mut seen);
        let none: [&[u8]; 0] = [];
        socketio::put_event(&self.namespace, POSITION_EVENT, &seen, None, &none, out);
    }

    fn put_seen(&self, epoch: &Epoch, out: &mut Vec<u8>) {
        let carried = self.members.iter().filter_map(|member| {
            let seq = match (member.keep, &member.state) {
                (Keep::Nothing, _) | (_, State::Joining { was: None, .. } | State::Reforming) => {
                    return None;
                }
                (Keep::Name, _) => None,
                (Keep::Position, State::Joining { was, .. }) => *was,
                (Keep::Position, State::Live(seq)) => Some(*seq),
            };
            Some((&member.channel, seq, member.joins))
        });
        put_seen(epoch, carried, out);
    }

    /// The form in which a channel that is kept in this way comes now.
    fn form_of(&self, keep: Keep, joins: bool) -> FormId {
        if let Some(form) = self.forms.joins.filter(|_| joins) {
            return form;
        }
        let carried = self.members.iter().filter(|it| it.keep != Keep::Nothing);
        let several = carried.count() > 1 || self.members.iter().any(|it| it.keep == Keep::Name);
        match keep {
            Keep::Nothing => self.forms.plain,
            Keep::Name | Keep::Position if several => self.forms.personal,
            Keep::Name | Keep::Position => self.forms.seen,
        }
    }

    /// Has those that are live come in the form that is right now.
    fn reform(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for at in 0..self.members.len() {
            let Member { keep, joins, .. } = self.members[at];
            let form = self.form_of(keep, joins);
            let member = &mut self.members[at];
            if member.form == form || matches!(member.state, State::Joining { .. }) {
                continue;
            }
            member.form = form;
            member.state = State::Reforming;
            requests.push(Request::Reform {
                channel: member.channel.clone(),
                form,
            });
        }
        requests
    }

    fn member(&mut self, channel: &ChannelName) -> Option<&mut Member> {
        self.members.iter_mut().find(|it| it.channel == *channel)
    }

    /// The channel that was asked for under this tag. An answer to a join that was taken back meanwhile is not one to its
    /// successor.
    fn asked(&mut self, tag: u32, channel: &ChannelName) -> Option<&mut Member> {
        let asked = |state: &State| matches!(state, State::Joining { tag: of, .. } if *of == tag);
        self.member(channel).filter(|it| asked(&it.state))
    }
}

/// Whether whoever came back to a channel is where it hoped to be.
pub(super) fn is_where_it_was(joined: &Joined) -> bool {
    joined.recovery == Recovery::Recovered
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: Forms = Forms {
        seen: FormId(0),
        plain: FormId(1),
        personal: FormId(2),
        joins: Some(FormId(3)),
    };

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn epoch() -> Epoch {
        Epoch::parse("e1").unwrap()
    }

    /// Asks to join, as an app does: the form that the hub is asked for.
    fn ask(channels: &mut Channels, tag: u32, channel: &str, keep: Keep) -> FormId {
        let (reply, _) = oneshot::channel();
        let wish = Wish {
            channel: name(channel),
            start: Start::Live,
            keep,
            joins: false,
            waiting: Waiting::Join(reply),
        };
        form(&channels.join(tag, wish))
    }

    fn form(request: &Request) -> FormId {
        match request {
            Request::Subscribe { form, .. } | Request::Reform { form, .. } => *form,
            other => panic!("{other:?}"),
        }
    }

    /// The hub places the cursor: which channels it is asked to give another form.
    fn place(channels: &mut Channels, tag: u32, channel: &str, seq: u64) -> Vec<(String, FormId)> {
        let joined = Joined {
            channel: name(channel),
            position: Seq(seq),
            epoch: epoch(),
            recovery: Recovery::NotAsked,
        };
        let (_, _, requests) = channels.joined(tag, joined).unwrap();
        reforms(&requests)
    }

    fn reforms(requests: &[Request]) -> Vec<(String, FormId)> {
        let reform = |request: &Request| match request {
            Request::Reform { channel, form } => Some((channel.as_str().to_owned(), *form)),
            _ => None,
        };
        requests.iter().filter_map(reform).collect()
    }

    fn seen(channels: &Channels) -> String {
        let mut out = Vec::new();
        channels.put_seen(&epoch(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_channel_is_shared_and_several_are_personal() {
        let mut channels = Channels::new("/a", FORMS, true);
        assert_eq!(ask(&mut channels, 1, "a", Keep::Position), FORMS.seen);
        assert_eq!(place(&mut channels, 1, "a", 5), []);
        assert_eq!(ask(&mut channels, 2, "news", Keep::Nothing), FORMS.plain);
        assert_eq!(place(&mut channels, 2, "news", 1), []);
        assert_eq!(seen(&channels), "\"e1 5 a\"");

        assert_eq!(ask(&mut channels, 3, "b", Keep::Position), FORMS.personal);
        let reform = [("a".to_owned(), FORMS.personal)];
        assert_eq!(place(&mut channels, 3, "b", 7), reform);
        // Publications of `a` went by that this has not been told of.
        assert!(!channels.is_settled());
        channels.reformed(&name("a"), Seq(9));
        assert!(channels.is_settled());
        assert_eq!(seen(&channels), "\"e1 9 a 7 b\"");
        let mut out = Vec::new();
        channels.put_seen_after(&name("b"), Seq(8), &epoch(), &mut out);
        assert_eq!(out, b"\"e1 9 a 8 b\"");

        let requests = channels.leave(&name("a")).unwrap();
        assert_eq!(reforms(&requests), [("b".to_owned(), FORMS.seen)]);
        channels.reformed(&name("b"), Seq(8));
        assert_eq!(seen(&channels), "\"e1 8 b\"");
        assert!(channels.leave(&name("a")).is_none());
    }

    #[test]
    fn a_name_without_a_position_makes_all_others_personal() {
        let mut channels = Channels::new("/a", FORMS, true);
        ask(&mut channels, 1, "a", Keep::Position);
        place(&mut channels, 1, "a", 5);
        assert_eq!(ask(&mut channels, 2, "live", Keep::Name), FORMS.personal);
        let reform = [("a".to_owned(), FORMS.personal)];
        assert_eq!(place(&mut channels, 2, "live", 3), reform);
        channels.reformed(&name("a"), Seq(5));
        assert_eq!(seen(&channels), "\"e1 5 a - live\"");
    }

    #[test]
    fn who_comes_back_is_where_it_was_until_it_is_told_otherwise() {
        let mut channels = Channels::new("/a", FORMS, true);
        for (tag, channel, seq) in [(1, "a", 4), (2, "b", 6)] {
            let back = Return {
                channel: name(channel),
                seq: Seq(seq),
                joins: false,
                newest: false,
            };
            let wish = back.into_wish(epoch());
            channels.join(tag, wish);
        }
        let reform = [("a".to_owned(), FORMS.personal)];
        assert_eq!(place(&mut channels, 1, "a", 4), reform);
        channels.reformed(&name("a"), Seq(4));
        // `b` is not there yet, and must not be forgotten should the connection end now.
        assert_eq!(seen(&channels), "\"e1 4 a 6 b\"");
        assert!(channels.failed(7, &name("b")).is_none(), "another's answer");
        assert!(channels.failed(2, &name("b")).is_some());
    }

    #[test]
    fn without_recovery_nothing_is_carried() {
        let mut channels = Channels::new("/", FORMS, false);
        assert_eq!(ask(&mut channels, 1, "a", Keep::Position), FORMS.plain);
        assert_eq!(place(&mut channels, 1, "a", 5), []);
        assert_eq!(ask(&mut channels, 2, "b", Keep::Name), FORMS.plain);
        let mut out = Vec::new();
        channels.put_position(&epoch(), &mut out);
        channels.put_seen_after(&name("a"), Seq(6), &epoch(), &mut out);
        assert!(out.is_empty());
    }
}
