//! Who owns a channel, and which channels are worth handing to their owner. No IO; the time is given.
//!
//! Handing a draft on costs a hop. It pays only where nodes wait for each other's commits, so a channel is *hot* when this
//! node's batches had to wait for those of others in it, twice within three seconds; and it stays hot for as long as its owner says
//! that drafts of several nodes meet there. Every other channel is committed by the node that took the draft.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use fanfare_wire::ChannelName;
use tokio::time::Instant;

use crate::port::{
    Contention,
    peers::{Members, PeerId},
};

/// A batch that waited for less for other commits was not held up: a hop would cost as much.
pub const CONTENDED_MIN: Duration = Duration::from_millis(2);
/// Two such waits within so long make a channel hot: with a slow flush and many nodes each of them takes most of a second.
const CONTENDED_WITHIN: Duration = Duration::from_secs(3);
/// For how long a channel is hot after a wait, or after its owner said that it is crowded.
pub const HOT_FOR: Duration = Duration::from_secs(5);
/// Drafts of two nodes within so long make a crowd.
const CROWD_WITHIN: Duration = Duration::from_millis(100);
/// A crowd is one for so long after they met.
const CROWD_FOR: Duration = Duration::from_secs(1);
/// Channels that a node keeps such things of. Beyond it they are committed where they are taken.
pub const HOT_CHANNELS_MAX: usize = 1_000;

/// The node with the highest rank owns the channel: of those that are alive, every node finds the same one, and when one comes
/// or goes only its share of the channels moves. Highest first.
pub(super) fn ranked(channel: &ChannelName, members: &Members) -> Vec<PeerId> {
    let mut all: Vec<PeerId> = members.others.clone();
    all.push(members.own);
    all.sort_by_key(|peer| std::cmp::Reverse((weight(channel, *peer), *peer)));
    all
}

/// The same on all nodes of all versions, so it is written out here (FNV-1a, then the finish of SplitMix64).
fn weight(channel: &ChannelName, peer: PeerId) -> u64 {
    let bytes = channel.as_str().bytes().chain(peer.0.to_le_bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A channel in which this node's batches waited for others.
#[derive(Debug)]
pub(super) struct Hot {
    /// Until when it is one.
    pub(super) until: Instant,
    /// To whom its drafts go; `None` while this node commits them itself.
    pub(super) at: Option<PeerId>,
    /// To whom they went last.
    pub(super) last: Option<PeerId>,
    /// Drafts that were handed on and not answered.
    pub(super) under_way: usize,
}

/// The hot channels of a node.
#[derive(Debug, Default)]
pub(super) struct Heat {
    pub(super) hot: BTreeMap<ChannelName, Hot>,
    /// When a batch last waited in a channel that is not hot (yet).
    waited: HashMap<ChannelName, Instant>,
}

impl Heat {
    /// A batch has waited.
    pub(super) fn learn(&mut self, contention: &Contention, now: Instant) {
        if contention.waited < CONTENDED_MIN {
            return;
        }
        for channel in &contention.channels {
            if let Some(hot) = self.hot.get_mut(channel) {
                hot.until = now + HOT_FOR;
            } else if let Some(before) = self.waited.insert(channel.clone(), now)
                && now.duration_since(before) < CONTENDED_WITHIN
                && self.hot.len() < HOT_CHANNELS_MAX
            {
                self.waited.remove(channel);
                let hot = Hot {
                    until: now + HOT_FOR,
                    at: None,
                    last: None,
                    under_way: 0,
                };
                self.hot.insert(channel.clone(), hot);
            }
        }
        if self.waited.len() > HOT_CHANNELS_MAX {
            self.waited
                .retain(|_, at| now.duration_since(*at) < CONTENDED_WITHIN);
        }
        if self.waited.len() > HOT_CHANNELS_MAX {
            self.waited.clear();
        }
    }

    /// The owner of a channel still has drafts of several nodes.
    pub(super) fn is_crowded(&mut self, channel: &ChannelName, now: Instant) {
        if let Some(hot) = self.hot.get_mut(channel) {
            hot.until = now + HOT_FOR;
        }
    }

    /// Forgets those that are committed here, and have been quiet.
    pub(super) fn cool(&mut self, now: Instant) {
        self.hot
            .retain(|_, hot| hot.at.is_some() || hot.until > now);
    }
}

/// Who publishes into the channels that others hand to this node.
#[derive(Debug, Default)]
pub(super) struct Crowds(HashMap<ChannelName, Crowd>);

#[derive(Debug)]
struct Crowd {
    from: PeerId,
    at: Instant,
    met_at: Option<Instant>,
}

impl Crowds {
    /// Another node handed a draft on. Returns whether drafts of several nodes have met in the channel a moment ago.
    pub(super) fn hand(&mut self, channel: &ChannelName, from: PeerId, now: Instant) -> bool {
        if self.0.len() >= HOT_CHANNELS_MAX {
            self.cool(now);
        }
        if let Some(crowd) = self.0.get_mut(channel) {
            return crowd.add(from, now);
        }
        if self.0.len() < HOT_CHANNELS_MAX {
            let (at, met_at) = (now, None);
            self.0.insert(channel.clone(), Crowd { from, at, met_at });
        }
        false
    }

    /// This node was given a draft itself.
    pub(super) fn own(&mut self, channel: &ChannelName, own: PeerId, now: Instant) {
        if let Some(crowd) = self.0.get_mut(channel) {
            crowd.add(own, now);
        }
    }

    /// Forgets the channels that nothing was handed on in lately.
    pub(super) fn cool(&mut self, now: Instant) {
        self.0
            .retain(|_, crowd| now.duration_since(crowd.at) < CROWD_FOR);
    }

    /// Whether there is nothing to compare with.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Crowd {
    fn add(&mut self, from: PeerId, now: Instant) -> bool {
        if from != self.from && now.duration_since(self.at) < CROWD_WITHIN {
            self.met_at = Some(now);
        }
        (self.from, self.at) = (from, now);
        self.met_at
            .is_some_and(|at| now.duration_since(at) < CROWD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(number: u32) -> ChannelName {
        ChannelName::parse(&format!("room:{number}")).unwrap()
    }

    fn members(own: u128, all: u128) -> Members {
        let others = (1..=all).filter(|id| *id != own).map(PeerId).collect();
        let own = PeerId(own);
        Members { own, others }
    }

    #[test]
    fn every_node_finds_the_same_owner_and_each_owns_its_share() {
        let mut shares = HashMap::new();
        for number in 0..1_000 {
            let owner = ranked(&channel(number), &members(1, 4))[0];
            assert_eq!(owner, ranked(&channel(number), &members(3, 4))[0]);
            *shares.entry(owner).or_insert(0) += 1;
        }
        let least = shares.values().min();
        assert!(shares.len() == 4 && least > Some(&200), "{shares:?}");
    }

    #[test]
    fn when_a_node_goes_only_its_own_channels_move() {
        for number in 0..1_000 {
            let before = ranked(&channel(number), &members(1, 4));
            let after = ranked(&channel(number), &members(1, 3));
            let left = before.into_iter().filter(|peer| *peer != PeerId(4));
            assert_eq!(left.collect::<Vec<_>>(), after);
        }
    }

    #[test]
    fn two_long_waits_within_three_seconds_make_a_channel_hot() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let waits = |times: &[(u64, u64)]| {
            let mut heat = Heat::default();
            for (at, waited) in times {
                let channels = vec![channel(1)];
                let waited = ms(*waited);
                heat.learn(&Contention { waited, channels }, now + ms(*at));
            }
            heat
        };
        assert!(waits(&[(0, 50), (3_500, 50)]).hot.is_empty());
        assert!(waits(&[(0, 1), (100, 1), (200, 50)]).hot.is_empty());
        let mut heat = waits(&[(0, 2), (900, 3)]);
        assert_eq!(heat.hot.len(), 1);
        heat.cool(now + ms(900) + HOT_FOR - ms(1));
        assert_eq!(heat.hot.len(), 1);
        heat.is_crowded(&channel(1), now + ms(2_000));
        heat.cool(now + ms(900) + HOT_FOR);
        assert_eq!(heat.hot.len(), 1);
        heat.cool(now + ms(2_000) + HOT_FOR);
        assert!(heat.hot.is_empty());
    }

    #[test]
    fn a_crowd_is_drafts_of_several_nodes_at_nearly_the_same_time() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let (a, b, name) = (PeerId(1), PeerId(2), channel(1));
        let mut crowds = Crowds::default();
        assert!(!crowds.hand(&name, a, at(0)));
        assert!(!crowds.hand(&name, a, at(10)), "alone");
        assert!(!crowds.hand(&name, b, at(500)), "long after");
        crowds.own(&name, PeerId(9), at(550));
        assert!(crowds.hand(&name, b, at(900)), "it met this node's own");
        assert!(!crowds.hand(&name, b, at(2_000)), "that was long ago");
    }
}
