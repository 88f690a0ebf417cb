//! What the file says of those who sign client tokens, besides this server's own secret.

use std::fmt;

use fanfare_gateway::{
    https::Url,
    jose::{Algorithm, Algorithms, PublicKey},
};
use serde::Deserialize;

use super::{ConfigError, Secret, check};

/// Most issuers.
const ISSUERS_MAX: usize = 32;
/// Most audiences of one.
const AUDIENCES_MAX: usize = 32;
/// Longest `user_prefix`, in bytes.
const USER_PREFIX_BYTES_MAX: usize = 64;

/// One of the file's `[[token_issuers]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileIssuer {
    issuer: Option<String>,
    audience: Option<OneOrMore>,
    algorithms: Option<Vec<String>>,
    secret: Option<Secret>,
    public_key: Option<String>,
    jwks_url: Option<String>,
    user_claim: Option<String>,
    user_prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// One who signs tokens.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    /// What its tokens have in `iss`; absent: any name that is nobody else's.
    pub(crate) issuer: Option<String>,
    /// One of these must be in `aud`, if there are any.
    pub(crate) audiences: Vec<String>,
    /// What it signs with.
    pub(crate) algorithms: Algorithms,
    /// What its signatures are verified with.
    pub(crate) key: IssuerKey,
    /// The claim that names the user, if it is not `sub`.
    pub(crate) user_claim: Option<String>,
    /// What stands before its users' names.
    pub(crate) user_prefix: String,
}

/// What an issuer's signatures are verified with.
#[derive(Debug, Clone)]
pub(crate) enum IssuerKey {
    /// A secret, for one algorithm.
    Secret(Algorithm, Secret),
    /// A public key.
    Public(Box<PublicKey>),
    /// Where it publishes its keys.
    Jwks(Url),
}

/// Checks and completes what the file says.
pub(super) fn resolve(issuers: Vec<FileIssuer>) -> Result<Vec<Issuer>, ConfigError> {
    if issuers.len() > ISSUERS_MAX {
        let problem = format!("there are more than {ISSUERS_MAX}");
        return Err(ConfigError::setting("token_issuers", problem));
    }
    let numbered = issuers.into_iter().enumerate();
    numbered.map(|(at, file)| one(at, file)).collect()
}

fn one(at: usize, file: FileIssuer) -> Result<Issuer, ConfigError> {
    let place = Place {
        number: at + 1,
        issuer: file.issuer.clone(),
    };
    let filled = |setting, text: &Option<String>| match text {
        Some(text) if text.is_empty() => {
            Err(place.wrong(setting, "is empty; write something, or leave it out"))
        }
        _ => Ok(()),
    };
    filled("issuer", &file.issuer)?;
    filled("user_claim", &file.user_claim)?;
    let audiences = match file.audience {
        None => Vec::new(),
        Some(OneOrMore::One(audience)) => vec![audience],
        Some(OneOrMore::More(audiences)) => {
            if !(1..=AUDIENCES_MAX).contains(&audiences.len()) {
                let problem = format!("write 1 to {AUDIENCES_MAX}, or leave it out for any");
                return Err(place.wrong("audience", problem));
            }
            audiences
        }
    };
    if audiences.iter().any(String::is_empty) {
        return Err(place.wrong("audience", "one is empty"));
    }
    let user_prefix = file.user_prefix.unwrap_or_default();
    let is_plain = |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_graphic());
    if user_prefix.len() > USER_PREFIX_BYTES_MAX || !is_plain(&user_prefix) {
        let problem = format!(
            "must be at most {USER_PREFIX_BYTES_MAX} printable ASCII characters without space"
        );
        return Err(place.wrong("user_prefix", problem));
    }
    let said = file.algorithms.map(|names| algorithms(&place, &names));
    let said = said.transpose()?;
    let keys = (file.secret, file.public_key, file.jwks_url);
    let (key, algorithms) = key(&place, keys, said)?;
    if matches!(key, IssuerKey::Jwks(_)) && file.issuer.is_none() {
        let problem = "is missing; jwks_url needs it: it is what the tokens have in `iss`";
        return Err(place.wrong("issuer", problem));
    }
    Ok(Issuer {
        issuer: file.issuer,
        audiences,
        algorithms,
        key,
        user_claim: file.user_claim,
        user_prefix,
    })
}

fn algorithms(place: &Place, names: &[String]) -> Result<Algorithms, ConfigError> {
    let mut algorithms = Vec::with_capacity(names.len());
    for name in names {
        let algorithm = Algorithm::parse(name).ok_or_else(|| {
            let all = Algorithm::ALL.map(Algorithm::name).join(", ");
            let problem = format!("\"{}\" is not one of {all}", name.escape_default());
            place.wrong("algorithms", problem)
        })?;
        algorithms.push(algorithm);
    }
    match algorithms.is_empty() {
        true => Err(place.wrong("algorithms", "is empty; leave it out for all of the key's")),
        false => Ok(Algorithms::of(&algorithms)),
    }
}

type Keys = (Option<Secret>, Option<String>, Option<String>);

fn key(
    place: &Place,
    keys: Keys,
    said: Option<Algorithms>,
) -> Result<(IssuerKey, Algorithms), ConfigError> {
    match keys {
        (Some(secret), None, None) => {
            if secret.reveal().contains("-----BEGIN ") {
                // Whoever knows the public key could sign.
                let problem = "is a key in PEM; a public key goes into public_key";
                return Err(place.wrong("secret", problem));
            }
            let setting = place.setting("secret");
            let secret = check::key(&setting, Some(secret))?;
            let secret = secret.ok_or_else(|| ConfigError::setting(setting, "is empty"))?;
            let said = said.unwrap_or(Algorithms::of(&[Algorithm::Hs256]));
            match (said.iter().next(), said.iter().count()) {
                (Some(algorithm), 1) if algorithm.is_secret() => {
                    Ok((IssuerKey::Secret(algorithm, secret), said))
                }
                _ => Err(place.wrong(
                    "algorithms",
                    "a secret goes with one of HS256, HS384 and HS512",
                )),
            }
        }
        (None, Some(pem), None) => {
            let key = PublicKey::from_pem(&pem)
                .map_err(|error| place.wrong("public_key", error.to_string()))?;
            let own = key.algorithms();
            let said = said.unwrap_or(own);
            if said.and(own) != said {
                let names: Vec<_> = own.iter().map(Algorithm::name).collect();
                let problem = format!("this public key goes with {}", names.join(", "));
                return Err(place.wrong("algorithms", problem));
            }
            Ok((IssuerKey::Public(Box::new(key)), said))
        }
        (None, None, Some(url)) => {
            let url =
                Url::parse(&url).map_err(|error| place.wrong("jwks_url", error.to_string()))?;
            let said = said.unwrap_or(Algorithms::PUBLIC);
            if said.and(Algorithms::PUBLIC) != said {
                let problem = "published keys are public; HS256, HS384 and HS512 go with a secret";
                return Err(place.wrong("algorithms", problem));
            }
            Ok((IssuerKey::Jwks(url), said))
        }
        _ => {
            let problem = "needs one of secret, public_key and jwks_url";
            Err(ConfigError::setting(place.to_string(), problem))
        }
    }
}

/// Where a mistake is, for its message.
struct Place {
    number: usize,
    issuer: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.issuer {
            Some(issuer) => write!(f, "token issuer \"{}\"", issuer.escape_default()),
            None => write!(f, "token_issuers, number {}", self.number),
        }
    }
}

impl Place {
    fn setting(&self, setting: &str) -> String {
        format!("{self}, {setting}")
    }

    fn wrong(&self, setting: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::setting(self.setting(setting), problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    const PEM: &str = "public_key = \"\"\"\n-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEO1d5Gl+Fh4cQPxQ9bj8EooluAkIC\n\
        HFaKfu2fDBQvJUC8i3G8pRsvz61ccXcqn22Ks9OGMVBk/JdrNLQERQ5b1w==\n-----END PUBLIC KEY-----\n\"\"\"\n";
    const SECRET: &str = "secret = \"0123456789abcdef\"\n";
    const JWKS: &str =
        "issuer = \"https://home.example\"\njwks_url = \"https://home.example/keys\"\n";

    fn resolve_text(text: &str) -> Result<Vec<Issuer>, String> {
        let text = format!("[[token_issuers]]\n{text}");
        let file =
            file::parse(std::path::Path::new("f.toml"), &text).map_err(|it| it.to_string())?;
        resolve(file.token_issuers).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_key_is_understood() {
        let of = |text: &str| resolve_text(text).unwrap().remove(0);
        let secret = of(SECRET);
        assert_eq!(secret.algorithms, Algorithms::of(&[Algorithm::Hs256]));
        assert!(!format!("{secret:?}").contains("0123456789abcdef"));
        let other = of(&format!("{SECRET}algorithms = [\"HS512\"]\n"));
        assert!(matches!(other.key, IssuerKey::Secret(Algorithm::Hs512, _)));
        let public = of(&format!("issuer = \"a\"\naudience = \"us\"\n{PEM}"));
        assert_eq!(public.algorithms, Algorithms::of(&[Algorithm::Es256]));
        assert_eq!(public.audiences, ["us"]);
        let jwks = of(&format!(
            "{JWKS}audience = [\"a\", \"b\"]\nuser_claim = \"email\"\nuser_prefix = \"h:\"\n"
        ));
        assert_eq!(jwks.algorithms, Algorithms::PUBLIC);
        assert_eq!((jwks.audiences.len(), jwks.user_prefix.as_str()), (2, "h:"));
    }

    #[test]
    fn mistakes_are_named() {
        let begins = "secret = \"-----BEGIN PUBLIC KEY-----MFkwEwYHKoZIzj0CAQYI\"\n";
        for (text, words) in [
            (
                "issuer = \"a\"\n".to_owned(),
                "token issuer \"a\": needs one of",
            ),
            (format!("{SECRET}{PEM}"), "number 1: needs one of"),
            (format!("issuer = \"\"\n{SECRET}"), "issuer: is empty"),
            ("secret = \"short\"\n".to_owned(), "16 bytes"),
            (begins.to_owned(), "goes into public_key"),
            (
                format!("{SECRET}algorithms = [\"RS256\"]\n"),
                "a secret goes with one of",
            ),
            (
                format!("{SECRET}algorithms = [\"HS256\", \"HS512\"]\n"),
                "a secret goes with one of",
            ),
            (
                format!("{SECRET}algorithms = [\"none\"]\n"),
                "\"none\" is not one of",
            ),
            (format!("{SECRET}algorithms = []\n"), "algorithms: is empty"),
            (
                format!("{PEM}algorithms = [\"HS256\"]\n"),
                "goes with ES256",
            ),
            (
                format!("{PEM}algorithms = [\"ES256\", \"RS256\"]\n"),
                "goes with ES256",
            ),
            (PEM.replace("PUBLIC", "PRIVATE"), "private key"),
            (
                JWKS.replace("issuer =", "user_claim ="),
                "issuer: is missing",
            ),
            (
                format!("{JWKS}algorithms = [\"HS256\"]\n"),
                "published keys are public",
            ),
            (
                JWKS.replace("\"https://home.example/keys", "\"http://home.example/keys"),
                "https://",
            ),
            (format!("{JWKS}audience = []\n"), "audience: write 1 to 32"),
            (format!("{JWKS}audience = [\"\"]\n"), "one is empty"),
            (format!("{JWKS}user_prefix = \"a b\"\n"), "user_prefix"),
            (format!("{JWKS}user_claim = \"\"\n"), "user_claim: is empty"),
            (format!("{JWKS}audiences = \"a\"\n"), "unknown field"),
        ] {
            let error = resolve_text(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let many = format!("{SECRET}[[token_issuers]]\n").repeat(32) + SECRET;
        assert!(resolve_text(&many).unwrap_err().contains("more than 32"));
    }
}
