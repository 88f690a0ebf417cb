//! Whose account it is: one that the provider's name for somebody stands at, one whose address the provider vouches for, or a new one.

use fanfare_engine::port::{TransactError, Transaction, tables::Step};
use fanfare_gateway::sessions::Revocation;

use super::identity::Identity;
use crate::{
    Chat,
    account::{Newcomer, Proof},
    failure::Failure,
    id::Id,
    methods::sign_up::Wanted,
    unix_seconds,
};

/// In several workspaces without a word of which, the oldest account that is in use is meant.
const SELECT_BY_SUBJECT: &str = "SELECT u.id, u.team, u.deleted FROM chat_users u JOIN chat_teams t ON t.id = u.team \
    WHERE u.oidc_subject = $1 AND ($2 = '' OR t.id = $2 OR t.domain = $2) ORDER BY u.deleted, u.created, u.id LIMIT 1";
const SELECT_BY_EMAIL: &str = "SELECT u.id, u.team, u.deleted, u.oidc_subject FROM chat_users u JOIN chat_teams t ON t.id = u.team \
    WHERE u.email = $1 AND u.bot IS NULL AND ($2 = '' OR t.id = $2 OR t.domain = $2) ORDER BY u.deleted, u.created, u.id LIMIT 1";

/// Nobody has vouched for the address so far: whoever made the account may not be whose address it is, and keeps no way in.
const LINK: &str = "UPDATE chat_users SET oidc_subject = $2, password = NULL \
    WHERE id = $1 AND email = $3 AND oidc_subject IS NULL AND deleted = 0";
const DELETE_TOKENS: &str = "DELETE FROM chat_tokens WHERE user_id = $1";

impl Chat {
    /// Signs somebody in whom a provider has identified: the token of the session.
    ///
    /// # Errors
    /// `account_inactive`, `email_taken` if another person of the provider's has the account; of who is new what `chat.signUp` refuses.
    pub(super) async fn sign_in_as(
        &self,
        identity: &Identity,
        wanted: &Wanted,
    ) -> Result<String, Failure> {
        let invited = match &wanted.invite {
            Some(invite) => self.team_of_invite(invite).await?,
            None => None,
        };
        let team = invited.as_ref().map(Id::as_str);
        let team = team.or(wanted.team.as_deref()).unwrap_or_default();
        let found = match self.known_as(&identity.subject, team).await? {
            Some(found) => Some(found),
            None => self.linked(identity, team).await?,
        };
        if let Some((team, user)) = found {
            let token = self.begin_session(&team, &user).await?;
            return token.ok_or_else(|| Failure::new("account_inactive"));
        }
        let place = self.place_for(wanted, &identity.real_name).await?;
        let newcomer = Newcomer {
            email: identity.email.as_deref(),
            real_name: &identity.real_name,
            proof: Proof::Oidc(&identity.subject),
        };
        let (_, token) = self.enter(&newcomer, &place).await?;
        Ok(token)
    }

    async fn known_as(&self, subject: &str, team: &str) -> Result<Option<(Id, Id)>, Failure> {
        let params = vec![subject.into(), team.into()];
        let rows = self.engine.query(SELECT_BY_SUBJECT, params).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        if row.int(2) != Some(0) {
            return Err(Failure::new("account_inactive"));
        }
        let unreadable = || Failure::internal("a row of a user cannot be read");
        let id = |column| row.text(column).map(Id::known).ok_or_else(unreadable);
        Ok(Some((id(1)?, id(0)?)))
    }

    /// The account of an address that the provider vouches for. From then on it is the provider's: its password, its tokens and its
    /// sessions end.
    async fn linked(&self, identity: &Identity, team: &str) -> Result<Option<(Id, Id)>, Failure> {
        let Some(email) = identity.email.as_deref() else {
            return Ok(None);
        };
        let params = vec![email.into(), team.into()];
        let rows = self.engine.query(SELECT_BY_EMAIL, params).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        if row.int(2) != Some(0) {
            return Err(Failure::new("account_inactive"));
        }
        let taken = || Failure::new("email_taken");
        if row.text(3).is_some() {
            return Err(taken());
        }
        let unreadable = || Failure::internal("a row of a user cannot be read");
        let id = |column| row.text(column).map(Id::known).ok_or_else(unreadable);
        let (user, team) = (id(0)?, id(1)?);
        // The session that begins now is not meant.
        let revocation = Revocation::User {
            user: user.to_string(),
            until: unix_seconds() - 1,
        };
        let link = vec![
            (&user).into(),
            identity.subject.as_str().into(),
            email.into(),
        ];
        let transaction = Transaction {
            steps: vec![
                Step::some(LINK, link),
                Step::new(DELETE_TOKENS, vec![(&user).into()]),
            ],
            drafts: vec![revocation.draft().map_err(Failure::internal)?],
            ..Transaction::default()
        };
        match self.engine.transact(transaction).await {
            Ok(_) => Ok(Some((team, user))),
            // Somebody else was quicker.
            Err(TransactError::Refused { .. } | TransactError::Exists { .. }) => Err(taken()),
            Err(error) => Err(error.into()),
        }
    }
}
