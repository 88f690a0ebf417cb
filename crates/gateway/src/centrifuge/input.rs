//! What a client says: in the frames of a WebSocket, before its connection began, or in requests beside its stream.

use std::borrow::Cow;

use fanfare_engine::hub::Context;
use fanfare_wire::{
    centrifuge::{Codec, Command, Disconnect, disconnects, next_command, protobuf},
    ws::{self, Incoming},
};

use super::{
    client::Failure,
    session::{ClientSession, close},
};
use crate::ENVELOPE_BYTES_MAX;

/// A frame of the other kind than the one that was agreed on.
const TEXT_IS_SERVED: Disconnect = Disconnect {
    code: ws::close_code::UNSUPPORTED,
    reason: "text frames are served",
};
const BINARY_IS_SERVED: Disconnect = Disconnect {
    code: ws::close_code::UNSUPPORTED,
    reason: "binary frames are served",
};

impl ClientSession {
    /// Takes the frames of a WebSocket; returns how many of the bytes were consumed.
    pub(super) fn on_frames(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        let bytes_max = self.gateway.config.message_bytes_max + ENVELOPE_BYTES_MAX;
        let mut consumed = 0;
        // Taken out, so that a message that it holds does not borrow the session.
        let mut decoder = std::mem::take(&mut self.decoder);
        loop {
            if cx.is_full() || self.is_waiting() {
                cx.pause();
                break;
            }
            let outcome = match decoder.next(&mut bytes[consumed..], bytes_max) {
                Ok(None) => break,
                Ok(Some((incoming, taken))) => {
                    consumed += taken;
                    match incoming {
                        Incoming::Text(_) | Incoming::Binary(_) => self
                            .on_message(&incoming, cx)
                            .map_err(|it| (it.code, it.reason)),
                        Incoming::Ping(payload) => {
                            ws::pong_frame(payload, cx.out);
                            Ok(())
                        }
                        Incoming::Close(code) => {
                            self.hang_up();
                            Err((code.unwrap_or(1000), ""))
                        }
                        Incoming::Pong => {
                            self.on_pong_frame(cx);
                            Ok(())
                        }
                        Incoming::Fragment => Ok(()),
                    }
                }
                Err(error) => Err((error.close_code(), "")),
            };
            if let Err((code, reason)) = outcome {
                close(self.dialect, cx, code, reason);
                return bytes.len();
            }
        }
        self.decoder = decoder;
        consumed
    }

    /// Takes commands that came in no frame.
    pub(super) fn on_body(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<(), Disconnect> {
        let incoming = match self.dialect.codec {
            Codec::Json => {
                let text = std::str::from_utf8(body).map_err(|_| disconnects::BAD_REQUEST)?;
                Incoming::Text(Cow::Borrowed(text))
            }
            Codec::Protobuf => Incoming::Binary(Cow::Borrowed(body)),
        };
        self.on_message(&incoming, cx)
    }

    /// Takes the commands of one message, in the encoding that was agreed on; or what a client that only listens wants to hear.
    fn on_message(
        &mut self,
        incoming: &Incoming<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        match (self.dialect.codec, incoming) {
            (Codec::Json, Incoming::Text(text)) if self.dialect.one_way => self.on_listen(text, cx),
            (Codec::Json, Incoming::Text(text)) => self.on_text(text, cx),
            (Codec::Protobuf, Incoming::Binary(frame)) => self.on_binary(frame, cx),
            (Codec::Json, _) => Err(TEXT_IS_SERVED),
            (Codec::Protobuf, _) => Err(BINARY_IS_SERVED),
        }
    }

    /// Takes commands in JSON, until one has to wait for its answer.
    pub(super) fn on_text(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        let mut rest = text;
        while let Some(line) = next_command(&mut rest) {
            self.on_line(Command::parse(line).ok(), cx)?;
            if self.keeps(rest.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    /// The same in Protobuf.
    pub(super) fn on_binary(
        &mut self,
        frame: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let mut commands = protobuf::Commands::of(frame);
        while let Some(command) = commands.next() {
            self.on_line(command.ok(), cx)?;
            if self.keeps(commands.rest()) {
                break;
            }
        }
        Ok(())
    }

    /// If a command has to wait, what stands behind it does too.
    fn keeps(&mut self, rest: &[u8]) -> bool {
        if let Some(proxied) = self.proxied.as_mut().filter(|it| it.is_waiting()) {
            proxied.keep(rest);
            return true;
        }
        if let Some(beginning) = &mut self.beginning {
            beginning.keep(rest);
            return true;
        }
        false
    }

    /// `None` stands for what is no command.
    fn on_line(
        &mut self,
        command: Option<Command<'_>>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let Command { id, method } = command.ok_or(disconnects::BAD_REQUEST)?;
        match self.on_command(id, method, cx) {
            Ok(()) => Ok(()),
            Err(Failure::Error(error)) => {
                self.reply(id, &error.into(), cx);
                Ok(())
            }
            Err(Failure::Disconnect(disconnect)) => Err(disconnect),
        }
    }
}
