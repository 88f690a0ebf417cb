//! The chat's page in headless Chromium: two users on one node, which is killed and started again while they write.
//!
//! The script is `tests/browser/chat-page.mjs`.

use fanfare_tests::servers;

use crate::browser::converse;

#[test]
fn two_users_talk_and_nothing_is_missed_when_the_server_is_killed() {
    let mut node = servers::start(servers::dev());
    let arguments = ["--url", &node.url()].map(str::to_owned);
    converse("chat-page.mjs", &arguments, &mut node);
}
