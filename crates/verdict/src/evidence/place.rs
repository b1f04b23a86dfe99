//! The query that tells how many requests had what an excess of failures has in common.

use plimsoll_model::drill::Draws;
use plimsoll_model::verdict::Common;

use super::{Scope, arm, by, quoted, rows};

/// Failed and all requests of both arms, beside those that had the value; of two values how many of the failures drawn had both.
pub(crate) fn place(scope: &Scope<'_>, place: &Common) -> String {
    let (arm, rows) = (arm(scope, by(scope)), rows(scope));
    let is = |entry: &str, condition: &str| {
        let (attribute, value) = condition.split_once('=').unwrap_or((condition, ""));
        format!("{entry}['attribute'] = {} AND {entry}['value'] = {}", quoted(attribute), quoted(value))
    };
    let Some(and) = &place.and else {
        return format!(
            "WITH cells AS (SELECT {arm} AS arm, errors, requests, \"values\" FROM operations WHERE {rows}), \
             there AS (SELECT arm, CAST(sum(entry['errors']) AS BIGINT) AS errors, \
             CAST(sum(entry['requests']) AS BIGINT) AS requests \
             FROM (SELECT arm, unnest(\"values\") AS entry FROM cells) AS entries WHERE {is} GROUP BY arm), \
             served AS (SELECT arm, sum(errors) AS errors, sum(requests) AS requests FROM cells GROUP BY arm) \
             SELECT served.arm, served.errors, served.requests, coalesce(there.errors, 0) AS errors_there, \
             coalesce(there.requests, 0) AS requests_there FROM served LEFT JOIN there ON served.arm = there.arm ORDER BY 1",
            is = is("entry", &place.name),
        );
    };
    format!(
        "WITH cells AS (SELECT {arm} AS arm, service_version, operation, kind, instance_age, bucket_start, errors, requests, \
         failed_draws FROM operations WHERE {rows}), \
         draws AS (SELECT arm, draw['request'] AS request, \
         max(CASE WHEN {one} THEN 1 ELSE 0 END) + max(CASE WHEN {other} THEN 1 ELSE 0 END) AS conditions, \
         row_number() OVER (PARTITION BY arm, service_version, operation, kind, instance_age, bucket_start \
         ORDER BY draw['request']) AS nth FROM (SELECT arm, service_version, operation, kind, instance_age, bucket_start, \
         unnest(failed_draws) AS draw FROM cells) AS entries \
         GROUP BY arm, service_version, operation, kind, instance_age, bucket_start, draw['request']), \
         drawn AS (SELECT arm, count(*) AS failures_drawn, sum(CASE WHEN conditions = 2 THEN 1 ELSE 0 END) AS drawn_there \
         FROM draws WHERE nth <= {max} GROUP BY arm), \
         served AS (SELECT arm, sum(errors) AS errors, sum(requests) AS requests FROM cells GROUP BY arm) \
         SELECT served.arm, errors, requests, coalesce(failures_drawn, 0) AS failures_drawn, \
         coalesce(drawn_there, 0) AS drawn_there FROM served LEFT JOIN drawn ON served.arm = drawn.arm ORDER BY 1",
        one = is("draw", &place.name),
        other = is("draw", and),
        max = Draws::FAILED_MAX,
    )
}
