//! What is done with connections, wherever they are: subscribe, unsubscribe, disconnect, refresh. Each is a message that every node follows;
//! the answer comes once it is committed.

use fanfare_wire::centrifuge::{ErrorCode, disconnects, errors};
use serde::Deserialize;
use uuid::Uuid;

use super::{Answered, ApiResult, base64::Base64, commit, or_default, parse_channel, understood};
use crate::{
    Gateway,
    commands::{Act, Command, Since, Whose},
    proxy::{DISCONNECT_CODES, REASON_BYTES_MAX},
    token::{Seconds, SubOptions, USER_BYTES_MAX},
    unix_seconds,
};

/// Connections that a disconnect leaves alone.
const WHITELIST_MAX: usize = 1_000;

#[derive(Deserialize)]
struct SubscribeRequest {
    channel: String,
    recover_since: Option<Since>,
    /// `info` and `data` in base64, which count if they are there.
    b64info: Option<Base64>,
    b64data: Option<Base64>,
}

#[derive(Deserialize)]
struct UnsubscribeRequest {
    channel: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DisconnectRequest {
    disconnect: Option<Disconnect>,
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<String>,
}

#[derive(Deserialize)]
struct Disconnect {
    code: u16,
    #[serde(default, deserialize_with = "or_default")]
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefreshRequest {
    #[serde(deserialize_with = "or_default")]
    expired: bool,
    #[serde(deserialize_with = "or_default")]
    expire_at: Seconds,
}

/// `POST /api/subscribe`.
pub(super) async fn subscribe(gateway: &Gateway, body: &[u8]) -> Answered {
    let request: SubscribeRequest = understood(body)?;
    let options: SubOptions = understood(body)?;
    let act = subscription(gateway, request, options);
    Some(give(gateway, understood(body)?, act).await)
}

fn subscription(
    gateway: &Gateway,
    request: SubscribeRequest,
    mut options: SubOptions,
) -> Result<Act, ErrorCode> {
    let channel = parse_channel(gateway, &request.channel)?;
    if gateway.judges.decide(&channel) {
        return Err(errors::PERMISSION_DENIED);
    }
    let in_base64 = [
        (request.b64info, &mut options.info),
        (request.b64data, &mut options.data),
    ];
    for (text, option) in in_base64 {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            *option = Some(text.json()?);
        }
    }
    let data_bytes = options.data.as_ref().map_or(0, |it| it.as_bytes().len());
    if data_bytes > gateway.config.message_bytes_max || !options.fit() {
        return Err(errors::LIMIT_EXCEEDED);
    }
    if options.expire_at.is_some_and(|at| at <= unix_seconds()) {
        return Err(errors::BAD_REQUEST);
    }
    Ok(Act::Subscribe {
        channel: channel.as_str().to_owned(),
        options,
        since: request.recover_since,
    })
}

/// `POST /api/unsubscribe`.
pub(super) async fn unsubscribe(gateway: &Gateway, body: &[u8]) -> Answered {
    let request: UnsubscribeRequest = understood(body)?;
    let act = parse_channel(gateway, &request.channel).map(|channel| Act::Unsubscribe {
        channel: channel.as_str().to_owned(),
    });
    Some(give(gateway, understood(body)?, act).await)
}

/// `POST /api/disconnect`.
pub(super) async fn disconnect(gateway: &Gateway, body: &[u8]) -> Answered {
    let request: DisconnectRequest = understood(body)?;
    let usual = || Disconnect {
        code: disconnects::FORCE_DISCONNECT.code,
        reason: disconnects::FORCE_DISCONNECT.reason.to_owned(),
    };
    let Disconnect { code, reason } = request.disconnect.unwrap_or_else(usual);
    let fits = DISCONNECT_CODES.contains(&code)
        && reason.len() <= REASON_BYTES_MAX
        && request.whitelist.len() <= WHITELIST_MAX
        && request.whitelist.iter().all(|it| is_client(it));
    let act = match fits {
        true => Ok(Act::Disconnect {
            code,
            reason,
            whitelist: request.whitelist,
        }),
        false => Err(errors::BAD_REQUEST),
    };
    Some(give(gateway, understood(body)?, act).await)
}

/// `POST /api/refresh`.
pub(super) async fn refresh(gateway: &Gateway, body: &[u8]) -> Answered {
    let RefreshRequest { expired, expire_at } = understood(body)?;
    let act = Ok(Act::Refresh {
        expired,
        expire_at: (expire_at != 0).then_some(expire_at),
    });
    Some(give(gateway, understood(body)?, act).await)
}

async fn give(gateway: &Gateway, whose: Whose, act: Result<Act, ErrorCode>) -> ApiResult {
    let act = act?;
    check(&whose)?;
    let draft = Command::Clients { whose, act }.draft();
    commit(gateway, draft.map_err(|_| errors::BAD_REQUEST)?).await
}

/// Somebody must be meant. Who has no user name is found by its connection, or by its session.
fn check(whose: &Whose) -> Result<(), ErrorCode> {
    let Whose {
        user,
        client,
        session,
    } = whose;
    let fits = [user, session].iter().all(|it| it.len() <= USER_BYTES_MAX)
        && (client.is_empty() || is_client(client));
    let names = !(user.is_empty() && client.is_empty() && session.is_empty());
    match fits && names {
        true => Ok(()),
        false => Err(errors::BAD_REQUEST),
    }
}

fn is_client(text: &str) -> bool {
    Uuid::parse_str(text).is_ok_and(|client| client.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_must_be_meant() {
        let whose = |user: &str, client: &str, session: &str| Whose {
            user: user.to_owned(),
            client: client.to_owned(),
            session: session.to_owned(),
        };
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for fine in [
            whose("ann", "", ""),
            whose("", id, ""),
            whose("", "", "s"),
            whose("ann", id, "s"),
        ] {
            assert!(check(&fine).is_ok(), "{fine:?}");
        }
        let long = "u".repeat(USER_BYTES_MAX + 1);
        for wrong in [
            whose("", "", ""),
            whose("ann", "one of hers", ""),
            whose("ann", &id.to_uppercase(), ""),
            whose(&long, "", ""),
            whose("", "", &long),
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
