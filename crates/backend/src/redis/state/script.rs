//! The scripts, and calls of them.
//!
//! What one call changes, and whom it tells, is one step because it is one script. Scripts are loaded when a session begins
//! and called by their hash; a server that has forgotten them is given the text again.

use redis::{Cmd, cmd};

use super::super::topology::Commands;

/// What stands before every script.
const PRELUDE: &str = include_str!("scripts/prelude.lua");

/// Where the prelude names the command that tells a topic.
const PUBLISH_MARK: &str = "@PUBLISH@";

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Change,
    Assert,
    Take,
    Enter,
    Renew,
    Leave,
    Count,
    Purge,
    Reap,
    Beat,
    Sweep,
    Touch,
}

impl Script {
    /// All, in the order of their declaration.
    pub(super) const ALL: [Self; 12] = [
        Self::Change,
        Self::Assert,
        Self::Take,
        Self::Enter,
        Self::Renew,
        Self::Leave,
        Self::Count,
        Self::Purge,
        Self::Reap,
        Self::Beat,
        Self::Sweep,
        Self::Touch,
    ];

    fn body(self) -> &'static str {
        match self {
            Self::Change => include_str!("scripts/change.lua"),
            Self::Assert => include_str!("scripts/assert.lua"),
            Self::Take => include_str!("scripts/take.lua"),
            Self::Enter => include_str!("scripts/enter.lua"),
            Self::Renew => include_str!("scripts/renew.lua"),
            Self::Leave => include_str!("scripts/leave.lua"),
            Self::Count => include_str!("scripts/count.lua"),
            Self::Purge => include_str!("scripts/purge.lua"),
            Self::Reap => include_str!("scripts/reap.lua"),
            Self::Beat => include_str!("scripts/beat.lua"),
            Self::Sweep => include_str!("scripts/sweep.lua"),
            Self::Touch => include_str!("scripts/touch.lua"),
        }
    }
}

/// The texts of all scripts for one topology.
#[derive(Debug)]
pub(super) struct Texts(Vec<String>);

impl Texts {
    /// Hints and news travel by the same commands.
    pub(super) fn new(commands: Commands) -> Self {
        let publish = match commands {
            Commands::Classic => "PUBLISH",
            Commands::Sharded => "SPUBLISH",
        };
        let prelude = PRELUDE.replace(PUBLISH_MARK, publish);
        let text = |script: Script| [&prelude, script.body()].concat();
        Self(Script::ALL.map(text).into())
    }

    /// All texts, in the order of [`Script::ALL`].
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The whole text of a script.
    pub(super) fn of(&self, script: Script) -> &str {
        self.0.get(script as usize).map_or("", String::as_str)
    }
}

/// The hashes by which one server knows the scripts.
#[derive(Debug, Default)]
pub(super) struct Hashes(pub(super) Vec<String>);

impl Hashes {
    fn of(&self, script: Script) -> &str {
        self.0.get(script as usize).map_or("", String::as_str)
    }
}

/// One call of a script: keys first, then arguments.
#[derive(Debug)]
pub(super) struct Call {
    script: Script,
    /// Where its keys are.
    pub(super) partition: usize,
    keys: usize,
    /// All words one after the other.
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
}

impl Call {
    pub(super) fn new(script: Script, partition: usize) -> Self {
        Self {
            script,
            partition,
            keys: 0,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a key; all keys come before the first argument.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.keys += 1;
        self.push(key.as_bytes());
        self
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument.as_ref());
        self
    }

    /// Adds a whole number.
    pub(super) fn number(mut self, number: impl Into<i128>) -> Self {
        self.push(number.into().to_string().as_bytes());
        self
    }

    /// As [`arg`](Self::arg).
    pub(super) fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    /// The command for a server that knows the script.
    pub(super) fn by_hash(&self, hashes: &Hashes) -> Cmd {
        self.command("EVALSHA", hashes.of(self.script))
    }

    /// The command for a server that does not.
    pub(super) fn by_text(&self, texts: &Texts) -> Cmd {
        self.command("EVAL", texts.of(self.script))
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys);
        let mut start = 0;
        for &end in &self.ends {
            command.arg(&self.bytes[start..end]);
            start = end;
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_tells_by_the_command_of_its_topology() {
        for (commands, publish) in [
            (Commands::Classic, "'PUBLISH'"),
            (Commands::Sharded, "'SPUBLISH'"),
        ] {
            let texts = Texts::new(commands);
            for script in Script::ALL {
                let text = texts.of(script);
                assert!(text.contains(publish) && !text.contains(PUBLISH_MARK));
                assert!(text.ends_with(script.body()), "{script:?}");
            }
        }
    }

    #[test]
    fn a_call_is_written_word_by_word() {
        let call = Call::new(Script::Beat, 0).key("k").arg("a").number(-1);
        let hashes = Hashes(vec!["h".to_owned(); Script::ALL.len()]);
        assert_eq!(
            call.by_hash(&hashes).get_packed_command(),
            cmd("EVALSHA")
                .arg("h")
                .arg(1)
                .arg("k")
                .arg("a")
                .arg(-1)
                .get_packed_command()
        );
    }
}
