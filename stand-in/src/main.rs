//! Google's stand-in as a program: `google-stand-in [127.0.0.1:PORT]`. Prints one line when it is ready; `POST /control/…` tells it
//! what to do.

use std::{net::SocketAddr, process::ExitCode, thread};

use fanfare_stand_in::Google;

/// Where it listens if nothing is said.
const LISTEN: &str = "127.0.0.1:8085";

fn main() -> ExitCode {
    let listen = std::env::args().nth(1).unwrap_or_else(|| LISTEN.to_owned());
    let Ok(listen) = listen.parse::<SocketAddr>() else {
        eprintln!("{listen} is not an address with a port; write {LISTEN}");
        return ExitCode::FAILURE;
    };
    match Google::start(listen) {
        Ok(google) => {
            println!("listening on {}", google.url());
            loop {
                thread::park();
            }
        }
        Err(error) => {
            eprintln!("cannot listen on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
