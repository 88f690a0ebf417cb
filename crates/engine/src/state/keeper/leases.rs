//! Leases of a kept state.

use tokio::time::Instant;

use super::Keeper;
use crate::{
    memory::state::Store,
    port::state::{Entered, Held, Lease, StateError},
};

impl Keeper {
    pub(super) async fn enter(&self, leases: &[Lease]) -> Result<Vec<Entered>, StateError> {
        if let Some(entered) = self.enter_here(leases) {
            return Ok(entered);
        }
        let _gate = self.gate.read().await;
        // It may have gone away while this one waited.
        if let Some(entered) = self.enter_here(leases) {
            return Ok(entered);
        }
        let before = Instant::now();
        let mut unsure = Unsure {
            keeper: self,
            entering: leases,
            leaving: &[],
        };
        {
            let known = &mut self.lock().known;
            leases.iter().for_each(|lease| known.not_gone(&lease.held));
        }
        match self.ask(self.shared.enter(leases)).await {
            Ok(entered) => {
                unsure.entering = &[];
                let mut inner = self.lock();
                for (lease, entered) in leases.iter().zip(&entered) {
                    if *entered == Entered::Full {
                        continue;
                    }
                    inner.known.entered(lease, true, true, before);
                    if inner.degraded {
                        self.local.step(|store, id, now| {
                            store.silently(|store| store.enter(id, lease, now))
                        });
                    }
                }
                Ok(entered)
            }
            Err(StateError::Unavailable(why)) => {
                let entered = self.enter_here(leases);
                entered.ok_or(StateError::Unavailable(why))
            }
            Err(refused) => {
                unsure.entering = &[];
                Err(refused)
            }
        }
    }

    fn enter_here(&self, leases: &[Lease]) -> Option<Vec<Entered>> {
        self.here(|known, local, now| {
            let enter = |lease| {
                let entered = local.step(|store, id, now| store.enter(id, lease, now));
                if entered != Entered::Full {
                    let told = known.lease(&lease.held, now);
                    let told =
                        told.is_some_and(|known| known.told && known.lease.member == lease.member);
                    known.entered(lease, told, false, now);
                }
                entered
            };
            leases.iter().map(enter).collect()
        })
    }

    pub(super) async fn renew(&self, leases: &[Held]) -> Result<Vec<bool>, StateError> {
        if let Some(renewed) = self.renew_here(leases) {
            return Ok(renewed);
        }
        let before = Instant::now();
        let answer = {
            let _gate = self.gate.read().await;
            self.ask(self.shared.renew(leases)).await
        };
        let mut renewed = match answer {
            Err(StateError::Unavailable(why)) => {
                let renewed = self.renew_here(leases);
                return renewed.ok_or(StateError::Unavailable(why));
            }
            answer => answer?,
        };
        let mut lost = Vec::new();
        {
            let known = &mut self.lock().known;
            for (index, (held, renewed)) in leases.iter().zip(&renewed).enumerate() {
                if *renewed {
                    known.renewed(held, before);
                } else if let Some(known) = known.lease(held, before) {
                    lost.push((index, known.lease.clone()));
                } else {
                    known.left(held);
                }
            }
        }
        // What this node knows to be held was lost: it is taken again, if there is room.
        let (indexes, lost): (Vec<_>, Vec<_>) = lost.into_iter().unzip();
        if !lost.is_empty() {
            let entered = self.enter(&lost).await?;
            for ((index, lease), entered) in indexes.into_iter().zip(&lost).zip(entered) {
                match entered {
                    Entered::Held { .. } => renewed[index] = true,
                    Entered::Full => self.lock().known.left(&lease.held),
                }
            }
        }
        Ok(renewed)
    }

    fn renew_here(&self, leases: &[Held]) -> Option<Vec<bool>> {
        self.here(|known, local, now| {
            let renew = |held| {
                let renewed = local.step(|store, _, now| store.renew(held, now));
                if renewed {
                    known.renewed(held, now);
                }
                renewed
            };
            leases.iter().map(renew).collect()
        })
    }

    pub(super) async fn leave(&self, leases: &[Held]) -> Result<Vec<bool>, StateError> {
        if let Some(left) = self.leave_here(leases) {
            return Ok(left);
        }
        let mut unsure = Unsure {
            keeper: self,
            entering: &[],
            leaving: leases,
        };
        let _gate = self.gate.read().await;
        if let Some(left) = self.leave_here(leases) {
            return Ok(left);
        }
        match self.ask(self.shared.leave(leases)).await {
            Ok(left) => {
                unsure.leaving = &[];
                let mut inner = self.lock();
                for held in leases {
                    inner.known.left(held);
                    if inner.degraded {
                        let end = |store: &mut Store| store.end(held);
                        self.local.step(|store, _, _| store.silently(end));
                    }
                }
                Ok(left)
            }
            Err(StateError::Unavailable(why)) => {
                let left = self.leave_here(leases);
                left.ok_or(StateError::Unavailable(why))
            }
            Err(refused) => Err(refused),
        }
    }

    fn leave_here(&self, leases: &[Held]) -> Option<Vec<bool>> {
        self.here(|known, local, _| {
            let leave = |held| {
                known.left_untold(held);
                local.step(|store, _, _| store.end(held))
            };
            leases.iter().map(leave).collect()
        })
    }
}

/// Leases of which a call may have been carried out or not: the shared state will be told what is right, also if nobody
/// waits for the call any more.
struct Unsure<'a> {
    keeper: &'a Keeper,
    entering: &'a [Lease],
    leaving: &'a [Held],
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if self.entering.is_empty() && self.leaving.is_empty() {
            return;
        }
        let known = &mut self.keeper.lock().known;
        for lease in self.entering {
            known.entered_perhaps(&lease.held);
        }
        for held in self.leaving {
            known.left_untold(held);
        }
    }
}
