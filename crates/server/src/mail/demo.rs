//! The demonstration: Google's stand-in on a free loopback port, and a mailbox that looks lived in. What happens there happens on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_ingress::{https::Url, verify::token::Expected};
use fanfare_mail::{WEBHOOK_PATH, app::Demo};
use fanfare_stand_in::{Google, mailbox::Draft, pubsub::PushConfig};
use serde_json::{Value, json};
use tracing::info;
use uuid::Uuid;

use super::{Gmail, MailStartError, PublicUrl, Secret};

/// Whose mailbox it is.
const ADDRESS: &str = "demo@example.com";
/// Messages that come at once, at most.
const COUNT_MAX: u64 = 50;
/// Of so many random ids the key is made; it is of use to nobody but this process.
const KEY_UUIDS: usize = 2;
/// Minutes between two messages of the mailbox as it is at first, the newest first: these again and again.
const PAUSES: [i64; 7] = [11, 38, 95, 210, 430, 760, 1_340];

/// Labels of the mailbox's owner.
const LABELS: [&str; 3] = ["Travel", "Receipts", "Reading"];

/// One message: from, subject, first words, labels; labels of [`LABELS`] by their name.
type Letter = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// The mailbox at first, the newest first.
const LETTERS: [Letter; 30] = [
    (
        "Maya Lindqvist <maya.lindqvist@example.com>",
        "Re: Kitchen table, Thursday?",
        "Thursday works. I'll bring the drawings and the oak sample, and we can decide on the edge.",
        &["INBOX", "UNREAD", "IMPORTANT", "STARRED"],
    ),
    (
        "Nordbahn <tickets@nordbahn.example>",
        "Your tickets to Tromsø: 14 December, 07:12",
        "Coach 6, seats 41 and 42, quiet zone. Boarding closes two minutes before departure.",
        &["INBOX", "UNREAD", "CATEGORY_UPDATES", "Travel"],
    ),
    (
        "Tomás Rey <tomas@reyyreyes.example>",
        "Draft of chapter three",
        "The storm comes earlier now, and Inés gets the last word. Tell me if you miss the harbour.",
        &["INBOX", "UNREAD", "Reading"],
    ),
    (
        "Build <build@ci.example>",
        "main passed after 4 failures",
        "412 tests, 3 min 8 s. First green run since Tuesday. Changes by aino and pwood.",
        &["INBOX", "CATEGORY_UPDATES"],
    ),
    (
        "Priya Raman <priya.raman@example.org>",
        "Slides for Monday",
        "Short version attached: nine slides, the last one is the question that we want them to ask.",
        &["INBOX", "IMPORTANT"],
    ),
    (
        "Café Morgenrot <hallo@morgenrot.example>",
        "Your table on Saturday is confirmed",
        "Four people, 10:30, by the window. Write back if somebody doesn't eat nuts.",
        &["INBOX", "UNREAD"],
    ),
    (
        "Aino Korhonen <aino@example.net>",
        "The swing is up!",
        "She hasn't come down for an hour. Photos when my hands are warm again.",
        &["INBOX", "STARRED", "CATEGORY_PERSONAL"],
    ),
    (
        "Hafenbank <service@hafenbank.example>",
        "Your statement for October",
        "The statement of your account ending in 2207 is ready in your mailbox at the bank.",
        &["INBOX", "CATEGORY_UPDATES", "Receipts"],
    ),
    (
        "The Long Read <letters@longread.example>",
        "The man who mapped the quiet",
        "For eleven years he drove to places without a name, and pressed record. 24 minutes.",
        &["INBOX", "UNREAD", "CATEGORY_FORUMS", "Reading"],
    ),
    (
        "Peter Wood <pwood@example.com>",
        "Re: Re: flaky test on two cores",
        "Found it: the clock, of course. It reads the time twice and trusts both. Patch is on the branch.",
        &["INBOX"],
    ),
    (
        "Velo Nord <werkstatt@velonord.example>",
        "Your bicycle is ready",
        "New chain and rear brake, wheels trued. 84.50 all in. We are here until 18:30.",
        &["INBOX", "CATEGORY_UPDATES"],
    ),
    (
        "Dr. Sofia Almeida <praxis@almeida.example>",
        "Reminder: check-up on 3 December, 08:40",
        "Please be there five minutes early and bring your card. To move it, answer this mail.",
        &["INBOX", "IMPORTANT"],
    ),
    (
        "Gro <bestilling@gro.example>",
        "Order 11873: bulbs are on their way",
        "40 crocus, 25 narcissus. Plant them before the frost, twice as deep as they are tall.",
        &["INBOX", "CATEGORY_UPDATES", "Receipts"],
    ),
    (
        "Lukas Brandt <lukas.brandt@example.org>",
        "Choir: new time, old room",
        "From next week we begin at 19:15. Basses please learn page 4; you know who you are.",
        &["INBOX", "CATEGORY_FORUMS"],
    ),
    (
        "Stadtbibliothek <info@bibliothek.example>",
        "Two items are due on Friday",
        "\"Deep Rivers\" and \"Bread, again\" can be renewed once more in your account.",
        &["INBOX", "UNREAD", "CATEGORY_UPDATES"],
    ),
    (
        "Naledi Dube <naledi@dube.example>",
        "Invoice 2026-117",
        "As agreed, for the October sprint. Thirty days, and thank you, this one was fun.",
        &["INBOX", "Receipts"],
    ),
    (
        "Weather desk <alerts@weather.example>",
        "Storm warning from 18:00",
        "Gusts of up to 95 km/h on the coast. Ferries may not run in the evening.",
        &["INBOX", "CATEGORY_UPDATES"],
    ),
    (
        "Maya Lindqvist <maya.lindqvist@example.com>",
        "Kitchen table, Thursday?",
        "The oak came in and it is beautiful. Could you come by the workshop this week?",
        &["INBOX", "IMPORTANT"],
    ),
    (
        "Ravi Menon <ravi@example.net>",
        "Photos from the ridge",
        "Two hundred, sorry. The one with the fog is number 88. My knees send their regards.",
        &["INBOX", "STARRED", "Travel"],
    ),
    (
        "Osteria da Bice <ciao@dabice.example>",
        "Truffles are back",
        "From Wednesday, as long as they last. Tables for two are nearly gone.",
        &["INBOX", "CATEGORY_PROMOTIONS"],
    ),
    (
        "Hut reservations <hutte@alpinverein.example>",
        "Your places in the Gamsblick hut",
        "Two places in the small room, 28 to 30 December. Bring a sleeping bag and cash.",
        &["INBOX", "IMPORTANT", "Travel"],
    ),
    (
        "Emil <emil@kita-sonnenhof.example>",
        "Lantern parade on the 11th",
        "We meet at 17:00 at the gate. Each child brings a lantern; we have spare batteries.",
        &["INBOX"],
    ),
    (
        "Security <no-reply@accounts.example>",
        "New sign-in on a Linux computer",
        "If this was you, you need do nothing. If not, change your password now.",
        &["INBOX", "CATEGORY_UPDATES"],
    ),
    (
        "Jun Takahashi <jun.takahashi@example.com>",
        "Re: That synth you sold me",
        "It still smells of your studio. I wrote something on it; listen with headphones.",
        &["INBOX", "CATEGORY_PERSONAL"],
    ),
    (
        "Recycling centre <post@recycling.example>",
        "Collection dates for next year",
        "Paper moves to every second Tuesday. The calendar is attached for your fridge.",
        &["INBOX", "CATEGORY_UPDATES"],
    ),
    (
        "Clara Weiss <clara.weiss@example.org>",
        "Minutes of the tenants' meeting",
        "The bicycle shed won with 11 to 4. The lift remains a topic.",
        &["INBOX"],
    ),
    (
        "Kinoclub <programm@kinoclub.example>",
        "This month: four films with rain",
        "On Sunday with live piano. Members bring a friend for free.",
        &["INBOX", "CATEGORY_PROMOTIONS"],
    ),
    (
        "Deniz Kaya <deniz@example.net>",
        "Your key",
        "Is with Mrs. Ott on the second floor. She will offer you cake. Take the cake.",
        &["INBOX", "STARRED"],
    ),
    (
        "Alumni office <alumni@uni.example>",
        "Ten years already",
        "We are planning an evening in May. Which of these dates would suit you?",
        &["INBOX", "CATEGORY_FORUMS"],
    ),
    (
        "Demo <demo@example.com>",
        "Note to self",
        "Ask Peter about the second clock. Buy narcissus. Answer Tomás.",
        &["INBOX", "SENT"],
    ),
];

/// What comes when somebody wants something to come and does not say what.
const NEW_LETTERS: [Letter; 6] = [
    (
        "Maya Lindqvist <maya.lindqvist@example.com>",
        "The edge: round or straight?",
        "I have both here on the bench. Look at the two pictures and tell me which one is yours.",
        &[],
    ),
    (
        "Parcel <track@parcel.example>",
        "Your parcel arrives today between 14:10 and 15:40",
        "Nobody home? Your neighbour on the second floor has said that she takes it.",
        &[],
    ),
    (
        "Aino Korhonen <aino@example.net>",
        "First snow",
        "Look outside. Then put your boots on. We are on the hill behind the school.",
        &[],
    ),
    (
        "Build <build@ci.example>",
        "main failed: 1 of 413 tests",
        "delivery::late_joiner on two cores, third time this week. Log attached.",
        &[],
    ),
    (
        "Tomás Rey <tomas@reyyreyes.example>",
        "Re: Draft of chapter three",
        "You are right about the harbour. It is back, in two sentences. I like them.",
        &[],
    ),
    (
        "Nordbahn <tickets@nordbahn.example>",
        "Platform change for your train tomorrow",
        "Departure is now from platform 9. Everything else stays as it was.",
        &[],
    ),
];

/// Starts the stand-in and says how it is reached. It lives as long as what is returned.
pub(super) fn start(address: SocketAddr) -> Result<(Gmail, Demo), MailStartError> {
    let public_url = PublicUrl::parse(&format!("http://{address}"))?;
    let google = Google::start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let expected = Expected {
        audience: public_url.join(WEBHOOK_PATH),
        service_account: PushConfig::default().service_account,
    };
    google.set_push(PushConfig {
        endpoint: expected.audience.clone(),
        audience: expected.audience.clone(),
        ..PushConfig::default()
    });
    furnish(&google);
    info!(url = google.url(), "mail shows a mailbox that is made up");
    let url = |path: &str| Url::parse(&format!("{}{path}", google.url()));
    let random: Vec<u8> = (0..KEY_UUIDS)
        .flat_map(|_| Uuid::new_v4().into_bytes())
        .collect();
    let gmail = Gmail {
        public_url,
        client_id: "demo".to_owned(),
        client_secret: Secret::from("demo".to_owned()),
        topic: "projects/stand-in/topics/gmail".to_owned(),
        expected,
        encryption_key: Secret::from(STANDARD.encode(random)),
        encryption_keys_old: Vec::new(),
        auth_url: url("/o/oauth2/v2/auth")?,
        token_url: url("/token")?,
        revoke_url: url("/revoke")?,
        gmail_url: url("")?,
        jwks_url: url("/certs")?,
    };
    let next = AtomicUsize::new(0);
    let demo: Demo = Arc::new(move |what, asked| act(&google, &next, what, asked));
    Ok((gmail, demo))
}

/// Puts the letters into the mailbox.
fn furnish(google: &Google) {
    let now = unix_millis();
    google.mailbox(ADDRESS, |mailbox| {
        // A database that is older than this stand-in knows greater ids than a new mailbox begins with.
        mailbox.begin_at(u64::try_from(now).unwrap_or_default());
        let labels = LABELS.map(|name| (name, mailbox.label(name)));
        let ages = PAUSES.iter().cycle().scan(0, |age, pause| {
            *age += pause * 60_000;
            Some(*age)
        });
        let letters: Vec<_> = LETTERS.iter().zip(ages).collect();
        for (letter, age) in letters.into_iter().rev() {
            let mut draft = draft(letter);
            for label in &mut draft.labels {
                if let Some((_, id)) = labels.iter().find(|(name, _)| name == label) {
                    label.clone_from(id);
                }
            }
            let id = mailbox.add(draft);
            mailbox.set_date(&id, now - age);
        }
    });
}

fn draft((from, subject, snippet, labels): &Letter) -> Draft {
    Draft {
        from: (*from).to_owned(),
        subject: (*subject).to_owned(),
        snippet: (*snippet).to_owned(),
        thread_id: None,
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    }
}

/// Does what somebody wants to see happen. `asked` names the mailbox by `address`.
fn act(
    google: &Google,
    next: &AtomicUsize,
    what: &str,
    asked: &Value,
) -> Option<Result<Value, String>> {
    let relabel = |add: &[&str], remove: &[&str]| {
        let mut asked = asked.clone();
        asked["add"] = json!(add);
        asked["remove"] = json!(remove);
        google.control("modify", &asked)
    };
    Some(match what {
        "message" => {
            let mut asked = asked.clone();
            let count = asked["count"].as_u64().unwrap_or(1).min(COUNT_MAX);
            asked["count"] = json!(count);
            let at = next.fetch_add(1, Relaxed) % NEW_LETTERS.len();
            let draft = draft(&NEW_LETTERS[at]);
            for (field, value) in [
                ("from", draft.from),
                ("subject", draft.subject),
                ("snippet", draft.snippet),
            ] {
                if asked[field].as_str().is_none_or(str::is_empty) {
                    asked[field] = json!(value);
                }
            }
            google.control("message", &asked)
        }
        "modify" | "delete" | "label" | "expire" | "revoke" => google.control(what, asked),
        "read" => relabel(&[], &["UNREAD"]),
        "unread" => relabel(&["UNREAD"], &[]),
        "star" => relabel(&["STARRED"], &[]),
        "unstar" => relabel(&[], &["STARRED"]),
        "archive" => relabel(&[], &["INBOX"]),
        "trash" => relabel(&["TRASH"], &["INBOX"]),
        "untrash" => relabel(&["INBOX"], &["TRASH"]),
        _ => return None,
    })
}

fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
