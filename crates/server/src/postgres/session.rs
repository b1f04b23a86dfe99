//! One session: messages in their order, and what is kept between them.
//!
//! *Invariants.*
//! - After an error in the extended protocol everything up to the next `Sync` is passed over, as clients that send ahead need.
//! - Each `Query` and each `Sync` is answered by exactly one `ReadyForQuery`.
//! - Whatever a client keeps here is bounded: statements by number and by bytes, portals and cursors by number. A portal or cursor
//!   that has begun holds a query slot until its last row or until `query.timeout`.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_query::{Parameter, QueryRequest, QueryResult};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::cancel::Entered;
use super::command::Command;
use super::connection::{Connection, Gone};
use super::copy::{CopyOptions, CopyWriter};
use super::extended::unknown_statement;
use super::lexer;
use super::local;
use super::prepared::{Portal, Prepared};
use super::reply::{self, Transaction};
use super::rows::{Form, Rows, Sent, Stopped, attended};
use super::settings::{REPORTED, Settings};
use super::sqlstate::Problem;
use super::wire::Message;

/// Cursors, and portals, that may be open at once.
pub(super) const OPEN_MAX: usize = 16;

/// What a statement comes to before anything of it is sent.
pub(super) enum Outcome {
    Rows(Rows),
    Copy(Rows, CopyOptions),
    Fetch { name: String, rows: Option<u64>, silent: bool },
    Done(String),
}

/// One session.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) entered: Entered,
    pub(super) settings: Settings,
    pub(super) transaction: Transaction,
    pub(super) prepared: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) cursors: HashMap<String, Rows>,
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
        let failed = ended.is_err();
        match ended {
            Ok(()) => {}
            Err(Stopped::Gone(gone)) => {
                self.shared.counters.cancelled.add(1);
                return Err(gone);
            }
            Err(Stopped::Problem(problem)) => {
                let problem = self.in_time(problem);
                let counters = &self.shared.counters;
                counters.failed.add(1);
                counters.cancelled.add(u64::from(problem.code == "57014"));
                reply::error(&mut connection.out, &problem);
                if self.transaction == Transaction::Open {
                    self.transaction = Transaction::Failed;
                    self.cursors.retain(|_, cursor| cursor.held);
                }
            }
        }
        if ready {
            reply::ready(&mut connection.out, self.transaction);
        }
        // An error is told at once: a client that asked with `Flush` waits for it before it sends `Sync`.
        if ready || failed {
            connection.flush().await?;
        }
        Ok(())
    }

    /// Names the setting of the session where it was that which ended a statement.
    fn in_time(&self, problem: Problem) -> Problem {
        match self.settings.statement_timeout() {
            Some(limit) if problem.message.ends_with(&format!("ran longer than {limit:?}")) => Problem::error(
                "57014",
                format!("canceling statement due to statement timeout: it ran longer than {limit:?}"),
            )
            .hint("restrict the time range, or raise `statement_timeout`, which this session has set"),
            _ => problem,
        }
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
    pub(super) async fn deliver(
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
            Outcome::Copy(rows, options) => self.copy(connection, rows, options, cancelled).await?,
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
        options: CopyOptions,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let binary = options.is_binary();
        if binary {
            rows.set_formats(&[1])?;
        }
        let columns = rows.described();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut writer = CopyWriter::new(options, &names).map_err(|error| Problem::error("42703", error))?;
        reply::copy_out(&mut connection.out, columns.len(), binary);
        reply::copy_data(&mut connection.out, |out| writer.head(&names, out));
        let (Sent::All(sent) | Sent::Part(sent)) = rows.send(connection, cancelled, 0, Form::Copy(&mut writer)).await?;
        reply::copy_data(&mut connection.out, |out| writer.tail(out));
        self.shared.counters.rows.add(sent);
        reply::copy_done(&mut connection.out);
        reply::command_complete(&mut connection.out, &format!("COPY {sent}"));
        Ok(())
    }

    pub(super) async fn fetch(
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
    pub(super) async fn perform(
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
                let undone = failed || *command == Command::Rollback;
                self.cursors.retain(|_, cursor| cursor.held || (cursor.holds && !undone));
                self.cursors.values_mut().for_each(|cursor| cursor.held = true);
                done(if undone { "ROLLBACK" } else { "COMMIT" })
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
            Command::Prepare { name, sql, types } => {
                let unknown = |name| Problem::error("42704", format!("there is no type `{name}` for a parameter"));
                self.keep(name, sql.clone(), types.clone().map_err(unknown)?)?;
                done("PREPARE")
            }
            Command::Execute { name, values } => {
                let prepared = self.prepared.get(name).ok_or_else(|| unknown_statement(name))?;
                let prepared = Arc::clone(prepared);
                let values = self.read_executed(connection, name, &prepared, values, cancelled).await?;
                let rows = self.query(connection, &prepared.sql, &values, &prepared.engine_types(), cancelled).await?;
                Ok(Outcome::Rows(rows))
            }
            Command::Declare { name, sql, hold } => {
                if self.cursors.len() >= OPEN_MAX {
                    return Err(Problem::error("54000", format!("{OPEN_MAX} cursors are open: `CLOSE` one")).into());
                }
                if self.cursors.contains_key(name) {
                    return Err(Problem::error("42P03", format!("there is a cursor `{name}` already")).into());
                }
                let mut rows = self.query(connection, sql, values, types, cancelled).await?;
                rows.tag = "FETCH";
                rows.holds = *hold;
                rows.held = *hold && self.transaction == Transaction::Idle;
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
            Command::CopyOut { sql, options } => {
                let options = options.clone().map_err(|error| Problem::error("22023", error))?;
                let rows = self.query(connection, sql, values, types, cancelled).await?;
                Ok(Outcome::Copy(rows, options))
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
}
