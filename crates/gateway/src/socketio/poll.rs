//! Long-polling: the pipe between a shard and the requests that come and go, and the list of such sessions.
//!
//! The shard writes WebSocket frames, as to everybody; a poll takes those that have gathered as one payload. Once the
//! session has gone over to a WebSocket, what nobody has taken goes there first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_engine::hub::{Event, Pipe, PipeClosed, PushError, Remote};
use fanfare_wire::engineio;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Bytes that may wait for the next poll. A single frame may be longer.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// How long a poll that comes while another transport is tried may wait for that to be decided.
const PROBE_PATIENCE: Duration = Duration::from_millis(250);
/// How long the last words of a session wait for a poll.
const FAREWELL: Duration = Duration::from_secs(10);

/// Something that the session's own connection is told about its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two polls, or two bodies, at the same time.
    Overlap,
    /// A request was given up by the client.
    Aborted,
}

/// Why a request gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The session is over.
    Over,
    /// It is not the time for such a request.
    Unfit,
}

/// A session that began with long-polling.
pub(super) struct Poll {
    state: Mutex<State>,
    /// Wakes the poll that waits.
    news: Notify,
}

struct State {
    remote: Option<Remote>,
    /// Whole frames.
    chunks: Vec<Bytes>,
    bytes: usize,
    /// A push was refused for want of room.
    refused: bool,
    /// A poll waits.
    waiting: bool,
    /// That poll is to end, with nothing to say.
    dismissed: bool,
    /// A body is being read.
    posting: bool,
    /// Another transport is being tried.
    probed: bool,
    phase: Phase,
    /// The client has to have answered a ping by then.
    expires: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing follows what is there.
    Ending,
    Over,
    /// It goes on over a WebSocket.
    Upgraded,
}

impl Poll {
    /// A session that ends at `expires` unless it is put off.
    pub(super) fn new(expires: Instant) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                remote: None,
                chunks: Vec::new(),
                bytes: 0,
                refused: false,
                waiting: false,
                dismissed: false,
                posting: false,
                probed: false,
                phase: Phase::Open,
                expires,
            }),
            news: Notify::new(),
        })
    }

    /// Waits for something to say: a whole payload.
    pub(super) async fn poll(&self) -> Result<Vec<u8>, Refused> {
        // Ends the session if this is given up while it waits.
        let _waiter = {
            let mut state = self.lock();
            state.check()?;
            if let Some(payload) = state.take() {
                return Ok(payload);
            }
            if state.phase != Phase::Open && state.phase != Phase::Ending {
                return Err(state.refusal());
            }
            if state.waiting {
                state.tell(Fault::Overlap);
                return Err(Refused::Unfit);
            }
            state.waiting = true;
            state.dismissed = false;
            Waiter(self)
        };
        loop {
            let probed = {
                let mut state = self.lock();
                if let Some(payload) = state.take() {
                    state.waiting = false;
                    return Ok(payload);
                }
                if matches!(state.phase, Phase::Over | Phase::Upgraded) {
                    state.waiting = false;
                    return Err(state.refusal());
                }
                if state.dismissed {
                    state.waiting = false;
                    return Ok(noop());
                }
                state.probed
            };
            let news = self.news.notified();
            match probed {
                false => news.await,
                true => {
                    if timeout(PROBE_PATIENCE, news).await.is_err() {
                        self.lock().dismissed = true;
                    }
                }
            }
        }
    }

    /// Begins to read a body; the session is over if the guard is dropped before it is told that the body was taken.
    pub(super) fn begin_post(self: &Arc<Self>) -> Result<(Posting, Remote), Refused> {
        let mut state = self.lock();
        state.check()?;
        if state.phase != Phase::Open {
            return Err(state.refusal());
        }
        if state.posting {
            state.tell(Fault::Overlap);
            return Err(Refused::Unfit);
        }
        let remote = state.remote.clone().ok_or(Refused::Over)?;
        state.posting = true;
        let posting = Posting {
            poll: Arc::clone(self),
            done: false,
        };
        Ok((posting, remote))
    }

    /// Begins to try another transport.
    pub(super) fn begin_probe(self: &Arc<Self>) -> Result<(Probing, Remote), Refused> {
        let mut state = self.lock();
        state.check()?;
        if state.phase != Phase::Open {
            return Err(state.refusal());
        }
        if state.probed {
            return Err(Refused::Unfit);
        }
        let remote = state.remote.clone().ok_or(Refused::Over)?;
        state.probed = true;
        Ok((Probing(Arc::clone(self)), remote))
    }

    /// The client has answered: the session lasts at least until then.
    pub(super) fn put_off(&self, expires: Instant) {
        self.lock().expires = expires;
    }

    /// Nothing follows what has been written.
    pub(super) fn ending(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Ending;
        }
    }

    /// It is over, and what has been written is not given to anybody.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        if state.phase != Phase::Upgraded {
            state.phase = Phase::Over;
            state.clear();
        }
        drop(state);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends a session whose client has not answered in time.
    fn check(&mut self) -> Result<(), Refused> {
        let expires = self.phase == Phase::Open && Instant::now() >= self.expires;
        if expires {
            self.phase = Phase::Over;
            self.clear();
            if let Some(remote) = &self.remote {
                remote.hangup();
            }
            return Err(Refused::Over);
        }
        Ok(())
    }

    fn refusal(&self) -> Refused {
        match self.phase {
            Phase::Upgraded => Refused::Unfit,
            _ => Refused::Over,
        }
    }

    /// What has gathered, as a payload.
    fn take(&mut self) -> Option<Vec<u8>> {
        if self.chunks.is_empty() || self.phase == Phase::Upgraded {
            return None;
        }
        let mut payload = Vec::with_capacity(self.bytes);
        for chunk in &self.chunks {
            engineio::put_payload(chunk, &mut payload);
        }
        self.clear();
        let refused = std::mem::take(&mut self.refused);
        if self.phase == Phase::Ending && !refused {
            self.phase = Phase::Over;
        }
        if refused && let Some(remote) = &self.remote {
            remote.writable();
        }
        Some(payload)
    }

    fn clear(&mut self) {
        self.chunks = Vec::new();
        self.bytes = 0;
    }

    fn tell(&self, fault: Fault) {
        if let Some(remote) = &self.remote {
            remote.send(Event::Post(Box::new(fault)));
        }
    }
}

fn noop() -> Vec<u8> {
    let (mut frame, mut payload) = (Vec::new(), Vec::new());
    engineio::put_noop(&mut frame);
    engineio::put_payload(&frame, &mut payload);
    payload
}

/// A poll that waits.
struct Waiter<'a>(&'a Poll);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let waited = std::mem::take(&mut state.waiting);
        if waited && matches!(state.phase, Phase::Open | Phase::Ending) {
            // Given up by its client: what it would have been told is lost, so the session is.
            state.phase = Phase::Over;
            state.clear();
            state.tell(Fault::Aborted);
        }
    }
}

/// A body that is being read.
pub(super) struct Posting {
    poll: Arc<Poll>,
    done: bool,
}

impl Posting {
    /// It was read, and taken or refused.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        let mut state = self.poll.lock();
        state.posting = false;
        if !self.done {
            state.tell(Fault::Aborted);
        }
    }
}

/// Another transport that is being tried.
pub(super) struct Probing(Arc<Poll>);

impl Probing {
    /// The client hears over it. The poll that waits ends, so that the client has none under way when it changes over.
    pub(super) fn works(&self) {
        let mut state = self.0.lock();
        state.dismissed = state.waiting;
        drop(state);
        self.0.news.notify_one();
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.lock().probed = false;
    }
}

/// The shard's end.
pub(super) struct PollPipe(pub(super) Arc<Poll>);

impl Pipe for PollPipe {
    fn bind(&mut self, remote: Remote) {
        self.0.lock().remote = Some(remote);
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), PushError> {
        let mut state = self.0.lock();
        match state.phase {
            Phase::Over | Phase::Upgraded => return Err(PushError::Closed(PipeClosed)),
            Phase::Open if state.bytes >= WAITING_BYTES_MAX => {
                state.refused = true;
                return Err(PushError::Full);
            }
            Phase::Open | Phase::Ending => {}
        }
        state.bytes += chunk.len();
        state.chunks.push(chunk);
        drop(state);
        self.0.news.notify_one();
        Ok(())
    }

    fn take_back(&mut self) -> Vec<u8> {
        let mut state = self.0.lock();
        state.phase = Phase::Upgraded;
        let chunks = state.chunks.concat();
        state.clear();
        drop(state);
        self.0.news.notify_one();
        chunks
    }
}

impl Drop for PollPipe {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        match state.phase {
            Phase::Upgraded => {}
            // Its last words wait for a poll.
            Phase::Ending if !state.chunks.is_empty() => {}
            _ => {
                state.phase = Phase::Over;
                state.clear();
            }
        }
        drop(state);
        self.0.news.notify_one();
    }
}

/// The sessions of this node that began with long-polling, by their ids.
#[derive(Default)]
pub(super) struct Polls(Mutex<HashMap<Box<str>, Arc<Poll>>>);

impl Polls {
    /// Adds one; it is in the list until the guard is dropped, and a little longer if it still has something to say.
    pub(super) fn add(self: &Arc<Self>, sid: &str, poll: &Arc<Poll>) -> Listed {
        self.lock().insert(sid.into(), Arc::clone(poll));
        Listed {
            polls: Arc::clone(self),
            poll: Arc::clone(poll),
            sid: sid.into(),
        }
    }

    /// The one with this id.
    pub(super) fn get(&self, sid: &str) -> Option<Arc<Poll>> {
        self.lock().get(sid).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Poll>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in the list.
pub(super) struct Listed {
    polls: Arc<Polls>,
    poll: Arc<Poll>,
    sid: Box<str>,
}

impl Listed {
    /// What it is in the list for.
    pub(super) fn poll(&self) -> &Arc<Poll> {
        &self.poll
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let (polls, sid) = (Arc::clone(&self.polls), std::mem::take(&mut self.sid));
        let ending = self.poll.lock().phase == Phase::Ending;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if ending => {
                runtime.spawn(async move {
                    sleep(FAREWELL).await;
                    polls.lock().remove(&sid);
                });
            }
            _ => {
                polls.lock().remove(&sid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (Arc<Poll>, PollPipe) {
        let poll = Poll::new(Instant::now() + Duration::from_secs(3600));
        let pipe = PollPipe(Arc::clone(&poll));
        (poll, pipe)
    }

    fn frame(text: &str) -> Bytes {
        let mut frame = Vec::new();
        engineio::put_message(&mut frame, |out| out.extend_from_slice(text.as_bytes()));
        frame.into()
    }

    #[tokio::test]
    async fn a_poll_takes_what_has_gathered_and_waits_when_there_is_nothing() {
        let (poll, mut pipe) = open();
        pipe.push(frame("a")).unwrap();
        pipe.push(frame("b")).unwrap();
        assert_eq!(poll.poll().await.unwrap(), b"4a\x1e4b");
        let waiting = tokio::spawn({
            let poll = Arc::clone(&poll);
            async move { poll.poll().await }
        });
        while !poll.lock().waiting {
            tokio::task::yield_now().await;
        }
        assert_eq!(poll.poll().await, Err(Refused::Unfit), "a second poll");
        pipe.push(frame("c")).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), b"4c");
    }

    #[tokio::test]
    async fn a_full_pipe_refuses_and_last_words_are_given_once() {
        let (poll, mut pipe) = open();
        pipe.push(frame(&"x".repeat(WAITING_BYTES_MAX))).unwrap();
        assert_eq!(pipe.push(frame("y")), Err(PushError::Full));
        assert!(poll.poll().await.is_ok());
        poll.ending();
        pipe.push(frame("bye")).unwrap();
        drop(pipe);
        assert_eq!(poll.poll().await.unwrap(), b"4bye");
        assert_eq!(poll.poll().await, Err(Refused::Over));
    }

    #[tokio::test]
    async fn last_words_that_had_no_room_are_given_too() {
        let (poll, mut pipe) = open();
        pipe.push(frame(&"x".repeat(WAITING_BYTES_MAX))).unwrap();
        assert_eq!(pipe.push(frame("bye")), Err(PushError::Full));
        poll.ending();
        assert!(poll.poll().await.is_ok());
        pipe.push(frame("bye")).unwrap();
        drop(pipe);
        assert_eq!(poll.poll().await.unwrap(), b"4bye");
        assert_eq!(poll.poll().await, Err(Refused::Over));
    }

    #[tokio::test]
    async fn a_poll_that_is_given_up_after_the_upgrade_ends_nothing() {
        let (poll, mut pipe) = open();
        let mut waiting = Box::pin(poll.poll());
        let waits = timeout(Duration::from_millis(1), &mut waiting).await;
        assert!(waits.is_err());
        pipe.take_back();
        drop(waiting);
        assert!(poll.lock().phase == Phase::Upgraded);
    }

    #[tokio::test]
    async fn what_nobody_has_taken_goes_along_to_a_websocket() {
        let (poll, mut pipe) = open();
        pipe.push(frame("a")).unwrap();
        pipe.push(frame("b")).unwrap();
        assert_eq!(pipe.take_back(), [frame("a"), frame("b")].concat());
        assert_eq!(poll.poll().await, Err(Refused::Unfit));
        assert!(poll.begin_post().is_err());
        drop(pipe);
        assert_eq!(poll.poll().await, Err(Refused::Unfit));
    }

    #[tokio::test]
    async fn a_poll_that_is_given_up_ends_the_session() {
        let (poll, _pipe) = open();
        let given_up = timeout(Duration::from_millis(1), poll.poll()).await;
        assert!(given_up.is_err());
        assert_eq!(poll.poll().await, Err(Refused::Over));
    }

    #[tokio::test]
    async fn a_session_whose_client_is_silent_is_over() {
        let (poll, mut pipe) = open();
        pipe.push(frame("a")).unwrap();
        poll.put_off(Instant::now());
        assert_eq!(poll.poll().await, Err(Refused::Over));
    }
}
