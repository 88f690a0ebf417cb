//! What the file says of the chat.

use fanfare_chat::{OidcConfig, OidcSettings, SignUp};
use serde::Deserialize;

use super::{ConfigError, secret::Secret};

/// The options as they stand in the file's `[chat]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileChat {
    enabled: Option<bool>,
    public_url: Option<String>,
    sign_up: Option<FileSignUp>,
    create_workspaces: Option<bool>,
    oidc: Option<FileOidc>,
}

/// The options as they stand in `[chat.oidc]`; none has a default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOidc {
    issuer: String,
    client_id: String,
    client_secret: Secret,
    name: String,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileSignUp {
    Closed,
    Invite,
    Open,
}

impl FileChat {
    /// Whether the chat is served.
    pub(super) fn is_on(&self, dev: bool) -> bool {
        self.enabled.unwrap_or(dev)
    }
}

/// The options of the chat, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct ChatSettings {
    /// It is served.
    pub(crate) enabled: bool,
    /// The origin of its page.
    pub(crate) public_url: Option<String>,
    /// Who may make an account.
    pub(crate) sign_up: SignUp,
    /// Whoever may make an account may make a workspace.
    pub(crate) create_workspaces: bool,
    /// Another system by which people sign in.
    pub(crate) oidc: Option<OidcConfig>,
}

/// Checks and completes what the file says. What it does not say is off, or on and open with `dev`.
pub(super) fn resolve(file: FileChat, dev: bool) -> Result<ChatSettings, ConfigError> {
    let enabled = file.is_on(dev);
    let sign_up = match file.sign_up {
        Some(FileSignUp::Closed) => SignUp::Closed,
        Some(FileSignUp::Open) => SignUp::Open,
        None if dev => SignUp::Open,
        Some(FileSignUp::Invite) | None => SignUp::Invite,
    };
    let create_workspaces = file.create_workspaces.unwrap_or(dev);
    let public_url = file
        .public_url
        .map(|url| url.trim_end_matches('/').to_owned());
    let is_origin = |url: &str| {
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte))
        })
    };
    let oidc = match file.oidc {
        Some(oidc) => Some(resolve_oidc(oidc, public_url.as_deref())?),
        None => None,
    };
    match &public_url {
        Some(url) if !is_origin(url) => {
            let problem =
                format!("\"{url}\" is not the origin of a page: https://chat.example.com");
            Err(ConfigError::setting("chat, public_url", problem))
        }
        None if enabled && !dev => {
            let problem =
                "is missing: the origin of the chat's page, such as https://chat.example.com";
            Err(ConfigError::setting("chat, public_url", problem))
        }
        _ => Ok(ChatSettings {
            enabled,
            public_url,
            sign_up,
            create_workspaces,
            oidc,
        }),
    }
}

fn resolve_oidc(file: FileOidc, public_url: Option<&str>) -> Result<OidcConfig, ConfigError> {
    let Some(public_url) = public_url else {
        let problem =
            "is missing, and [chat.oidc] needs it: the provider sends browsers back there";
        return Err(ConfigError::setting("chat, public_url", problem));
    };
    let settings = OidcSettings {
        issuer: file.issuer,
        client_id: file.client_id,
        client_secret: file.client_secret.reveal().to_owned(),
        name: file.name,
        public_url: public_url.to_owned(),
    };
    OidcConfig::new(settings).map_err(|error| {
        let setting = format!("chat.oidc, {}", error.setting());
        ConfigError::setting(setting, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_unless_wanted_and_has_an_origin() {
        assert!(!resolve(FileChat::default(), false).unwrap().enabled);
        let settings = resolve(FileChat::default(), false).unwrap();
        assert_eq!(
            (settings.sign_up, settings.create_workspaces),
            (SignUp::Invite, false)
        );
        let settings = resolve(FileChat::default(), true).unwrap();
        assert!(settings.enabled && settings.create_workspaces);
        assert_eq!(settings.sign_up, SignUp::Open);
        let with = |url: Option<&str>| FileChat {
            enabled: Some(true),
            public_url: url.map(str::to_owned),
            ..FileChat::default()
        };
        let settings = resolve(with(Some("https://chat.example.com/")), false).unwrap();
        assert_eq!(
            settings.public_url.as_deref(),
            Some("https://chat.example.com")
        );
        for bad in [
            None,
            Some("chat.example.com"),
            Some("https://"),
            Some("https://a/b"),
            Some("https://a@b"),
        ] {
            let problem = resolve(with(bad), false).unwrap_err().to_string();
            assert!(problem.contains("public_url"), "{problem}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_provider_is_named() {
        let read = |oidc: &str, public_url: bool| {
            let public_url = match public_url {
                true => "public_url = \"https://chat.example.com\"\n",
                false => "",
            };
            let file = toml::from_str(&format!("{public_url}[oidc]\n{oidc}"));
            file.map_err(|error| error.to_string())
                .and_then(|file| resolve(file, true).map_err(|error| error.to_string()))
        };
        let good = "issuer = \"https://a.example.com\"\nclient_id = \"chat\"\nclient_secret = \"hidden-0123456789\"\nname = \"Acme\"\n";
        let settings = read(good, true).unwrap();
        assert!(settings.oidc.is_some());
        assert!(!format!("{settings:?}").contains("hidden"));
        for (old, new, word) in [
            ("https://a", "http://a", "chat.oidc, issuer"),
            ("\"chat\"", "\"\"", "chat.oidc, client_id"),
            ("hidden-0123456789", "hidden", "chat.oidc, client_secret"),
            ("\"Acme\"", "\"\"", "chat.oidc, name"),
            ("name = \"Acme\"\n", "", "name"),
            ("name =", "label =", "label"),
        ] {
            let problem = read(&good.replace(old, new), true).unwrap_err();
            assert!(problem.contains(word), "{problem}");
            assert!(
                !word.contains("secret") || !problem.contains("hidden"),
                "{problem}"
            );
        }
        let problem = read(good, false).unwrap_err();
        assert!(problem.contains("public_url"), "{problem}");
    }
}
