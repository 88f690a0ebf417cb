//! Subscribes that an app of the server decides.

use fanfare_engine::hub::Context;
use fanfare_wire::{
    ChannelName,
    centrifuge::{Disconnect, ErrorCode, errors},
};

use super::{About, Call, ClientSession, Identity, Proxied, Verdict, Waiting, Wish};
use crate::judge::{Asked, Judges};

impl Proxied {
    pub(super) fn ask_judge(
        &mut self,
        judges: &Judges,
        client: &Identity,
        channel: &ChannelName,
    ) -> Option<(u32, Call)> {
        let (number, done) = self.call()?;
        let asked = Asked {
            user: client.user().to_owned(),
            channel: channel.clone(),
            claims: client.claims.clone(),
        };
        Some((number, judges.ask(asked, done)?))
    }
}

impl ClientSession {
    /// Asks the channel's judge. The wish waits, and everything that the client says behind it.
    pub(in super::super) fn ask_judge(&mut self, wish: Wish) -> Result<(), ErrorCode> {
        let client = self.client.as_ref().ok_or(errors::UNAUTHORIZED)?;
        let proxied = self.proxied.get_or_insert_default();
        if proxied.remote.is_none() {
            // Most clients on a server without a backend never get here.
            let registered = self.registered.as_ref();
            proxied.remote = registered.and_then(|registered| registered.remote());
        }
        let asked = proxied.ask_judge(&self.gateway.judges, client, &wish.channel);
        let asked = asked.ok_or(errors::INTERNAL)?;
        proxied.wait(asked, About::Subscribe(Box::new(wish)));
        Ok(())
    }

    /// What a client wants to subscribe to was taken back from it while somebody was asked: what was answered may be what held before. A judge
    /// is asked again, and answers by what holds now. The backend would have to be told again what its client said; so the client
    /// is: it comes again by itself.
    pub(super) fn ask_again(
        &mut self,
        waited: Waiting,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let Waiting { about, rest, .. } = waited;
        let wish = match about {
            About::Subscribe(wish) if self.gateway.judges.decide(&wish.channel) => wish,
            about => return self.on_verdict(about, &rest, Verdict::Failed, cx),
        };
        let id = wish.id;
        match self.ask_judge(*wish) {
            Ok(()) => {
                if let Some(proxied) = &mut self.proxied {
                    proxied.keep(&rest);
                }
                Ok(())
            }
            Err(error) => {
                self.reply(id, &error.into(), cx);
                self.resume(&rest, cx)
            }
        }
    }
}
