//! The names of labels: Gmail's ids say nothing of labels that people have made. Asked of Google now and then, never waited for long, and
//! left out where Google does not answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{app::Mail, google::Label, user::User};

/// How long names are used before they are asked for again.
const FRESH: Duration = Duration::from_secs(300);
/// How long nobody asks again after Google has not answered.
const PAUSE: Duration = Duration::from_secs(20);
/// How long a list of mail waits for them.
const PATIENCE: Duration = Duration::from_secs(2);
/// Users whose labels are remembered. For one more, all are forgotten.
const USERS_MAX: usize = 10_000;
/// Labels of one user that are shown. Gmail allows as many.
const LABELS_MAX: usize = 10_000;

/// The labels of users.
#[derive(Default)]
pub(crate) struct Labels(Mutex<HashMap<User, Known>>);

struct Known {
    labels: Option<Arc<Vec<Label>>>,
    until: Instant,
}

impl Labels {
    /// The labels of a user, if they are known or Google says them soon.
    pub(crate) async fn of(&self, mail: &Mail, user: &User) -> Option<Arc<Vec<Label>>> {
        {
            let mut known = self.known();
            match known.get_mut(user) {
                Some(known) if Instant::now() < known.until => return known.labels.clone(),
                // Whoever comes meanwhile takes the old ones.
                Some(known) => known.until = Instant::now() + PAUSE,
                None => {}
            }
        }
        let labels = timeout(PATIENCE, ask(mail, user)).await.unwrap_or_default();
        let mut known = self.known();
        if known.len() >= USERS_MAX {
            known.clear();
        }
        let before = known.remove(user).and_then(|known| known.labels);
        let until = Instant::now() + if labels.is_some() { FRESH } else { PAUSE };
        let labels = labels.or(before);
        let remembered = Known {
            labels: labels.clone(),
            until,
        };
        known.insert(user.clone(), remembered);
        labels
    }

    fn known(&self) -> MutexGuard<'_, HashMap<User, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(mail: &Mail, user: &User) -> Option<Arc<Vec<Label>>> {
    let grant = mail.sync.grant(user).await.ok()??;
    match mail.google.labels(&grant).await {
        Ok(mut labels) => {
            labels.truncate(LABELS_MAX);
            Some(Arc::new(labels))
        }
        Err(error) => {
            debug!(%error, "the names of labels are not known");
            None
        }
    }
}
