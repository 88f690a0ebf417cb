//! One channel: the frames that have come, and for each socket how far it has taken them.

use std::io;
use std::os::fd::RawFd;

/// Bytes that are kept for sockets that have not taken them; whoever lags by more is dropped.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Bytes that everybody has taken are removed once they are as many.
const TRIM_BYTES: u64 = 1 << 20;

/// What was written, for the ratio of messages to writes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Publications taken.
    pub(super) publications: u64,
    /// Passes over a channel's sockets.
    pub(super) passes: u64,
    /// Writes of frames.
    pub(super) writes: u64,
    /// Bytes written.
    pub(super) written_bytes: u64,
    /// Publications times the sockets that they were for.
    pub(super) deliveries: u64,
    /// Writes that did not take everything.
    pub(super) lagging: u64,
    /// Sockets that lagged too far.
    pub(super) dropped: u64,
}

/// A socket and how far it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Its descriptor, open as long as it is a member.
    pub(super) socket: RawFd,
    /// Its connection.
    pub(super) token: usize,
    /// The next byte that it is to be given.
    position: u64,
}

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Frames; the first byte is number `start` of all that ever came.
    bytes: Vec<u8>,
    start: u64,
    /// The number of the latest publication.
    head: u64,
    /// Publications since the last pass.
    fresh: u64,
    members: Vec<Member>,
}

impl Feed {
    /// The number of the latest publication.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Takes one publication; `write` is told its number and appends its frame. `true` for the first one since the last
    /// pass.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> bool {
        self.head += 1;
        write(&mut self.bytes, self.head);
        self.fresh += 1;
        self.fresh == 1
    }

    /// Whoever joins gets what comes from now on; returns its place.
    pub(super) fn join(&mut self, socket: RawFd, token: usize) -> usize {
        self.members.push(Member {
            socket,
            token,
            position: self.end(),
        });
        self.members.len() - 1
    }

    /// Forgets the member at `place`; the connection that stands there now, if another one does.
    pub(super) fn leave(&mut self, place: usize) -> Option<usize> {
        self.members.swap_remove(place);
        self.members.get(place).map(|member| member.token)
    }

    /// Gives everybody what has come, with one write each. `send` is the write. Returns who must be dropped.
    pub(super) fn pass(
        &mut self,
        counts: &mut Counts,
        mut send: impl FnMut(RawFd, &[u8]) -> io::Result<usize>,
    ) -> Vec<usize> {
        counts.passes += 1;
        counts.deliveries += self.fresh * self.members.len() as u64;
        self.fresh = 0;
        let end = self.end();
        let mut lost = Vec::new();
        let mut least = end;
        for member in &mut self.members {
            if !give(member, &self.bytes, self.start, counts, &mut send) {
                lost.push(member.token);
            } else {
                least = least.min(member.position);
            }
        }
        self.trim(least, end);
        lost
    }

    /// Goes on with the member at `place`, whose socket has room again; `false` when it must be dropped.
    pub(super) fn resume(
        &mut self,
        place: usize,
        counts: &mut Counts,
        mut send: impl FnMut(RawFd, &[u8]) -> io::Result<usize>,
    ) -> bool {
        // What comes with the next pass is left to it.
        if self.fresh > 0 {
            return true;
        }
        match self.members.get_mut(place) {
            Some(member) => give(member, &self.bytes, self.start, counts, &mut send),
            None => true,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn trim(&mut self, least: u64, end: u64) {
        if least == end {
            self.bytes.clear();
            self.start = end;
            return;
        }
        let kept_from = least.max(end.saturating_sub(KEPT_BYTES_MAX));
        if kept_from - self.start >= TRIM_BYTES {
            self.bytes.drain(..(kept_from - self.start) as usize);
            self.start = kept_from;
        }
    }
}

/// One write; `false` when the socket is of no use any more.
fn give(
    member: &mut Member,
    bytes: &[u8],
    start: u64,
    counts: &mut Counts,
    send: &mut impl FnMut(RawFd, &[u8]) -> io::Result<usize>,
) -> bool {
    let Some(taken) = member.position.checked_sub(start) else {
        // It lagged too far.
        counts.dropped += 1;
        return false;
    };
    let rest = &bytes[taken as usize..];
    if rest.is_empty() {
        return true;
    }
    counts.writes += 1;
    match send(member.socket, rest) {
        Ok(written) => {
            counts.lagging += u64::from(written < rest.len());
            counts.written_bytes += written as u64;
            member.position += written as u64;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            counts.lagging += 1;
            true
        }
        Err(_) => {
            counts.dropped += 1;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Sockets that take so many bytes at once.
    #[derive(Default)]
    struct Sockets {
        room: HashMap<RawFd, usize>,
        got: HashMap<RawFd, Vec<u8>>,
    }

    impl Sockets {
        fn send(&mut self, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.get(&socket).copied().unwrap_or(usize::MAX);
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = room.min(bytes.len());
            self.got
                .entry(socket)
                .or_default()
                .extend_from_slice(&bytes[..count]);
            if room != usize::MAX {
                self.room.insert(socket, room - count);
            }
            Ok(count)
        }
    }

    fn push(feed: &mut Feed, text: &[u8]) -> bool {
        feed.push(|out, _| out.extend_from_slice(text))
    }

    #[test]
    fn what_gathers_between_passes_is_one_write_for_each() {
        let (mut feed, mut counts, mut sockets) =
            (Feed::default(), Counts::default(), Sockets::default());
        feed.join(1, 10);
        feed.join(2, 20);
        assert!(push(&mut feed, b"one"));
        assert!(!push(&mut feed, b"two"));
        let lost = feed.pass(&mut counts, |socket, bytes| sockets.send(socket, bytes));
        assert!(lost.is_empty());
        assert_eq!((counts.passes, counts.writes, counts.deliveries), (1, 2, 4));
        assert_eq!(
            (&sockets.got[&1][..], &sockets.got[&2][..]),
            (&b"onetwo"[..], &b"onetwo"[..])
        );
        assert_eq!((feed.head(), feed.bytes.len()), (2, 0));
        feed.join(3, 30);
        push(&mut feed, b"three");
        feed.pass(&mut counts, |socket, bytes| sockets.send(socket, bytes));
        assert_eq!(&sockets.got[&3][..], b"three");
    }

    #[test]
    fn a_full_socket_goes_on_where_it_was() {
        let (mut feed, mut counts, mut sockets) =
            (Feed::default(), Counts::default(), Sockets::default());
        let place = feed.join(1, 10);
        feed.join(2, 20);
        sockets.room.insert(1, 4);
        push(&mut feed, b"abcdef");
        feed.pass(&mut counts, |socket, bytes| sockets.send(socket, bytes));
        push(&mut feed, b"ghi");
        feed.pass(&mut counts, |socket, bytes| sockets.send(socket, bytes));
        assert_eq!(&sockets.got[&1][..], b"abcd");
        assert_eq!(&sockets.got[&2][..], b"abcdefghi");
        sockets.room.remove(&1);
        assert!(feed.resume(place, &mut counts, |socket, bytes| {
            sockets.send(socket, bytes)
        }));
        assert_eq!(&sockets.got[&1][..], b"abcdefghi");
        assert_eq!(counts.lagging, 2);
        let whole: usize = sockets.got.values().map(Vec::len).sum();
        assert_eq!(counts.written_bytes, whole as u64);
    }

    #[test]
    fn whoever_lags_too_far_is_dropped() {
        let (mut feed, mut counts, mut sockets) =
            (Feed::default(), Counts::default(), Sockets::default());
        feed.join(1, 10);
        sockets.room.insert(1, 0);
        let block = vec![b'x'; 8 << 20];
        let mut lost = Vec::new();
        for _ in 0..20 {
            push(&mut feed, &block);
            lost.extend(feed.pass(&mut counts, |socket, bytes| sockets.send(socket, bytes)));
            if !lost.is_empty() {
                break;
            }
        }
        assert_eq!(lost, [10]);
        assert!(feed.bytes.len() as u64 <= KEPT_BYTES_MAX + block.len() as u64);
    }

    #[test]
    fn the_last_one_takes_the_place_of_whoever_leaves() {
        let mut feed = Feed::default();
        feed.join(1, 10);
        feed.join(2, 20);
        feed.join(3, 30);
        assert_eq!(feed.leave(0), Some(30));
        assert_eq!(feed.leave(1), None);
        assert_eq!(feed.members.len(), 1);
    }
}
