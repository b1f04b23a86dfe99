//! `spans_around(deploy, before, after)`, `logs_around(..)` and `metrics_around(..)`: the rows of a deploy's service around its start, each marked with
//! its phase and its role.
//!
//! Deploys are looked up before planning starts, because a table function cannot wait; the function then only builds a plan,
//! with the times as ordinary filters, so that segments are pruned as they are for any other query.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident, lit, when};
use plimsoll_model::{Deploy, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::UTC;

use super::Tables;
use super::face::{self, Face};
use crate::error::QueryError;
use crate::postgres::interval;
use crate::session::Facts;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The deploys that a statement names, by id.
pub(crate) type Deploys = Arc<HashMap<String, Deploy>>;

/// One of the three functions, for one query.
#[derive(Debug)]
pub(crate) struct Around {
    table: Table,
    tables: Arc<Tables>,
    deploys: Deploys,
    describing: bool,
}

impl Around {
    /// Returns the functions with their names.
    pub(crate) fn functions(tables: &Arc<Tables>, facts: &Facts) -> [(&'static str, Arc<Self>); 3] {
        let all = [("spans_around", Table::Spans), ("logs_around", Table::Logs), ("metrics_around", Table::Metrics)];
        all.map(|(name, table)| {
            let (deploys, describing) = (Arc::clone(&facts.around), facts.describing);
            (name, Arc::new(Self { table, tables: Arc::clone(tables), deploys, describing }))
        })
    }

    fn name(&self) -> String {
        format!("{}_around", self.table.name())
    }
}

impl TableFunctionImpl for Around {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        if self.describing
            && args.exprs().len() == 3
            && args.exprs().iter().any(|arg| !matches!(arg, Expr::Literal(..)))
        {
            return self.rows_of(&ServiceKey::new("", ""), "", UnixNanos(0), [0, 0]);
        }
        let [Expr::Literal(id, _), before, after] = args.exprs() else {
            return Err(invalid(format!(
                "`{0}` takes three arguments, for instance `{0}('dep_..', '10m', '10m')`",
                self.name()
            )));
        };
        let id = id.try_as_str().flatten().unwrap_or_default();
        let deploy = self.deploys.get(id).ok_or_else(|| {
            invalid(format!("unknown deploy `{id}`: `SELECT id FROM deploys ORDER BY started_at DESC` lists them"))
        })?;
        self.rows_of(&deploy.service, &deploy.version, deploy.started_at, [nanos(before)?, nanos(after)?])
    }
}

impl Around {
    /// Plans the rows of `service` from so many nanoseconds before `started` to so many after.
    fn rows_of(
        &self,
        service: &ServiceKey,
        version: &str,
        started: UnixNanos,
        [before, after]: [i64; 2],
    ) -> Result<Arc<dyn TableProvider>> {
        let started = i128::from(started.as_i64());
        let (from, to) = (started - i128::from(before), started + i128::from(after));
        let time = ident(self.table.time_column());
        let filter = time
            .clone()
            .gt_eq(instant(from))
            .and(time.clone().lt(instant(to)))
            .and(ident("service_name").eq(lit(&service.service)))
            .and(ident("service_namespace").eq(lit(&service.namespace)))
            .and(ident("environment").eq(lit(&service.environment)));
        let face = face::plan(self.table, self.tables.stored(self.table))?;
        let mut columns: Vec<Expr> = face.schema().columns().into_iter().map(Expr::Column).collect();
        columns.push(when(time.lt(instant(started)), lit("before")).otherwise(lit("after"))?.alias("deploy_phase"));
        columns.push(
            when(ident("service_version").eq(lit(version)), lit("candidate"))
                .otherwise(lit("baseline"))?
                .alias("deploy_role"),
        );
        LogicalPlanBuilder::from(face).filter(filter)?.project(columns)?.build().map(Face::table)
    }
}

fn invalid(text: String) -> datafusion::error::DataFusionError {
    QueryError::Invalid(text).into()
}

fn instant(nanos: i128) -> Expr {
    let nanos = i64::try_from(nanos.clamp(0, i128::from(UnixNanos::MAX.0))).unwrap_or(i64::MAX);
    Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), Some(UTC.into())), None)
}

/// Reads a length of time: an `INTERVAL`, text like `10m`, `1h30m`, `90s`, or what an interval is written as.
fn nanos(expr: &Expr) -> Result<i64> {
    let read = match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => of_interval(*interval),
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => i64::from(interval.days)
            .checked_mul(NANOS_PER_DAY)
            .and_then(|days| days.checked_add(i64::from(interval.milliseconds) * 1_000_000)),
        Expr::Literal(value, _) => {
            value.try_as_str().flatten().and_then(|text| of_text(text).or_else(|| of_interval(interval::read(text)?)))
        }
        _ => None,
    };
    read.filter(|nanos| *nanos >= 0).ok_or_else(|| {
        let written = match expr {
            Expr::Literal(value, _) => value.to_string(),
            other => other.to_string(),
        };
        invalid(format!("`{written}` is not a length of time: write `'10m'`, `'1h30m'` or `INTERVAL '10 minutes'`"))
    })
}

fn of_interval(interval: IntervalMonthDayNano) -> Option<i64> {
    let days = i64::from(interval.months).checked_mul(30)?.checked_add(i64::from(interval.days))?;
    days.checked_mul(NANOS_PER_DAY)?.checked_add(interval.nanoseconds)
}

fn of_text(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" | "sec" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => NANOS_PER_DAY,
            _ => return None,
        };
        total = total.checked_add(amount.checked_mul(unit)?)?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_in_every_unit() {
        assert_eq!(of_text("10m"), Some(600_000_000_000));
        assert_eq!(of_text("1h30m"), of_text("90 minutes"));
        assert_eq!(of_text("2 d"), Some(2 * NANOS_PER_DAY));
        for wrong in ["", "m", "10", "10 parsecs", "-1m", "99999999999999d"] {
            assert_eq!(of_text(wrong), None, "{wrong}");
        }
    }
}
