//! What the comparison writes: every trial, what was not made, and whether Fanfare delivered everything.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;
use crate::output::{Circumstances, Folder};
use crate::peers::args::{Peer, PeersArgs};
use crate::peers::page;
use crate::peers::trial::Trial;
use crate::scenario::NotMade;

/// Stem of the files.
const STEM: &str = "peers";

/// Everything that is written.
#[derive(Debug, Serialize)]
pub(super) struct PeersReport {
    /// When and where; of the latest call.
    pub(super) circumstances: Circumstances,
    /// Every option of the latest call.
    pub(super) parameters: Value,
    /// Trials in the order in which they were made.
    pub(super) trials: Vec<Trial>,
    /// What was asked for and not made.
    pub(super) not_made: Vec<NotMade>,
    #[serde(skip)]
    folder: Folder,
}

/// What is taken of an earlier call.
#[derive(Debug, Deserialize)]
struct Earlier {
    trials: Vec<Trial>,
    #[serde(default)]
    not_made: Vec<NotMade>,
}

impl PeersReport {
    /// An empty one, or with what the folder has.
    ///
    /// # Errors
    /// When the folder cannot be made, or what it has cannot be read: better now than after an hour.
    pub(super) fn begin(args: &PeersArgs) -> Result<Self, BenchError> {
        let path = args.load.out.join(format!("{STEM}.json"));
        let earlier = match args.add {
            true => Some(read(path)?),
            false => None,
        };
        let (trials, not_made) = earlier.map_or_else(Default::default, |earlier| {
            (earlier.trials, earlier.not_made)
        });
        Ok(Self {
            circumstances: Circumstances::now(),
            parameters: serde_json::to_value(args).unwrap_or_default(),
            trials,
            not_made,
            folder: Folder::open(&args.load.out)?,
        })
    }

    /// Adds what was made.
    pub(super) fn add(&mut self, trial: Trial) {
        // It may not have been there the last time.
        self.not_made.retain(|missing| missing.what != trial.peer);
        self.trials.push(trial);
    }

    /// Says that something is not made.
    pub(super) fn not_made(&mut self, peer: Peer, why: impl Into<String>) {
        let what = peer.name().to_owned();
        self.not_made.retain(|missing| missing.what != what);
        if self.trials.iter().all(|trial| trial.peer != what) {
            self.not_made.push(NotMade {
                what,
                why: why.into(),
            });
        } else {
            self.not_made.push(NotMade {
                what: format!("{what}, another time"),
                why: why.into(),
            });
        }
    }

    /// Writes all that there is.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn save(&self) -> Result<(), BenchError> {
        let plots = page::plots(&self.trials);
        let plots: Vec<_> = plots
            .iter()
            .map(|(name, plot)| (name.as_str(), plot.clone()))
            .collect();
        self.folder.write(STEM, self, &page::page(self), &plots)
    }

    /// Prints the page, and turns what Fanfare lost, repeated or reordered into an error.
    ///
    /// # Errors
    /// [`BenchError::Violated`] as said.
    pub(super) fn conclude(self) -> Result<(), BenchError> {
        self.save()?;
        // Whoever read the page may have gone; the verdict is told all the same.
        let _ = std::io::stdout().write_all(page::page(&self).as_bytes());
        let ours = self
            .trials
            .iter()
            .filter(|trial| Peer::from_str(&trial.peer, false).is_ok_and(Peer::is_fanfare));
        let reasons: Vec<String> = ours
            .flat_map(|trial| {
                let told = |reason: &String| format!("{}: {reason}", trial.peer);
                trial.reasons.iter().map(told).collect::<Vec<_>>()
            })
            .collect();
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(BenchError::Violated { reasons }),
        }
    }
}

fn read(path: PathBuf) -> Result<Earlier, BenchError> {
    let text = fs::read(&path);
    let read = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.map_err(|source| BenchError::option("--add", format!("{}: {source}", path.display())))
}
