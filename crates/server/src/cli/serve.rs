//! `plimsoll serve`: runs the server until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, Outcome, ServeArgs};
use crate::config::{Config, Environment, Overrides};
use crate::serve::{Server, shutdown};
use crate::telemetry;

pub(super) fn run(args: &ServeArgs) -> Outcome {
    let environment = Environment::default();
    let file = args.config.clone().or_else(|| super::variable("PLIMSOLL_CONFIG").map(PathBuf::from));
    let config = Config::load(file.as_deref(), &Overrides::from(args), &|name| environment.get(name))
        .map_err(|error| Failure::usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("plimsoll-io")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let telemetry = telemetry::init(&config.telemetry).map_err(Failure::failed)?;
        for problem in environment.unread() {
            tracing::warn!("{problem}");
        }
        let outcome = serve(config).await;
        telemetry.shutdown().await;
        outcome
    })
}

async fn serve(config: Config) -> Outcome {
    let server = Server::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    let reason = tokio::select! {
        () = shutdown::requested() => None,
        reason = server.fatal() => Some(reason),
    };
    // From here on a second request to stop ends the process at once; what was acked is in the journal.
    shutdown::exit_on_second_request();
    let drained = server.stop().await;
    match (reason, drained) {
        (Some(reason), _) => Err(Failure::failed(reason)),
        (None, Err(error)) => Err(Failure::failed(error.to_string())),
        (None, Ok(())) => Ok(ExitCode::SUCCESS),
    }
}
