//! One session: messages in their order, and what is kept between them.
//!
//! *Invariants.*
//! - After an error in the extended protocol everything up to the next `Sync` is passed over, as clients that send ahead need.
//! - Each `Query` and each `Sync` is answered by exactly one `ReadyForQuery`.
//! - Whatever a client keeps here is bounded: statements by number and by bytes, portals and cursors by number. A portal or cursor
//!   that has begun holds a query slot until its last row or until `query.timeout`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use plimsoll_query::postgres::ColumnType;
use plimsoll_query::{Description, Parameter, QueryRequest, QueryResult};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::cancel::Entered;
use super::command::Command;
use super::connection::{Connection, Gone};
use super::lexer;
use super::local;
use super::reply::{self, Transaction};
use super::rows::{Form, Rows, Sent, Stopped, attended, csv_cell, described, expand};
use super::settings::{REPORTED, Settings};
use super::sqlstate::Problem;
use super::values;
use super::wire::{Message, Target};

const PREPARED_MAX: usize = 1_000;
const OPEN_MAX: usize = 16;
/// Text that prepared statements of all sessions may hold.
const PREPARED_BYTES_MAX: usize = 16 << 20;

/// Bytes that prepared statements of all sessions hold.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicUsize);

/// A statement that is kept.
struct Prepared {
    sql: String,
    command: Command,
    /// Types that the client named; zero where it did not.
    types: Vec<u32>,
    description: OnceCell<Description>,
    kept: Arc<Kept>,
}

impl Prepared {
    fn new(sql: String, types: Vec<u32>, kept: &Arc<Kept>) -> Result<Self, Problem> {
        // A count for a bound, with nothing published through it: relaxed is enough.
        let before = kept.0.fetch_add(sql.len(), Ordering::Relaxed);
        let prepared =
            Self { command: Command::of(&sql), types, description: OnceCell::new(), kept: Arc::clone(kept), sql };
        if before + prepared.sql.len() > PREPARED_BYTES_MAX {
            return Err(Problem::error("53200", "prepared statements of all sessions hold too much")
                .hint("`DEALLOCATE` those that are not needed any more"));
        }
        Ok(prepared)
    }

    fn engine_types(&self) -> Vec<Option<arrow::datatypes::DataType>> {
        self.types.iter().map(|oid| values::engine_type(*oid)).collect()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.kept.0.fetch_sub(self.sql.len(), Ordering::Relaxed);
    }
}

/// A statement with its parameters.
struct Portal {
    prepared: Arc<Prepared>,
    values: Vec<Parameter>,
    formats: Vec<i16>,
    rows: Option<Rows>,
    finished: bool,
}

/// What a statement comes to before anything of it is sent.
enum Outcome {
    Rows(Rows),
    Copy(Rows, Option<bool>),
    Fetch { name: String, rows: Option<u64>, silent: bool },
    Done(String),
}

/// One session.
pub(super) struct Session {
    shared: Arc<Shared>,
    entered: Entered,
    settings: Settings,
    transaction: Transaction,
    prepared: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    cursors: HashMap<String, Rows>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, entered: Entered, settings: Settings) -> Self {
        Self {
            shared,
            entered,
            settings,
            transaction: Transaction::Idle,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            cursors: HashMap::new(),
        }
    }

    /// Answers messages until the client leaves, is idle for too long, or the server stops.
    pub(super) async fn run(mut self, connection: &mut Connection, stop: &CancellationToken) -> Gone {
        let mut passing_over = false;
        loop {
            let idle = self.shared.options.idle_timeout;
            let message = tokio::select! {
                biased;
                message = timeout(idle, connection.message()) => message,
                () = stop.cancelled() => {
                    return Gone::Told(Problem::fatal("57P01", "the server is stopping"));
                }
            };
            let message = match message {
                Err(_) => {
                    let problem = Problem::fatal("57P05", format!("the session was idle for {idle:?}"));
                    return Gone::Told(problem.hint("connect again, or raise `postgres.idle_timeout`"));
                }
                Ok(Err(gone)) => return gone,
                Ok(Ok(Message::Terminate)) => return Gone::Closed,
                Ok(Ok(message)) => message,
            };
            if passing_over && !matches!(message, Message::Sync | Message::Query(_)) {
                continue;
            }
            passing_over = false;
            let ended = match message {
                Message::Query(sql) => {
                    let ended = self.simple(connection, &sql).await;
                    self.report(connection, ended, true).await
                }
                Message::Sync => {
                    if self.transaction == Transaction::Idle {
                        self.portals.clear();
                    }
                    reply::ready(&mut connection.out, self.transaction);
                    connection.flush().await
                }
                Message::Flush => connection.flush().await,
                // Postgres too passes over what belongs to a copy that has failed.
                Message::Copy => Ok(()),
                Message::Password(_) => Err(Gone::Told(Problem::fatal("08P01", "a password that nobody asked for"))),
                extended => {
                    let ended = self.extended(connection, extended).await;
                    passing_over = ended.is_err();
                    self.report(connection, ended, false).await
                }
            };
            if let Err(gone) = ended {
                if matches!(gone, Gone::Closed) {
                    self.shared.counters.cancelled.add(u64::from(!self.portals.is_empty()));
                }
                return gone;
            }
        }
    }

    /// Tells the client of an error, and in the simple protocol that the next statement may come.
    async fn report(
        &mut self,
        connection: &mut Connection,
        ended: Result<(), Stopped>,
        ready: bool,
    ) -> Result<(), Gone> {
        match ended {
            Ok(()) => {}
            Err(Stopped::Gone(gone)) => {
                self.shared.counters.cancelled.add(1);
                return Err(gone);
            }
            Err(Stopped::Problem(problem)) => {
                let counters = &self.shared.counters;
                counters.failed.add(1);
                counters.cancelled.add(u64::from(problem.code == "57014"));
                reply::error(&mut connection.out, &problem);
                if self.transaction == Transaction::Open {
                    self.transaction = Transaction::Failed;
                    self.cursors.clear();
                }
            }
        }
        if ready {
            reply::ready(&mut connection.out, self.transaction);
            connection.flush().await?;
        }
        Ok(())
    }

    /// Runs the statements of one `Query`, one after the other, until one fails.
    async fn simple(&mut self, connection: &mut Connection, sql: &str) -> Result<(), Stopped> {
        self.portals.remove("");
        let statements = lexer::statements(sql);
        if statements.is_empty() {
            reply::empty_query(&mut connection.out);
        }
        for statement in statements {
            let running = Arc::clone(&self.entered.running);
            let cancelled = running.begin();
            let done = self.one(connection, statement, &cancelled).await;
            running.end();
            done?;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        connection: &mut Connection,
        sql: &str,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let command = Command::of(sql);
        let outcome = self.perform(connection, &command, sql, &[], &[], cancelled).await?;
        self.deliver(connection, outcome, cancelled).await
    }

    /// Sends all of an outcome, its columns first.
    async fn deliver(
        &mut self,
        connection: &mut Connection,
        outcome: Outcome,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        match outcome {
            Outcome::Done(tag) => reply::command_complete(&mut connection.out, &tag),
            Outcome::Rows(mut rows) => {
                reply::row_description(&mut connection.out, &rows.described());
                let (Sent::All(sent) | Sent::Part(sent)) = rows.send(connection, cancelled, 0, Form::Rows).await?;
                self.shared.counters.rows.add(sent);
                reply::command_complete(&mut connection.out, &format!("{} {sent}", rows.tag));
            }
            Outcome::Copy(rows, csv) => self.copy(connection, rows, csv, cancelled).await?,
            Outcome::Fetch { name, rows, silent } => {
                if let (Some(cursor), false) = (self.cursors.get(&name), silent) {
                    reply::row_description(&mut connection.out, &cursor.described());
                }
                self.fetch(connection, &name, rows, silent, cancelled).await?;
            }
        }
        Ok(())
    }

    async fn copy(
        &mut self,
        connection: &mut Connection,
        mut rows: Rows,
        csv: Option<bool>,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let columns = rows.described();
        reply::copy_out(&mut connection.out, columns.len());
        if csv == Some(true) {
            reply::message(&mut connection.out, b'd', |out| {
                for (at, column) in columns.iter().enumerate() {
                    if at > 0 {
                        out.extend_from_slice(b",");
                    }
                    csv_cell(column.name.as_bytes(), out);
                }
                out.extend_from_slice(b"\n");
            });
        }
        let form = if csv.is_some() { Form::CopyCsv } else { Form::CopyText };
        let (Sent::All(sent) | Sent::Part(sent)) = rows.send(connection, cancelled, 0, form).await?;
        self.shared.counters.rows.add(sent);
        reply::copy_done(&mut connection.out);
        reply::command_complete(&mut connection.out, &format!("COPY {sent}"));
        Ok(())
    }

    async fn fetch(
        &mut self,
        connection: &mut Connection,
        name: &str,
        rows: Option<u64>,
        silent: bool,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let Some(cursor) = self.cursors.get_mut(name) else {
            return Err(Problem::error("34000", format!("there is no cursor `{name}`")).into());
        };
        let form = if silent { Form::Silent } else { Form::Rows };
        let sent = match rows {
            Some(0) => 0,
            rows => {
                let (Sent::All(sent) | Sent::Part(sent)) =
                    cursor.send(connection, cancelled, rows.unwrap_or(0), form).await?;
                sent
            }
        };
        self.shared.counters.rows.add(sent);
        let word = if silent { "MOVE" } else { "FETCH" };
        reply::command_complete(&mut connection.out, &format!("{word} {sent}"));
        Ok(())
    }

    /// Does what a statement asks for, as far as that is possible before its rows are sent.
    async fn perform(
        &mut self,
        connection: &mut Connection,
        command: &Command,
        sql: &str,
        values: &[Parameter],
        types: &[Option<arrow::datatypes::DataType>],
        cancelled: &CancellationToken,
    ) -> Result<Outcome, Stopped> {
        self.shared.counters.statements.add(1);
        if self.transaction == Transaction::Failed && !command.ends_transaction() {
            return Err(Problem::error("25P02", "the transaction failed: commands are ignored until it ends").into());
        }
        let done = |tag: &str| Ok(Outcome::Done(tag.to_owned()));
        match command {
            Command::Query => {
                let rows = self.query(connection, sql, values, types, cancelled).await?;
                Ok(Outcome::Rows(rows))
            }
            Command::Begin => {
                if self.transaction == Transaction::Open {
                    reply::notice(&mut connection.out, &Problem::warning("there is a transaction already"));
                }
                self.transaction = Transaction::Open;
                done("BEGIN")
            }
            Command::Commit | Command::Rollback => {
                let failed = self.transaction == Transaction::Failed;
                if self.transaction == Transaction::Idle {
                    reply::notice(&mut connection.out, &Problem::warning("there is no transaction"));
                }
                self.transaction = Transaction::Idle;
                self.cursors.clear();
                done(if failed || *command == Command::Rollback { "ROLLBACK" } else { "COMMIT" })
            }
            Command::Savepoint | Command::Release | Command::RollbackTo => {
                if self.transaction == Transaction::Idle {
                    return Err(Problem::error("25P01", "savepoints are for transactions, and there is none").into());
                }
                if *command == Command::RollbackTo {
                    self.transaction = Transaction::Open;
                }
                done(match command {
                    Command::Savepoint => "SAVEPOINT",
                    Command::Release => "RELEASE",
                    _ => "ROLLBACK",
                })
            }
            Command::Set { name, value } => {
                if let Some(notice) = self.settings.set(name, value.as_deref())? {
                    reply::notice(&mut connection.out, &notice);
                }
                if let Some((shown, name)) = REPORTED.iter().find(|(_, known)| known == name) {
                    let value = self.settings.get(name).unwrap_or_default();
                    reply::parameter_status(&mut connection.out, shown, value);
                }
                done(if value.is_some() { "SET" } else { "RESET" })
            }
            Command::Show(name) => {
                let result = local::show(name, &self.settings)?;
                Ok(Outcome::Rows(Rows::new(result, sql, "SHOW")))
            }
            Command::Discard => {
                self.prepared.clear();
                self.portals.clear();
                self.cursors.clear();
                self.settings = Settings::default();
                done("DISCARD ALL")
            }
            Command::Deallocate(name) => {
                match name {
                    Some(name) => {
                        self.prepared.remove(name).ok_or_else(|| unknown_statement(name))?;
                    }
                    None => self.prepared.clear(),
                }
                done(if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" })
            }
            Command::Prepare { name, sql } => {
                self.keep(name, sql.clone(), Vec::new())?;
                done("PREPARE")
            }
            Command::Execute { name, values } => {
                let prepared = self.prepared.get(name).ok_or_else(|| unknown_statement(name))?;
                let prepared = Arc::clone(prepared);
                let texts: Vec<Option<Bytes>> = values.iter().map(|value| value.clone().map(Bytes::from)).collect();
                let values = self.read_values(connection, &prepared, texts, &[], cancelled).await?;
                let rows = self.query(connection, &prepared.sql, &values, &prepared.engine_types(), cancelled).await?;
                Ok(Outcome::Rows(rows))
            }
            Command::Declare { name, sql } => {
                if self.cursors.len() >= OPEN_MAX {
                    return Err(Problem::error("54000", format!("{OPEN_MAX} cursors are open: `CLOSE` one")).into());
                }
                if self.cursors.contains_key(name) {
                    return Err(Problem::error("42P03", format!("there is a cursor `{name}` already")).into());
                }
                let mut rows = self.query(connection, sql, values, types, cancelled).await?;
                rows.tag = "FETCH";
                self.cursors.insert(name.clone(), rows);
                done("DECLARE CURSOR")
            }
            Command::Fetch { name, rows, silent } => {
                Ok(Outcome::Fetch { name: name.clone(), rows: *rows, silent: *silent })
            }
            Command::Close(name) => {
                match name {
                    Some(name) => {
                        let closed = self.cursors.remove(name);
                        closed.ok_or_else(|| Problem::error("34000", format!("there is no cursor `{name}`")))?;
                    }
                    None => self.cursors.clear(),
                }
                done(if name.is_some() { "CLOSE CURSOR" } else { "CLOSE CURSOR ALL" })
            }
            Command::CopyOut { sql, csv } => {
                let rows = self.query(connection, sql, values, types, cancelled).await?;
                Ok(Outcome::Copy(rows, *csv))
            }
            Command::Nothing(tag) => done(tag),
            Command::Unsupported(what) => Err(Problem::error("0A000", format!("not supported: {what}")).into()),
        }
    }

    /// Starts a query.
    async fn query(
        &mut self,
        connection: &mut Connection,
        sql: &str,
        values: &[Parameter],
        types: &[Option<arrow::datatypes::DataType>],
        cancelled: &CancellationToken,
    ) -> Result<Rows, Stopped> {
        let request = QueryRequest {
            sql: sql.to_owned(),
            params: values.to_vec(),
            types: types.to_vec(),
            timeout: self.settings.statement_timeout(),
            source: "postgres",
            ..QueryRequest::default()
        };
        // What was written so far must not wait behind a query that takes long.
        connection.flush().await?;
        let engine = Arc::clone(&self.shared.engine);
        let result: QueryResult =
            attended(connection, cancelled, engine.query(request)).await?.map_err(|error| Problem::of(&error, sql))?;
        let explains = sql.trim_start().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("explain"));
        Ok(Rows::new(result, sql, if explains { "EXPLAIN" } else { "SELECT" }))
    }

    fn keep(&mut self, name: &str, sql: String, types: Vec<u32>) -> Result<(), Problem> {
        if name.is_empty() {
            self.prepared.remove(name);
        } else if self.prepared.contains_key(name) {
            return Err(Problem::error("42P05", format!("there is a prepared statement `{name}` already")));
        }
        if self.prepared.len() >= PREPARED_MAX {
            return Err(Problem::error("54000", format!("{PREPARED_MAX} statements are prepared"))
                .hint("`DEALLOCATE` those that are not needed any more"));
        }
        let prepared = Prepared::new(sql, types, &self.shared.kept)?;
        self.prepared.insert(name.to_owned(), Arc::new(prepared));
        Ok(())
    }

    /// Answers a message of the extended protocol.
    async fn extended(&mut self, connection: &mut Connection, message: Message) -> Result<(), Stopped> {
        let running = Arc::clone(&self.entered.running);
        let cancelled = running.begin();
        let done = match message {
            Message::Parse { name, sql, types } => self.parse(connection, &name, &sql, types),
            Message::Bind { portal, statement, formats, values, results } => {
                self.bind(connection, portal, &statement, (formats, values), results, &cancelled).await
            }
            Message::Describe(Target::Statement(name)) => self.describe_statement(connection, &name, &cancelled).await,
            Message::Describe(Target::Portal(name)) => self.describe_portal(connection, &name, &cancelled).await,
            Message::Execute { portal, rows } => self.execute(connection, &portal, rows, &cancelled).await,
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.prepared.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                reply::close_complete(&mut connection.out);
                Ok(())
            }
            _ => Err(Problem::error("08P01", "this message does not belong here").into()),
        };
        running.end();
        done
    }

    fn parse(&mut self, connection: &mut Connection, name: &str, sql: &str, types: Vec<u32>) -> Result<(), Stopped> {
        let statements = lexer::statements(sql);
        if statements.len() > 1 {
            return Err(Problem::error("42601", "a prepared statement is one statement, not several").into());
        }
        self.keep(name, statements.first().copied().unwrap_or_default().to_owned(), types)?;
        reply::parse_complete(&mut connection.out);
        Ok(())
    }

    async fn bind(
        &mut self,
        connection: &mut Connection,
        portal: String,
        statement: &str,
        (formats, values): (Vec<i16>, Vec<Option<Bytes>>),
        results: Vec<i16>,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let prepared = Arc::clone(self.prepared.get(statement).ok_or_else(|| unknown_statement(statement))?);
        let values = self.read_values(connection, &prepared, values, &formats, cancelled).await?;
        self.portals.remove(&portal);
        if self.portals.len() >= OPEN_MAX {
            return Err(Problem::error("54000", format!("{OPEN_MAX} portals are open: close one")).into());
        }
        self.portals.insert(portal, Portal { prepared, values, formats: results, rows: None, finished: false });
        reply::bind_complete(&mut connection.out);
        Ok(())
    }

    /// Reads parameters by the types that the client named, else by those that the statement implies.
    async fn read_values(
        &mut self,
        connection: &mut Connection,
        prepared: &Prepared,
        given: Vec<Option<Bytes>>,
        formats: &[i16],
        cancelled: &CancellationToken,
    ) -> Result<Vec<Parameter>, Stopped> {
        let binary = expand(formats, given.len())?;
        let named = |at: usize| prepared.types.get(at).copied().filter(|oid| !matches!(oid, 0 | 705));
        let open = given.iter().enumerate().any(|(at, value)| value.is_some() && named(at).is_none());
        let implied = if open {
            let description = self.description(connection, prepared, cancelled).await?;
            description.params.iter().map(ColumnType::of_type).collect()
        } else {
            Vec::new()
        };
        let mut values = Vec::with_capacity(given.len());
        for (at, (value, binary)) in given.into_iter().zip(binary).enumerate() {
            let of = match named(at) {
                Some(oid) => ColumnType::from_oid(oid).ok_or_else(|| {
                    Problem::error(
                        "42704",
                        format!("parameter `${}` has a type that is not known here ({oid})", at + 1),
                    )
                    .hint("send it as text")
                })?,
                None => implied.get(at).copied().unwrap_or(ColumnType::TEXT),
            };
            values.push(values::read(at + 1, value, binary, of)?);
        }
        Ok(values)
    }

    async fn description<'p>(
        &mut self,
        connection: &mut Connection,
        prepared: &'p Prepared,
        cancelled: &CancellationToken,
    ) -> Result<&'p Description, Stopped> {
        let engine = Arc::clone(&self.shared.engine);
        let types = prepared.engine_types();
        let work = prepared.description.get_or_try_init(|| engine.describe(&prepared.sql, &types));
        attended(connection, cancelled, work).await?.map_err(|error| Problem::of(&error, &prepared.sql).into())
    }

    async fn describe_statement(
        &mut self,
        connection: &mut Connection,
        name: &str,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let prepared = Arc::clone(self.prepared.get(name).ok_or_else(|| unknown_statement(name))?);
        if !matches!(prepared.command, Command::Query) || prepared.sql.is_empty() {
            reply::parameter_description(&mut connection.out, &[]);
            match &prepared.command {
                Command::Show(name) => {
                    let columns = local::show(name, &self.settings)?.schema;
                    reply::row_description(&mut connection.out, &described(&columns, &[]));
                }
                Command::Fetch { name, silent: false, .. } if self.cursors.contains_key(name) => {
                    reply::row_description(&mut connection.out, &self.cursors[name].described());
                }
                _ => reply::no_data(&mut connection.out),
            }
            return Ok(());
        }
        let description = self.description(connection, &prepared, cancelled).await?;
        let types: Vec<u32> = (description.params.iter().enumerate())
            .map(|(at, implied)| match prepared.types.get(at) {
                None | Some(0) => ColumnType::of_type(implied).oid(),
                Some(named) => *named,
            })
            .collect();
        reply::parameter_description(&mut connection.out, &types);
        reply::row_description(&mut connection.out, &described(&description.schema, &[]));
        Ok(())
    }

    async fn describe_portal(
        &mut self,
        connection: &mut Connection,
        name: &str,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        // A cursor is a portal too, under the same name.
        if let (None, Some(cursor)) = (self.portals.get(name), self.cursors.get(name)) {
            reply::row_description(&mut connection.out, &cursor.described());
            return Ok(());
        }
        let portal = self.portals.get(name).ok_or_else(|| unknown_portal(name))?;
        let prepared = Arc::clone(&portal.prepared);
        match &prepared.command {
            Command::Query if prepared.sql.is_empty() => reply::no_data(&mut connection.out),
            // The query begins here, so that it is planned once; its rows wait for `Execute`.
            Command::Query | Command::Show(_) | Command::Execute { .. } => {
                self.begin(connection, name, cancelled).await?;
                match self.portals.get(name).and_then(|portal| portal.rows.as_ref()) {
                    Some(rows) => reply::row_description(&mut connection.out, &rows.described()),
                    None => reply::no_data(&mut connection.out),
                }
            }
            Command::Fetch { name: cursor, silent: false, .. } => {
                let formats = portal.formats.clone();
                match self.cursors.get_mut(cursor) {
                    Some(cursor) => {
                        cursor.set_formats(&formats)?;
                        reply::row_description(&mut connection.out, &cursor.described());
                    }
                    None => reply::no_data(&mut connection.out),
                }
            }
            _ => reply::no_data(&mut connection.out),
        }
        Ok(())
    }

    /// Starts the query of a portal, where it has not begun.
    async fn begin(
        &mut self,
        connection: &mut Connection,
        name: &str,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let portal = self.portals.get(name).ok_or_else(|| unknown_portal(name))?;
        if portal.rows.is_some() || portal.finished {
            return Ok(());
        }
        let (prepared, values, formats) = (Arc::clone(&portal.prepared), portal.values.clone(), portal.formats.clone());
        let types = prepared.engine_types();
        let outcome = self.perform(connection, &prepared.command, &prepared.sql, &values, &types, cancelled).await?;
        if let (Outcome::Rows(mut rows), Some(portal)) = (outcome, self.portals.get_mut(name)) {
            rows.set_formats(&formats)?;
            portal.rows = Some(rows);
        }
        Ok(())
    }

    async fn execute(
        &mut self,
        connection: &mut Connection,
        name: &str,
        rows: u32,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let portal = self.portals.get(name).ok_or_else(|| unknown_portal(name))?;
        let prepared = Arc::clone(&portal.prepared);
        if prepared.sql.is_empty() {
            reply::empty_query(&mut connection.out);
            return Ok(());
        }
        if !matches!(prepared.command, Command::Query | Command::Show(_) | Command::Execute { .. }) {
            let (values, formats) = (portal.values.clone(), portal.formats.clone());
            let types = prepared.engine_types();
            let outcome =
                self.perform(connection, &prepared.command, &prepared.sql, &values, &types, cancelled).await?;
            return match outcome {
                Outcome::Fetch { name, rows, silent } => {
                    if let Some(cursor) = self.cursors.get_mut(&name) {
                        cursor.set_formats(&formats)?;
                    }
                    self.fetch(connection, &name, rows, silent, cancelled).await
                }
                other => self.deliver(connection, other, cancelled).await,
            };
        }
        self.begin(connection, name, cancelled).await?;
        let Some(portal) = self.portals.get_mut(name) else { return Err(unknown_portal(name).into()) };
        let Some(answer) = portal.rows.as_mut() else {
            // All rows were sent before: asked again, there are none.
            reply::command_complete(&mut connection.out, "SELECT 0");
            return Ok(());
        };
        let sent = answer.send(connection, cancelled, u64::from(rows), Form::Rows).await;
        let tag = answer.tag;
        if !matches!(sent, Ok(Sent::Part(_))) {
            // The slot is free for others.
            portal.rows = None;
            portal.finished = true;
        }
        match sent? {
            Sent::All(sent) => {
                self.shared.counters.rows.add(sent);
                reply::command_complete(&mut connection.out, &format!("{tag} {sent}"));
            }
            Sent::Part(sent) => {
                self.shared.counters.rows.add(sent);
                reply::portal_suspended(&mut connection.out);
            }
        }
        Ok(())
    }
}

fn unknown_statement(name: &str) -> Problem {
    Problem::error("26000", format!("there is no prepared statement `{name}`"))
}

fn unknown_portal(name: &str) -> Problem {
    Problem::error("34000", format!("there is no portal `{name}`"))
}
