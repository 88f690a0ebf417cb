//! The command line: what can be asked of the program, and nothing of how it is done.

use clap::{Args, Parser, Subcommand};
use fanfare_bench::BenchCommand;

use crate::{
    bench_leases::LeasesArgs,
    config::{Secret, Settings},
};

/// A real-time server for applications that may not lose a message.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What is asked.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server
    Serve(Box<Settings>),
    /// Sign a token for a client
    Token(TokenArgs),
    /// Check a configuration against the live PostgreSQL and Redis
    Doctor(Box<Settings>),
    /// Put load on servers, and check that nothing is lost
    Bench(BenchArgs),
    /// Print the version
    Version,
}

/// Load generator and checker.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What is measured.
    #[command(subcommand)]
    pub(crate) command: Benchmark,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// A server, from outside.
    #[command(flatten)]
    Outside(Box<BenchCommand>),
    /// Leases of connections that one node renews in Redis in a second.
    Leases(LeasesArgs),
}

/// What a token says.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Secret of client tokens, as the server has it
    #[arg(
        long,
        value_name = "SECRET",
        env = "FANFARE_TOKEN_SECRET",
        hide_env_values = true
    )]
    pub(crate) secret: Secret,
    /// User that it is for; without it, an anonymous one
    #[arg(long, value_name = "USER", default_value = "")]
    pub(crate) user: String,
    /// Session that it belongs to: the tokens of one are revoked together
    #[arg(long, value_name = "SESSION", conflicts_with = "channel")]
    pub(crate) session: Option<String>,
    /// Make a subscription token, for this channel
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    /// Seconds until it expires; without it, never
    #[arg(long, value_name = "SECONDS")]
    pub(crate) expires_in: Option<u32>,
    /// JSON that is told to others about the client
    #[arg(long, value_name = "JSON")]
    pub(crate) info: Option<String>,
    /// Channel that the connection may subscribe to without a subscription token; may be repeated
    #[arg(long, value_name = "CHANNEL", conflicts_with = "channel")]
    pub(crate) grant: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_does_not_show_secrets_of_the_environment() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secrets = ["postgres", "redis", "api_key"];
                if secrets.contains(&id) || id.ends_with("secret") || id.ends_with("_key") {
                    assert!(
                        argument.is_hide_env_values_set(),
                        "{} --{id}",
                        command.get_name()
                    );
                }
            }
        }
    }

    #[test]
    fn commands_are_understood() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' ')).map(|cli| cli.command);
        let serve = parse("fanfare serve --listen 127.0.0.1:0 --dev --data d").unwrap();
        let Command::Serve(settings) = serve else {
            panic!("{serve:?}")
        };
        assert_eq!(
            (settings.listen.as_deref(), settings.dev),
            (Some("127.0.0.1:0"), Some(true))
        );
        let token = parse("fanfare token --secret s --user u --channel c --expires-in 60").unwrap();
        let Command::Token(token) = token else {
            panic!("{token:?}")
        };
        assert_eq!((token.user.as_str(), token.expires_in), ("u", Some(60)));
        assert!(matches!(parse("fanfare version"), Ok(Command::Version)));
        assert!(matches!(
            parse("fanfare doctor --redis redis://h"),
            Ok(Command::Doctor(_))
        ));
        assert!(parse("fanfare serve --unknown").is_err());
        assert!(parse("fanfare token --secret s --channel c --grant d").is_err());
    }
}
