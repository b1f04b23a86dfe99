//! `listen`: addresses, each held to what others may reach.

use std::net::SocketAddr;

use super::reader::Section;
use super::{Overrides, flag};

/// Addresses to listen on.
#[derive(Debug, Clone)]
pub struct Listen {
    /// OTLP/gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub otlp_http: SocketAddr,
    /// REST, SQL, metrics, health.
    pub api: SocketAddr,
    /// `plimsoll.v1`, Flight SQL.
    pub grpc_api: SocketAddr,
    /// The Postgres protocol; `None` where it is off.
    pub postgres: Option<SocketAddr>,
    /// Plain text beyond this machine is wanted.
    pub allow_insecure: bool,
}

/// Reads one address; others than loopback need `allow_insecure`.
fn read_address(
    section: &mut Section<'_>,
    allow_insecure: bool,
    key: &str,
    given: Option<&String>,
    default: u16,
    problems: &mut Vec<String>,
) -> SocketAddr {
    let off = if key == "postgres" { ", or `off`" } else { "" };
    let expected = format!("an address such as `127.0.0.1:{default}`{off}");
    let from_file = section.take(key, &expected, parse, problems);
    let default = SocketAddr::from(([127, 0, 0, 1], default));
    let address = match given {
        Some(text) => parse(text).unwrap_or_else(|| {
            problems.push(format!("`--{}` must be {expected}, found `{text}`", key.replace('_', "-")));
            default
        }),
        None => from_file.unwrap_or(default),
    };
    if !address.ip().is_loopback() && !allow_insecure {
        problems.push(format!(
            "`listen.{key}` is `{address}`, which others can reach without TLS: listen on `127.0.0.1:{}` behind a proxy \
             that terminates TLS, or set `listen.allow_insecure: true`, and `auth.token` for the API",
            address.port(),
        ));
    }
    address
}

pub(super) fn read(section: &mut Section<'_>, overrides: &Overrides, problems: &mut Vec<String>) -> Listen {
    let allow_insecure = flag(section, "allow_insecure", false, problems);
    // The one listener whose usual port others may well have taken.
    let off = section.is_off("postgres", overrides.postgres.as_deref());
    let mut address = |key: &str, given: Option<&String>, default: u16| {
        read_address(section, allow_insecure, key, given, default, problems)
    };
    let listen = Listen {
        otlp_grpc: address("otlp_grpc", overrides.otlp_grpc.as_ref(), 4317),
        otlp_http: address("otlp_http", overrides.otlp_http.as_ref(), 4318),
        api: address("api", overrides.api.as_ref(), 4319),
        grpc_api: address("grpc_api", overrides.grpc_api.as_ref(), 4320),
        postgres: (!off).then(|| address("postgres", overrides.postgres.as_ref(), 5433)),
        allow_insecure,
    };
    let mut all = vec![
        ("otlp_grpc", listen.otlp_grpc),
        ("otlp_http", listen.otlp_http),
        ("api", listen.api),
        ("grpc_api", listen.grpc_api),
    ];
    all.extend(listen.postgres.map(|address| ("postgres", address)));
    for (i, (name, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..i].iter().find(|(_, a)| a == address && address.port() != 0) {
            problems.push(format!("`listen.{name}` and `listen.{other}` are both `{address}`: give each its own port"));
        }
    }
    listen
}

/// Reads an address; `localhost` is the loopback address that the defaults have.
fn parse(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}
