//! What every test starts from: a server of its own on free ports with an empty data directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use plimsoll_loadtest::{Addresses, Server, ServerOptions, Sql};

/// Long enough for any start on a busy machine; nothing waits this long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server and the directory that goes with it.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) sql: Sql,
    dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same, started as `change` says.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut options = options(dir.path());
        change(&mut options);
        let server = Server::start(options, PATIENCE).await.unwrap_or_else(|problem| panic!("{problem}"));
        Self { sql: server.sql(), server, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Counts the rows of `table` of one `service.namespace`, waiting until there are `wanted`.
    pub(crate) async fn count(&self, table: &str, run: &str, wanted: u64) -> u64 {
        let query = format!("SELECT count(*) FROM {table} WHERE service_namespace = '{run}'");
        self.sql.at_least(&query, wanted, PATIENCE).await.unwrap_or_else(|problem| panic!("{problem}"))
    }
}

/// How a server is started below `dir`.
pub(crate) fn options(dir: &Path) -> ServerOptions {
    ServerOptions {
        binary: binary(),
        data_dir: dir.join("data"),
        addresses: Addresses::free().expect("the system has free ports"),
        cpu: None,
        arguments: Vec::new(),
    }
}

/// The `plimsoll` program: what `PLIMSOLL_BIN` names, else the one built beside this test.
pub(crate) fn binary() -> PathBuf {
    let binary = std::env::var_os("PLIMSOLL_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a test knows its own file");
            test.ancestors().nth(2).expect("tests are in `deps` of the profile's directory").join("plimsoll")
        },
        PathBuf::from,
    );
    assert!(
        binary.is_file(),
        "`{}` is not there: build it first with `cargo build --release`, or name another in PLIMSOLL_BIN",
        binary.display()
    );
    binary
}

/// A `service.namespace` that no other test uses.
pub(crate) fn run_name(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{test}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
