//! How each server is started, in the way that its documentation shows. All listen on this machine only, write no access log and
//! compress nothing; whatever else is not said here is as they come.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::dialect::{App, Dialect};
use crate::local::{LocalError, Redis, find_program, free_address};
use crate::peers::args::{Peer, PeersArgs};
use crate::peers::program::{Program, find, version};

/// The server of Socket.IO, which is a program of its user's.
const SOCKETIO_SERVER: &str = include_str!("../../peers/socketio-server.cjs");

/// Files that one nginx may have open: a client each, and some.
const NGINX_FILES: usize = 19_000;

/// How long nodes may take to find each other.
const FIND_EACH_OTHER: Duration = Duration::from_millis(1_500);

/// Servers of somebody else. Nodes are dropped before what they depend on.
#[derive(Debug)]
pub(super) struct Programs {
    nodes: Vec<Program>,
    redis: Option<Redis>,
    /// Their version, with that of what runs them.
    pub(super) version: String,
    /// Where subscribers connect.
    pub(super) urls: Vec<String>,
    /// Where publishers do; empty where it is the same.
    pub(super) publish_urls: Vec<String>,
    /// What subscribers and publishers speak.
    pub(super) dialect: Dialect,
}

impl Programs {
    /// Starts those of `peer`.
    ///
    /// # Errors
    /// [`LocalError::Missing`] when it is not installed; when it does not start.
    pub(super) fn start(peer: Peer, args: &PeersArgs) -> Result<Self, LocalError> {
        let mut programs = match peer {
            Peer::SocketioRedis => socketio("redis", args),
            Peer::SocketioStreams => socketio("streams", args),
            Peer::Nchan => nchan(1, None),
            Peer::NchanRedis => nchan(args.nodes, Some(Redis::start()?)),
            Peer::Sockudo => sockudo(args.nodes),
            Peer::Nats => nats(args.nodes),
            Peer::Fanfare | Peer::FanfareSocketio | Peer::Centrifugo => {
                unreachable!("not a program of somebody else that is started here")
            }
        }?;
        thread::sleep(FIND_EACH_OTHER);
        match programs.ended() {
            reasons if reasons.is_empty() => Ok(programs),
            reasons => Err(LocalError::Ended {
                program: peer.name().to_owned(),
                status: "an error".to_owned(),
                output: reasons.join("; "),
            }),
        }
    }

    fn new(dialect: Dialect, version: String, redis: Option<Redis>) -> Self {
        Self {
            nodes: Vec::new(),
            redis,
            version,
            urls: Vec::new(),
            publish_urls: Vec::new(),
            dialect,
        }
    }

    fn add(
        &mut self,
        name: &str,
        make: impl Fn(SocketAddr, &Path) -> Result<Command, LocalError>,
    ) -> Result<SocketAddr, LocalError> {
        let (program, address) = Program::start(name, make)?;
        self.nodes.push(program);
        Ok(address)
    }

    /// Processes of the nodes.
    pub(super) fn nodes(&self) -> Vec<u32> {
        self.nodes.iter().map(Program::pid).collect()
    }

    /// Process of the Redis that they share, if they do.
    pub(super) fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    /// Each that ended although nobody asked it to, and its last words.
    pub(super) fn ended(&mut self) -> Vec<String> {
        self.nodes
            .iter_mut()
            .filter_map(Program::obituary)
            .collect()
    }

    /// Ends all.
    pub(super) fn stop(mut self) {
        for node in &mut self.nodes {
            node.stop();
        }
    }
}

/// Node.js with the packages of bench/peers.
fn socketio(adapter: &'static str, args: &PeersArgs) -> Result<Programs, LocalError> {
    let node = find("node", "nodejs", &[])?;
    let modules = fs::canonicalize(&args.node_modules).unwrap_or_default();
    if !modules.join("socket.io").is_dir() {
        return Err(LocalError::NotInstalled {
            program: "socket.io",
            how: "npm ci --prefix bench/peers, or say --node-modules",
        });
    }
    let redis = Redis::start()?;
    let url = redis.url();
    let package = match adapter {
        "streams" => "@socket.io/redis-streams-adapter",
        _ => "@socket.io/redis-adapter",
    };
    let version = format!(
        "socket.io {}, {package} {}, Node.js {}",
        package_version(&modules, "socket.io"),
        package_version(&modules, package),
        version(&node, "--version")
    );
    let mut programs = Programs::new(Dialect::SocketIo, version, Some(redis));
    for _ in 0..args.nodes {
        let address = programs.add("socket.io", |address, dir| {
            let script = dir.join("server.cjs");
            write(&script, SOCKETIO_SERVER)?;
            let mut command = Command::new(&node);
            command
                .arg(script)
                .env("NODE_PATH", &modules)
                .env("NODE_ENV", "production")
                .env("PORT", address.port().to_string())
                .env("REDIS_URL", &url)
                .env("ADAPTER", adapter);
            Ok(command)
        })?;
        programs.urls.push(format!("http://{address}"));
    }
    Ok(programs)
}

fn package_version(modules: &Path, package: &str) -> String {
    let text = fs::read_to_string(modules.join(package).join("package.json")).unwrap_or_default();
    let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
    manifest["version"].as_str().unwrap_or("?").to_owned()
}

/// nginx with Nchan, each with one worker; their messages in shared memory, or in Redis.
fn nchan(nodes: usize, redis: Option<Redis>) -> Result<Programs, LocalError> {
    let nginx = find("nginx", "nginx-light", &["/usr/sbin"])?;
    let folders = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"];
    let module = find("ngx_nchan_module.so", "libnginx-mod-nchan", &folders)?;
    let url = redis.as_ref().map(Redis::url);
    let told = version(&nginx, "-v");
    let name = told.trim_start_matches("nginx version: ");
    let version = format!("{name} with Nchan");
    let mut programs = Programs::new(Dialect::Nchan, version, redis);
    for _ in 0..nodes {
        let address = programs.add("nginx", |address, dir| {
            let file = dir.join("nginx.conf");
            write(&file, &nginx_conf(address, dir, &module, url.as_deref()))?;
            let mut command = Command::new(&nginx);
            command.arg("-p").arg(dir).arg("-c").arg(file);
            Ok(command)
        })?;
        programs.urls.push(format!("http://{address}"));
    }
    Ok(programs)
}

fn nginx_conf(address: SocketAddr, dir: &Path, module: &Path, redis: Option<&str>) -> String {
    let dir = dir.display();
    // SAFETY: no memory is involved.
    let user = match unsafe { libc::geteuid() } {
        // Its workers would otherwise become somebody who may not enter the folder.
        0 => "user root;\n",
        _ => "",
    };
    let (upstream, pass) = match redis {
        Some(url) => (
            format!("upstream store {{ nchan_redis_server {url}; }}\n"),
            "nchan_redis_pass store; ",
        ),
        None => (String::new(), ""),
    };
    format!(
        "load_module {};\n{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile {NGINX_FILES};\n\
         pid {dir}/nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections {}; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000;\nclient_body_temp_path {dir}/bodies;\nproxy_temp_path {dir}/proxied;\n\
         fastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n{upstream}\
         server {{\nlisten {address} backlog=4096;\n\
         location ~ ^/sub/([\\w.-]+)$ {{ nchan_subscriber websocket; nchan_channel_id $1; {pass}}}\n\
         location ~ ^/pub/([\\w.-]+)$ {{ nchan_publisher http; nchan_channel_id $1; {pass}}}\n}}\n}}\n",
        module.display(),
        NGINX_FILES - 100
    )
}

/// Sockudo, which takes all of its settings from the environment.
fn sockudo(nodes: usize) -> Result<Programs, LocalError> {
    let cargo = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let program = find_program("sockudo", &cargo.into_iter().collect::<Vec<_>>());
    let program = program.ok_or(LocalError::NotInstalled {
        program: "sockudo",
        how: "cargo install sockudo --locked --features redis",
    })?;
    let redis = Redis::start()?;
    let url = redis.url();
    let version = version(&program, "--version");
    let mut programs = Programs::new(Dialect::Pusher, version, Some(redis));
    for _ in 0..nodes {
        let address = programs.add("sockudo", |address, _| {
            let mut command = Command::new(&program);
            command.envs(sockudo_settings(address, &url));
            Ok(command)
        })?;
        programs.urls.push(format!("http://{address}"));
    }
    Ok(programs)
}

fn sockudo_settings(address: SocketAddr, redis: &str) -> Vec<(&'static str, OsString)> {
    let port = address.port().to_string();
    [
        ("ENVIRONMENT", "production"),
        ("HOST", "127.0.0.1"),
        ("PORT", &port),
        ("ADAPTER_DRIVER", "redis"),
        ("REDIS_URL", redis),
        ("CACHE_DRIVER", "memory"),
        ("QUEUE_DRIVER", "memory"),
        ("RATE_LIMITER_ENABLED", "false"),
        ("METRICS_ENABLED", "false"),
        ("SOCKUDO_DEFAULT_APP_ID", App::ID),
        ("SOCKUDO_DEFAULT_APP_KEY", App::KEY),
        ("SOCKUDO_DEFAULT_APP_SECRET", App::SECRET),
        ("SOCKUDO_DEFAULT_APP_ENABLED", "true"),
        ("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "1000000"),
    ]
    .map(|(name, value)| (name, value.into()))
    .to_vec()
}

/// NATS with a cluster of routes.
fn nats(nodes: usize) -> Result<Programs, LocalError> {
    let program = find("nats-server", "nats-server", &["/usr/sbin"])?;
    let version = version(&program, "--version");
    let mut programs = Programs::new(Dialect::Nats, version, None);
    let first = free_address()?;
    for number in 0..nodes {
        let wire = free_address()?;
        let route = if number == 0 { first } else { free_address()? };
        let address = programs.add("nats-server", |address, dir| {
            let file = dir.join("nats.conf");
            let text = format!(
                "listen: \"{address}\"\nserver_name: \"n{number}\"\nmax_connections: 100000\n\
                 websocket {{ listen: \"{wire}\", no_tls: true }}\n\
                 cluster {{ name: bench, listen: \"{route}\", routes: [\"nats://{first}\"] }}\n"
            );
            write(&file, &text)?;
            let mut command = Command::new(&program);
            command.arg("-c").arg(file);
            Ok(command)
        })?;
        programs.urls.push(format!("http://{wire}"));
        programs.publish_urls.push(format!("http://{address}"));
    }
    Ok(programs)
}

fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    fs::write(path, text)
        .map_err(|source| LocalError::io(format!("write {}", path.display()), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_is_told_where_it_may_write_and_where_messages_are() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1234));
        let text = |redis| nginx_conf(address, Path::new("/d"), Path::new("/m.so"), redis);
        let alone = text(None);
        assert!(alone.contains("listen 127.0.0.1:1234 "), "{alone}");
        assert!(alone.contains("load_module /m.so;") && alone.contains("/d/nginx.pid"));
        assert!(!alone.contains("redis"));
        let shared = text(Some("redis://127.0.0.1:9"));
        assert!(shared.contains("nchan_redis_server redis://127.0.0.1:9;"));
        assert_eq!(shared.matches("nchan_redis_pass store;").count(), 2);
    }

    #[test]
    fn sockudo_listens_on_this_machine_only() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1234));
        let settings = sockudo_settings(address, "redis://r");
        let value = |name: &str| {
            settings
                .iter()
                .find(|(key, _)| *key == name)
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(
            (value("HOST"), value("PORT")),
            ("127.0.0.1".into(), "1234".into())
        );
        assert_eq!(value("REDIS_URL"), "redis://r");
    }
}
