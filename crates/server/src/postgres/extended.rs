//! The extended protocol: statements parsed, bound, described and executed one message at a time.

use std::sync::Arc;

use bytes::Bytes;
use plimsoll_query::postgres::ColumnType;
use plimsoll_query::{Description, Parameter};
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::connection::Connection;
use super::prepared::{PREPARED_MAX, Portal, Prepared};
use super::rows::{Form, Sent, Stopped, attended, described, expand};
use super::session::{OPEN_MAX, Outcome, Session};
use super::sqlstate::Problem;
use super::values::Known;
use super::wire::{Message, Target};
use super::{lexer, local, reply, values};

impl Session {
    pub(super) fn keep(&mut self, name: &str, sql: String, types: Vec<u32>) -> Result<(), Problem> {
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
    pub(super) async fn extended(&mut self, connection: &mut Connection, message: Message) -> Result<(), Stopped> {
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
    pub(super) async fn read_values(
        &mut self,
        connection: &mut Connection,
        prepared: &Prepared,
        given: Vec<Option<Bytes>>,
        formats: &[i16],
        cancelled: &CancellationToken,
    ) -> Result<Vec<Parameter>, Stopped> {
        let binary = expand(formats, given.len())?;
        let named = |at: usize| prepared.types.get(at).copied().filter(|oid| !values::is_open(*oid));
        let open = given.iter().enumerate().any(|(at, value)| value.is_some() && named(at).is_none());
        let implied = if open {
            let description = self.description(connection, prepared, cancelled).await?;
            description.params.iter().map(ColumnType::of_type).collect()
        } else {
            Vec::new()
        };
        let mut values = Vec::with_capacity(given.len());
        for (at, (value, binary)) in given.into_iter().zip(binary).enumerate() {
            let known = match named(at) {
                Some(oid) => {
                    let of = ColumnType::from_oid(oid).ok_or_else(|| {
                        Problem::error(
                            "42704",
                            format!("parameter `${}` has a type that is not known here ({oid})", at + 1),
                        )
                        .hint("send it as text")
                    })?;
                    Known::Named(oid, of)
                }
                None => Known::Implied(implied.get(at).copied().unwrap_or(ColumnType::TEXT)),
            };
            values.push(values::read(at + 1, value, binary, known)?);
        }
        Ok(values)
    }

    /// Reads what `EXECUTE` gives for parameters: as many as the statement has, or as were declared.
    pub(super) async fn read_executed(
        &mut self,
        connection: &mut Connection,
        name: &str,
        prepared: &Prepared,
        given: &[Option<String>],
        cancelled: &CancellationToken,
    ) -> Result<Vec<Parameter>, Stopped> {
        let used = self.description(connection, prepared, cancelled).await?.params.len();
        let takes = used.max(prepared.types.len());
        // As in Postgres, which reads what a statement without parameters is given over.
        if takes == 0 {
            return Ok(Vec::new());
        }
        if given.len() != takes {
            let problem = format!("wrong number of parameters for prepared statement `{name}`");
            let hint = format!("it takes {takes} and was given {}", given.len());
            return Err(Problem::error("42601", problem).hint(hint).into());
        }
        let texts = given.iter().map(|value| value.clone().map(Bytes::from)).collect();
        let mut values = self.read_values(connection, prepared, texts, &[], cancelled).await?;
        // What was declared and is not used has no place.
        values.truncate(used);
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
        let sql = prepared.query().unwrap_or(&prepared.sql);
        let work = prepared.description.get_or_try_init(|| engine.describe(sql, &types));
        attended(connection, cancelled, work).await?.map_err(|error| Problem::of(&error, &prepared.sql).into())
    }

    async fn describe_statement(
        &mut self,
        connection: &mut Connection,
        name: &str,
        cancelled: &CancellationToken,
    ) -> Result<(), Stopped> {
        let prepared = Arc::clone(self.prepared.get(name).ok_or_else(|| unknown_statement(name))?);
        if prepared.query().is_none() {
            reply::parameter_description(&mut connection.out, &[]);
            match &prepared.command {
                Command::Show(name) => {
                    let columns = local::show(name, &self.settings)?.schema;
                    reply::row_description(&mut connection.out, &described(&prepared.sql, &columns, &[]));
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
                Some(named) if !values::is_open(*named) => *named,
                _ => ColumnType::of_type(implied).oid(),
            })
            .collect();
        reply::parameter_description(&mut connection.out, &types);
        match prepared.command {
            Command::Query => {
                reply::row_description(&mut connection.out, &described(&prepared.sql, &description.schema, &[]));
            }
            // The rows of a cursor come with `FETCH`, those of a copy in one piece.
            _ => reply::no_data(&mut connection.out),
        }
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

pub(super) fn unknown_statement(name: &str) -> Problem {
    Problem::error("26000", format!("there is no prepared statement `{name}`"))
}

fn unknown_portal(name: &str) -> Problem {
    Problem::error("34000", format!("there is no portal `{name}`"))
}
