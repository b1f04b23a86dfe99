//! The start of a connection: refusal of encryption, cancel requests, password, and what a client is told first.

use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::cancel::Entered;
use super::connection::{Connection, Gone};
use super::reply;
use super::scram::{Exchange, MECHANISM};
use super::settings::{REPORTED, Settings};
use super::sqlstate::Problem;
use super::wire::{Body, First, Message};
use super::{Shared, random};

/// How long a client may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients ask for two kinds of encryption, and some ask again.
const ENCRYPTION_REQUESTS_MAX: usize = 4;

/// A client that may ask.
pub(super) struct Started {
    pub(super) entered: Entered,
    pub(super) settings: Settings,
    /// One of the sessions that there may be at once.
    pub(super) slot: OwnedSemaphorePermit,
}

/// Brings a connection to the point where statements may come; `None` where it was only there to cancel something.
pub(super) async fn start(shared: &Arc<Shared>, connection: &mut Connection) -> Result<Option<Started>, Gone> {
    match timeout(START_TIMEOUT, begin(shared, connection)).await {
        Ok(started) => started,
        Err(_) => Err(Gone::Told(Problem::fatal("08P01", format!("nothing sensible came for {START_TIMEOUT:?}")))),
    }
}

async fn begin(shared: &Arc<Shared>, connection: &mut Connection) -> Result<Option<Started>, Gone> {
    let mut asked = 0;
    let (minor, parameters) = loop {
        match connection.first().await? {
            First::Encryption if asked < ENCRYPTION_REQUESTS_MAX => {
                asked += 1;
                connection.out.put_u8(b'N');
                connection.flush().await?;
            }
            First::Encryption => return Err(Gone::Closed),
            First::Cancel { process, secret } => {
                // Whether it did anything is not told, lest secrets be guessed.
                shared.sessions.cancel(process, secret);
                return Ok(None);
            }
            First::Session { minor, parameters } => break (minor, parameters),
        }
    };
    let given = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let user = given("user").unwrap_or_default();
    if user.is_empty() {
        return Err(Gone::Told(Problem::fatal("28000", "no user is named: any name will do")));
    }
    if given("replication").is_some_and(|mode| !["false", "off", "no", "0"].contains(&mode)) {
        return Err(Gone::Told(Problem::fatal("0A000", "replication is not spoken here")));
    }
    let unknown: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|n| n.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        reply::negotiate(&mut connection.out, &unknown);
    }
    if let Some(reason) = (shared.starting)() {
        return Err(Gone::Told(Problem::fatal("57P03", reason).hint("try again in a moment")));
    }
    authenticate(shared, connection, user).await?;
    let slot = Arc::clone(&shared.slots).try_acquire_owned().map_err(|_| {
        let problem = Problem::fatal("53300", "too many clients are connected already");
        Gone::Told(problem.hint("close some, or raise `postgres.connections_max`"))
    })?;
    let entered = shared.sessions.enter(|| u32::from_le_bytes(random()));
    let mut settings = Settings::default();
    for (name, value) in &parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => options(value, &mut settings),
            name => drop(settings.set(&name.to_ascii_lowercase(), Some(value))),
        }
    }
    reply::authenticated(&mut connection.out);
    for (shown, name) in REPORTED {
        reply::parameter_status(&mut connection.out, shown, settings.get(name).unwrap_or_default());
    }
    reply::key_data(&mut connection.out, entered.process, entered.secret);
    reply::ready(&mut connection.out, reply::Transaction::Idle);
    connection.flush().await?;
    Ok(Some(Started { entered, settings, slot }))
}

/// Takes `-c name=value` and `--name=value`; what cannot be set is left, as clients set much that only tunes.
fn options(text: &str, settings: &mut Settings) {
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(rest) => Some(rest),
            None => word.strip_prefix("--"),
        };
        if let Some((name, value)) = assignment.and_then(|assignment| assignment.split_once('=')) {
            drop(settings.set(&name.replace('-', "_").to_ascii_lowercase(), Some(value)));
        }
    }
}

async fn authenticate(shared: &Arc<Shared>, connection: &mut Connection, user: &str) -> Result<(), Gone> {
    let Some(verifier) = &shared.verifier else { return Ok(()) };
    let wrong = || {
        Gone::Told(
            Problem::fatal("28P01", format!("password authentication failed for user \"{user}\""))
                .hint("any user, with the value of `auth.token` as the password"),
        )
    };
    reply::ask_sasl(&mut connection.out, MECHANISM);
    connection.flush().await?;
    let Message::Password(first) = connection.message().await? else { return Err(wrong()) };
    let (exchange, answer) = Exchange::begin(verifier, Body(first), random())?;
    reply::sasl_continue(&mut connection.out, &answer);
    connection.flush().await?;
    let Message::Password(last) = connection.message().await? else { return Err(wrong()) };
    let proof = exchange.finish(verifier, &last).ok_or_else(wrong)?;
    reply::sasl_final(&mut connection.out, &proof);
    Ok(())
}
