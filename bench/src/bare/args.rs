//! The command line of `fanfare bench bare`.

use std::net::SocketAddr;

use clap::Args;

/// `fanfare bench bare`.
#[derive(Debug, Clone, Args)]
pub struct BareArgs {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8100")]
    pub listen: SocketAddr,
}
