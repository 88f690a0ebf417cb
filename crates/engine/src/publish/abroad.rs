//! What was handed to the owners of hot channels, and comes back: answered, or to be committed here.
//!
//! Drafts are committed in the order in which they were taken. What goes over one link arrives in its order or not at all (the
//! port promises it): so when something is late, it is committed here as well, and what follows goes on to the owner, which
//! commits it behind that or not at all. When a link ends, or a channel gets another owner, everything comes home in its order,
//! and nothing more is handed on before it is committed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fanfare_wire::ChannelName;
use tokio::{sync::mpsc, time::Instant};

use super::{
    BATCH_BYTES_MAX, BATCH_DRAFTS_MAX,
    owners::{Crowds, Heat, ranked},
    pending::Pending,
};
use crate::{
    metrics::Metrics,
    port::peers::{Link, Members, NotTaken, PeerId, Peers, Taken},
    task,
};

/// How long an owner may take at least beyond what it has taken lately.
pub const PATIENCE: Duration = Duration::from_millis(30);
/// How long it may take in any case: longer than this nobody waits for another node.
pub const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// Parcels under way to one node; what comes meanwhile gathers, and goes together.
pub const PARCELS_MAX: usize = 16;
/// A node that has not answered for so long owns nothing until it has.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// For how long a node that failed owns nothing.
const SHUNNED_FOR: Duration = Duration::from_secs(1);
/// Answers whose times are remembered of each node.
const TIMES: usize = 100;

/// An answer: who gives it, to which parcel, and what it says.
pub(super) type Answer = (PeerId, u64, Result<Taken, NotTaken>);

/// What an answer means.
pub(super) enum News {
    /// The owner has committed these.
    Done(Vec<Pending>, Taken),
    /// These have come home, in the order in which they were taken.
    Home(Vec<Pending>),
    /// It was too late to matter.
    Nothing,
}

/// The channels and drafts that other nodes have to do with.
pub(super) struct Abroad {
    peers: Option<Arc<dyn Peers>>,
    members: Option<Members>,
    pub(super) heat: Heat,
    pub(super) crowds: Crowds,
    ways: BTreeMap<PeerId, Road>,
    parcels: u64,
    keys: u64,
    sender: mpsc::UnboundedSender<Answer>,
    metrics: Arc<Metrics>,
}

/// The way to one node.
#[derive(Default)]
struct Road {
    /// Not sent yet.
    gathered: VecDeque<Pending>,
    /// Not answered yet, the oldest first.
    sent: VecDeque<Sent>,
    /// The link over which everything of them went.
    link: Option<u64>,
    /// Given up, and not answered yet: when they were sent.
    given_up: BTreeMap<u64, GivenUp>,
    /// It has answered nothing for too long. It is trusted again when it has answered everything.
    is_stuck: bool,
    shunned_until: Option<Instant>,
    /// How long the last answers took.
    times: VecDeque<Duration>,
}

struct GivenUp {
    at: Instant,
    over: Option<u64>,
}

struct Sent {
    parcel: u64,
    drafts: Vec<Pending>,
    at: Instant,
    due: Instant,
}

impl Abroad {
    /// Nothing is abroad. Answers come to the receiver; there are never more than parcels under way.
    pub(super) fn new(metrics: Arc<Metrics>) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (sender, answers) = mpsc::unbounded_channel();
        let abroad = Self {
            peers: None,
            members: None,
            heat: Heat::default(),
            crowds: Crowds::default(),
            ways: BTreeMap::new(),
            parcels: 0,
            keys: 0,
            sender,
            metrics,
        };
        (abroad, answers)
    }

    /// From now on there are other nodes.
    pub(super) fn join(&mut self, peers: Arc<dyn Peers>) {
        self.peers = Some(peers);
    }

    /// This node, if it knows itself among others.
    pub(super) fn own(&self) -> Option<PeerId> {
        self.members.as_ref().map(|members| members.own)
    }

    /// Whether drafts have to be looked at one by one, when they come.
    pub(super) fn is_watchful(&self) -> bool {
        self.peers.is_some() && !(self.heat.hot.is_empty() && self.crowds.is_empty())
    }

    /// Whether everything is answered or at home.
    pub(super) fn is_idle(&self) -> bool {
        let idle = |road: &Road| road.gathered.is_empty() && road.sent.is_empty();
        self.ways.values().all(idle)
    }

    /// When the next parcel is late.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = |road: &Road| road.sent.front().map(|sent| sent.due);
        self.ways.values().filter_map(first).min()
    }

    /// Takes a draft if it goes to another node; gives it back if it does not.
    pub(super) fn take(&mut self, pending: Pending, now: Instant) -> Option<Pending> {
        let Some(hot) = self.heat.hot.get_mut(&pending.draft.channel) else {
            return Some(pending);
        };
        let Some(to) = hot.at else {
            return Some(pending);
        };
        if hot.until <= now && hot.under_way == 0 {
            self.heat.hot.remove(&pending.draft.channel);
            return Some(pending);
        }
        hot.under_way += 1;
        self.post(to, pending);
        None
    }

    fn post(&mut self, to: PeerId, mut pending: Pending) {
        if pending.draft.idempotency_key.is_none() {
            // No publisher can choose this one: gateways refuse keys with this character.
            let own = self.own().map_or(0, |own| own.0);
            pending.draft.idempotency_key = Some(format!("\0{own:x}.{}", self.keys));
            pending.sender.key_is_made = true;
            self.keys += 1;
        }
        self.ways.entry(to).or_default().gathered.push_back(pending);
    }

    /// Sends what has gathered, as far as there is room on the way. `guess` is how long a node takes of which nothing is known.
    pub(super) fn dispatch(&mut self, guess: Duration, now: Instant) {
        let Some(peers) = &self.peers else { return };
        for (to, road) in &mut self.ways {
            while !road.gathered.is_empty() && road.sent.len() < PARCELS_MAX {
                let drafts = road.parcel();
                let copies = drafts.iter().map(|it| it.draft.clone()).collect();
                self.parcels += 1;
                let (to, parcel, sender) = (*to, self.parcels, self.sender.clone());
                let answer = peers.forward(to, road.link.unwrap_or_default(), copies);
                task::spawn(async move {
                    // The lane may have ended.
                    let _ = sender.send((to, parcel, answer.await));
                });
                let due = now + road.patience(guess);
                road.sent.push_back(Sent {
                    parcel,
                    drafts,
                    at: now,
                    due,
                });
            }
        }
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, (from, parcel, result): Answer, now: Instant) -> News {
        let Some(road) = self.ways.get_mut(&from) else {
            return News::Nothing;
        };
        if let Some(GivenUp { at, over }) = road.given_up.remove(&parcel) {
            road.is_stuck &= !road.given_up.is_empty();
            if result.is_ok() {
                road.took(now.duration_since(at));
                return News::Nothing;
            }
            if over != road.link {
                return News::Nothing;
            }
            // The link has ended: what went over it later must not be sent over another one before this is committed.
            return News::Home(self.call_home(from, now));
        }
        let Some(place) = road.sent.iter().position(|sent| sent.parcel == parcel) else {
            return News::Nothing;
        };
        let whole = |taken: &Taken| taken.outcomes.len() == road.sent[place].drafts.len();
        let Some(taken) = result.ok().filter(whole) else {
            road.sent[place].parcel = 0;
            return News::Home(self.call_home(from, now));
        };
        let Some(sent) = road.sent.remove(place) else {
            return News::Nothing;
        };
        road.took(now.duration_since(sent.at));
        let mut channels = BTreeSet::new();
        for pending in &sent.drafts {
            if let Some(hot) = self.heat.hot.get_mut(&pending.draft.channel) {
                hot.under_way = hot.under_way.saturating_sub(1);
            }
            channels.insert(&pending.draft.channel);
        }
        if taken.crowded {
            for channel in channels {
                self.heat.is_crowded(channel, now);
            }
        }
        self.metrics.forwarded.add(sent.drafts.len() as u64);
        News::Done(sent.drafts, taken)
    }

    /// Gives up what is late. Drafts that were taken after it go on to the owner: it commits them behind it, or not at all.
    /// Only a node that has answered nothing for long is left.
    pub(super) fn late(&mut self, now: Instant) -> Vec<Pending> {
        let mut home = Vec::new();
        let mut stuck = Vec::new();
        for (to, road) in &mut self.ways {
            while road.sent.front().is_some_and(|sent| sent.due <= now)
                && let Some(sent) = road.sent.pop_front()
            {
                road.give_up(sent.parcel, sent.at);
                for pending in &sent.drafts {
                    if let Some(hot) = self.heat.hot.get_mut(&pending.draft.channel) {
                        hot.under_way = hot.under_way.saturating_sub(1);
                    }
                }
                home.extend(sent.drafts);
            }
            let oldest = road.given_up.values().map(|it| it.at).min();
            if oldest.is_some_and(|at| now.duration_since(at) >= STUCK_AFTER) && !road.is_stuck {
                road.is_stuck = true;
                stuck.push(*to);
            }
        }
        self.mark(&mut home);
        for to in stuck {
            home.append(&mut self.call_home(to, now));
        }
        home
    }

    /// Hears who is alive. What is under way to a node that owns its channel no longer comes home.
    pub(super) fn meet(&mut self, members: Members, now: Instant) -> Vec<Pending> {
        self.members = Some(members);
        let mut moved = BTreeSet::new();
        let owners: Vec<_> = self
            .heat
            .hot
            .iter()
            .filter_map(|(channel, hot)| Some((channel.clone(), hot.at?)))
            .collect();
        for (channel, at) in owners {
            let owner = self.owner(&channel, now);
            if owner.is_none_or(|(owner, _)| owner != at) {
                moved.insert(channel);
            }
        }
        let home = self.call_channels_home(&moved);
        self.heat.cool(now);
        self.crowds.cool(now);
        let members = self.members.as_ref();
        let alive = |to: &PeerId| members.is_some_and(|members| members.others.contains(to));
        let idle = |road: &Road| {
            road.gathered.is_empty() && road.sent.is_empty() && road.given_up.is_empty()
        };
        self.ways.retain(|to, road| alive(to) || !idle(road));
        home
    }

    /// Hands hot channels whose drafts are here to their owners, those in `waiting` first. Nothing of them may be on its way
    /// to the log.
    pub(super) fn settle(&mut self, waiting: &mut VecDeque<Pending>, now: Instant) {
        if self.heat.hot.is_empty() {
            return;
        }
        self.heat.cool(now);
        let here = self.heat.hot.iter().filter(|(_, hot)| hot.at.is_none());
        let here: Vec<_> = here.map(|(channel, _)| channel.clone()).collect();
        for channel in here {
            if waiting.iter().any(|pending| pending.is_back(&channel)) {
                continue;
            }
            let Some((to, link)) = self.owner(&channel, now) else {
                continue;
            };
            self.ways.entry(to).or_default().link = Some(link);
            let (go, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(waiting)
                .into_iter()
                .partition(|pending| pending.is_own(&channel));
            *waiting = stay;
            if let Some(hot) = self.heat.hot.get_mut(&channel) {
                hot.under_way = go.len();
                hot.at = Some(to);
                if hot.last.replace(to).is_some_and(|last| last != to) {
                    self.metrics.owner_moves.add(1);
                }
            }
            for pending in go {
                self.post(to, pending);
            }
        }
    }

    /// Who owns a channel, if it is another node that can be reached. One that failed lately owns nothing, one that is being
    /// called up is waited for.
    fn owner(&self, channel: &ChannelName, now: Instant) -> Option<(PeerId, u64)> {
        let (peers, members) = (self.peers.as_ref()?, self.members.as_ref()?);
        for peer in ranked(channel, members) {
            if peer == members.own {
                return None;
            }
            let road = self.ways.get(&peer);
            if road.is_some_and(|road| road.is_shunned(now)) {
                continue;
            }
            let before = road.and_then(|road| road.link);
            match peers.link(peer) {
                Link::Open(link) if before.is_none_or(|before| before == link) => {
                    return Some((peer, link));
                }
                // What went over the link before is not known to have ended.
                Link::Open(_) | Link::Opening => return None,
                Link::Down => {}
            }
        }
        None
    }

    /// Gives up everything that is under way to a node.
    fn call_home(&mut self, from: PeerId, now: Instant) -> Vec<Pending> {
        let Some(road) = self.ways.get_mut(&from) else {
            return Vec::new();
        };
        road.shunned_until = Some(now + SHUNNED_FOR);
        let mut home = road.give_up_all();
        for hot in self.heat.hot.values_mut() {
            if hot.at == Some(from) {
                (hot.at, hot.under_way) = (None, 0);
            }
        }
        self.mark(&mut home);
        home
    }

    /// Gives up what is under way of some channels. The node answers for nothing else meanwhile: parcels are given up whole.
    fn call_channels_home(&mut self, moved: &BTreeSet<ChannelName>) -> Vec<Pending> {
        let mut home = Vec::new();
        let roads: BTreeSet<PeerId> = moved
            .iter()
            .filter_map(|channel| self.heat.hot.get(channel)?.at)
            .collect();
        for to in roads {
            let Some(road) = self.ways.get_mut(&to) else {
                continue;
            };
            home.append(&mut road.give_up_all());
            for hot in self.heat.hot.values_mut() {
                if hot.at == Some(to) {
                    (hot.at, hot.under_way) = (None, 0);
                }
            }
        }
        // A channel that nothing was under way of comes home as well.
        for channel in moved {
            if let Some(hot) = self.heat.hot.get_mut(channel) {
                (hot.at, hot.under_way) = (None, 0);
            }
        }
        self.mark(&mut home);
        home
    }

    fn mark(&self, home: &mut [Pending]) {
        self.metrics.fallbacks.add(home.len() as u64);
        home.iter_mut().for_each(Pending::comes_back);
    }
}

impl Road {
    /// As much of what has gathered as fits into a batch.
    fn parcel(&mut self) -> Vec<Pending> {
        let mut bytes = 0;
        let mut drafts = Vec::new();
        while drafts.len() < BATCH_DRAFTS_MAX
            && let Some(next) = self.gathered.front()
            && (drafts.is_empty() || bytes + next.draft.weight() <= BATCH_BYTES_MAX)
            && let Some(next) = self.gathered.pop_front()
        {
            bytes += next.draft.weight();
            drafts.push(next);
        }
        drafts
    }

    fn give_up(&mut self, parcel: u64, at: Instant) {
        let over = self.link;
        self.given_up.insert(parcel, GivenUp { at, over });
    }

    /// Gives up everything, and the link with it.
    fn give_up_all(&mut self) -> Vec<Pending> {
        let mut home = Vec::new();
        for sent in std::mem::take(&mut self.sent) {
            // The one that was answered has the number 0.
            if sent.parcel > 0 {
                self.give_up(sent.parcel, sent.at);
            }
            home.extend(sent.drafts);
        }
        home.extend(std::mem::take(&mut self.gathered));
        self.link = None;
        home
    }

    fn is_shunned(&self, now: Instant) -> bool {
        self.is_stuck || self.shunned_until.is_some_and(|until| until > now)
    }

    fn took(&mut self, time: Duration) {
        if self.times.len() == TIMES {
            self.times.pop_front();
        }
        self.times.push_back(time);
    }

    /// How long the next answer may take: as long again as one in a hundred took lately, and no less than [`PATIENCE`] beyond
    /// it. Less would do where owners are dead or well; but an owner that is merely slow becomes slower when everybody
    /// commits beside it, and then more of them are late.
    fn patience(&self, guess: Duration) -> Duration {
        let usual = self.times.iter().max().copied().unwrap_or(guess);
        (usual + usual.max(PATIENCE)).min(PATIENCE_MAX)
    }
}
