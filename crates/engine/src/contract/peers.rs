//! What every implementation of [`Peers`] must do.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fanfare_wire::{ChannelName, Draft, Epoch, Json, Seq};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::port::{
    BoxFuture, NodeRecord, Outcome,
    peers::{Line, Link, NotTaken, PeerId, Peers, Taken, Taker},
};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the suite on two nodes that can reach each other, and that are listed in `nodes`. The second one is closed by it.
///
/// # Panics
/// If a promise of the port is broken.
pub async fn run(one: Arc<dyn Peers>, two: Arc<dyn Peers>, nodes: &[NodeRecord]) {
    let (own, taker) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    one.start(own);
    two.start(Arc::clone(&taker) as Arc<dyn Taker>);
    let members = one.meet(nodes);
    assert_eq!(two.meet(nodes).others, [members.own]);
    let [to] = members.others[..] else {
        panic!("the second node is not met: {members:?}");
    };
    let first = open(&*one, to, None).await;
    takes_in_order(&*one, to, first, &taker).await;
    refuses_all_behind_the_first(&*one, to, first, &taker).await;
    let second = open(&*one, to, Some(first)).await;
    let refused = timeout(PATIENCE, one.forward(to, first, vec![draft(0)])).await;
    assert!(refused.unwrap().is_err(), "that link has ended");
    takes_in_order(&*one, to, second, &taker).await;
    two.close();
    let refused = timeout(PATIENCE, one.forward(to, second, vec![draft(0)])).await;
    assert!(refused.unwrap().is_err(), "a closed node takes nothing");
}

/// Waits for a link other than the one `before`; returns its number.
async fn open(peers: &dyn Peers, to: PeerId, before: Option<u64>) -> u64 {
    let opening = async {
        loop {
            match peers.link(to) {
                Link::Open(number) if before != Some(number) => return number,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, opening).await.unwrap()
}

/// What is under way at once arrives in the order of the calls, as it was, and each answer is that of its parcel.
async fn takes_in_order(peers: &dyn Peers, to: PeerId, over: u64, taker: &Counting) {
    taker.begin(u64::MAX);
    let parcels = (0..16).map(|at| (draft(2 * at), draft(2 * at + 1)));
    let answers: Vec<_> = parcels
        .map(|(first, second)| peers.forward(to, over, vec![first, second]))
        .collect();
    for (answer, at) in answers.into_iter().zip(0..) {
        let taken = timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(taken, counted(2 * at, 2));
    }
    let seen = taker.seen();
    assert_eq!(seen.len(), 32);
    for (seen, number) in seen.iter().zip(0..) {
        let sent = draft(number);
        assert_eq!(seen.channel, sent.channel);
        assert_eq!(seen.id, sent.id);
        assert_eq!(seen.data, sent.data);
        assert_eq!((&seen.info, &seen.tags), (&sent.info, &sent.tags));
        assert_eq!(seen.idempotency_key, sent.idempotency_key);
    }
}

/// Once something is refused, nothing behind it is taken: the link ends, and each of them is answered with an error.
async fn refuses_all_behind_the_first(peers: &dyn Peers, to: PeerId, over: u64, taker: &Counting) {
    taker.begin(5);
    let answers: Vec<_> = (0..12)
        .map(|number| peers.forward(to, over, vec![draft(number)]))
        .collect();
    let mut taken = 0;
    for answer in answers {
        taken += usize::from(timeout(PATIENCE, answer).await.unwrap().is_ok());
    }
    assert!(taken <= 5, "{taken} were answered as taken");
    assert_eq!(taker.seen().len(), 5);
}

fn draft(number: u64) -> Draft {
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let channel = ChannelName::parse(&format!("room:{}", number % 3)).unwrap();
    let mut draft = Draft::new(channel, Uuid::from_u128(number.into()), json("[1]"));
    draft.data = json(&format!(r#"{{"n":{number}}}"#));
    draft.idempotency_key = Some(format!("\0key {number}"));
    draft.info = number.is_multiple_of(2).then(|| json(r#"{"user":"ada"}"#));
    draft.tags = number.is_multiple_of(5).then(|| json(r#"{"event":"é"}"#));
    draft
}

fn counted(first: u64, count: u64) -> Taken {
    let outcome = |number| Outcome {
        seq: Seq(number + 1),
        time: i64::try_from(number).unwrap(),
        duplicate: number % 7 == 3,
    };
    Taken {
        epoch: Epoch::parse("contract").unwrap(),
        outcomes: (first..first + count).map(outcome).collect(),
        crowded: first.is_multiple_of(4),
    }
}

/// Counts what it takes, and refuses what comes after so much.
#[derive(Default)]
struct Counting(Mutex<(u64, Vec<Draft>)>);

impl Counting {
    fn begin(&self, most: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (most, Vec::new());
    }

    fn seen(&self) -> Vec<Draft> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.clone()
    }
}

impl Taker for Counting {
    fn take(
        &self,
        line: &Arc<Line>,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, count) = (state.1.len() as u64, drafts.len() as u64);
        let answer = match line.is_broken() || first + count > state.0 {
            true => {
                line.break_off();
                Err(NotTaken("enough".to_owned()))
            }
            false => {
                state.1.extend(drafts);
                Ok(counted(first, count))
            }
        };
        Box::pin(async { answer })
    }
}
