//! The query that reproduces the level of a metric.

use std::collections::BTreeSet;

use plimsoll_model::metric::MetricShape;
use plimsoll_model::signal::WEIGHT_UNIT;

use super::{
    Scope, among, arm, by_detail, by_requests, of_requests, own, quoted, requests_of, sides, table, weighted_requests,
};
use crate::metrics::Each;

/// The level of a metric: the mean over the minutes compared.
pub(crate) fn metric(
    scope: &Scope<'_>,
    (name, unit, shape, each): (&str, &str, MetricShape, Each),
    details: &BTreeSet<String>,
) -> String {
    let value = match each {
        Each::Request => "sum(sum)",
        Each::Point => "sum(sum) / greatest(CAST(sum(points) AS DOUBLE), 1.0)",
        Each::Observation => "sum(sum) / greatest(CAST(sum(count) AS DOUBLE), 1.0)",
    };
    let by = by_detail(scope, details);
    let minutes = format!(
        "SELECT {arm} AS arm, date_trunc('minute', bucket_start) AS moment, {value} AS value FROM signals \
         WHERE {own} AND kind = 'metric' AND name = {name} AND unit = {unit} AND role = '{shape}' AND {details} AND {sides} \
         GROUP BY 1, 2",
        arm = arm(scope, by),
        own = own(scope),
        name = quoted(name),
        unit = quoted(unit),
        shape = shape.as_str(),
        details = among("detail", details.iter().map(String::as_str)),
        sides = sides(scope, by)
    );
    if each != Each::Request {
        return format!(
            "WITH minutes AS ({minutes}) \
             SELECT arm, count(*) AS minutes, avg(value) AS level FROM minutes GROUP BY arm ORDER BY arm"
        );
    }
    format!(
        "WITH minutes AS ({minutes}), \
         served AS (SELECT {arm} AS arm, date_trunc('minute', bucket_start) AS moment, {requests} AS requests \
         FROM {table} WHERE {own} AND {sides} GROUP BY 1, 2) \
         SELECT minutes.arm AS arm, count(*) AS minutes, avg(value / greatest(requests, 1.0)) AS level \
         FROM minutes JOIN served ON minutes.arm = served.arm AND minutes.moment = served.moment \
         WHERE requests > 0 GROUP BY 1 ORDER BY 1",
        arm = arm(scope, by_requests(scope)),
        requests = requests_served(scope),
        table = table(scope),
        own = of_requests(scope),
        sides = sides(scope, by_requests(scope))
    )
}

/// Requests that rows stand for, those of sampled spans by their weight.
fn requests_served(scope: &Scope<'_>) -> String {
    if scope.metric.is_some() {
        return format!("CAST({} AS DOUBLE)", requests_of(scope));
    }
    let requests = if scope.flag.is_some() { "count" } else { "requests" };
    format!("sum(greatest({} / {WEIGHT_UNIT}.0, CAST({requests} AS DOUBLE)))", weighted_requests(scope))
}
