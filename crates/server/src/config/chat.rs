//! What the file says of the chat.

use serde::Deserialize;

use super::ConfigError;

/// The options as they stand in the file's `[chat]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileChat {
    enabled: Option<bool>,
    public_url: Option<String>,
}

/// The options of the chat, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct ChatSettings {
    /// It is served.
    pub(crate) enabled: bool,
    /// The origin of its page.
    pub(crate) public_url: Option<String>,
}

/// Checks and completes what the file says. What it does not say is off, or on with `dev`.
pub(super) fn resolve(file: FileChat, dev: bool) -> Result<ChatSettings, ConfigError> {
    let enabled = file.enabled.unwrap_or(dev);
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
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_unless_wanted_and_has_an_origin() {
        assert!(!resolve(FileChat::default(), false).unwrap().enabled);
        assert!(resolve(FileChat::default(), true).unwrap().enabled);
        let with = |url: Option<&str>| FileChat {
            enabled: Some(true),
            public_url: url.map(str::to_owned),
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
}
