//! Passwords that apps keep: argon2id, a few at a time and not on the threads that serve.

use std::{fmt, sync::Arc};

use argon2::Argon2;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::{sync::Semaphore, task};

/// Longest password, in characters; whoever takes one checks it.
pub const PASSWORD_CHARS_MAX: usize = 128;

/// Passwords that are hashed at the same time on a node: each takes 19 MiB and some tens of milliseconds.
const CONCURRENT_MAX: usize = 2;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// What a hash says it is: argon2id with the library's default cost (19 MiB, 2 passes, 1 lane).
const KIND: &str = "argon2id";

/// What no password fits: looked at for whoever is not known, it takes as long as the hash of one who is.
pub const NOBODY: &str =
    "argon2id$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password was not hashed or compared: a mistake, or a machine without memory or random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// What was kept was not made by [`Passwords::hash`].
    #[error("what is kept of a password cannot be read")]
    Kept,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
    /// It could not be computed.
    #[error("the hash of a password cannot be computed")]
    Compute,
}

/// Hashes passwords and checks them. Cheap to clone; clones wait for each other.
#[derive(Debug, Clone)]
pub struct Passwords {
    places: Arc<Semaphore>,
}

/// A password, never shown.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With places of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CONCURRENT_MAX)),
        }
    }

    /// What is kept of a password.
    ///
    /// # Errors
    /// [`PasswordError`]. Must be called within a tokio runtime.
    pub async fn hash(&self, password: Password) -> Result<String, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| PasswordError::Random)?;
        let hash = self.compute(password, salt).await?;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        Ok(format!("{KIND}${salt}${hash}"))
    }

    /// Whether this is the password of which `kept` was kept.
    ///
    /// # Errors
    /// [`PasswordError`]. Must be called within a tokio runtime.
    pub async fn verify(&self, password: Password, kept: &str) -> Result<bool, PasswordError> {
        let corrupt = || PasswordError::Kept;
        let parts: Vec<&str> = kept.split('$').collect();
        let [KIND, salt, hash] = parts[..] else {
            return Err(corrupt());
        };
        let decode = |text| STANDARD_NO_PAD.decode(text).map_err(|_| corrupt());
        let salt = decode(salt)?.try_into().map_err(|_| corrupt())?;
        let computed = self.compute(password, salt).await?;
        Ok(bool::from(computed[..].ct_eq(&decode(hash)?[..])))
    }

    async fn compute(
        &self,
        Password(password): Password,
        salt: [u8; SALT_BYTES],
    ) -> Result<[u8; HASH_BYTES], PasswordError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let computing = task::spawn_blocking(move || {
            let mut hash = [0; HASH_BYTES];
            let done = Argon2::default().hash_password_into(password.as_bytes(), &salt, &mut hash);
            drop(place);
            done.map(|()| hash)
        });
        let computed = computing.await.map_err(|_| PasswordError::Compute)?;
        computed.map_err(|_| PasswordError::Compute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_fits_its_hash() {
        let passwords = Passwords::new();
        let password = |text: &str| Password(text.to_owned());
        let kept = passwords.hash(password("open sesame")).await.unwrap();
        assert!(!kept.contains("sesame"));
        assert!(
            passwords
                .verify(password("open sesame"), &kept)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(password("open sesam"), &kept)
                .await
                .unwrap()
        );
        assert!(!passwords.verify(password(""), &kept).await.unwrap());
        assert_ne!(kept, passwords.hash(password("open sesame")).await.unwrap());
        assert!(!passwords.verify(password(""), NOBODY).await.unwrap());
        assert!(passwords.verify(password("x"), "md5$a$b").await.is_err());
        assert_eq!(format!("{:?}", password("sesame")), "Password");
    }
}
