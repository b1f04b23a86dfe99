//! The query that counts the control by the candidate's zones.

use super::{Scope, among, arm, by, quoted, rows};
use crate::by_zone::ByZone;

/// Failed and all requests of both arms: of the control those in the zones that are compared, with the share that fails by the
/// candidate's mix of them.
pub(crate) fn errors_by_zone(scope: &Scope<'_>, by_zone: &ByZone) -> String {
    format!(
        "WITH cells AS (SELECT {arm} AS arm, errors, requests, \"values\" FROM operations WHERE {rows}), \
         zones AS (SELECT arm, entry['value'] AS zone, CAST(sum(entry['errors']) AS DOUBLE) AS errors, \
         CAST(sum(entry['requests']) AS DOUBLE) AS requests \
         FROM (SELECT arm, unnest(\"values\") AS entry FROM cells) AS entries \
         WHERE entry['attribute'] = {attribute} AND {compared} GROUP BY 1, 2) \
         SELECT 'baseline' AS arm, CAST(sum(theirs.errors) AS BIGINT) AS errors, \
         CAST(sum(theirs.requests) AS BIGINT) AS requests, \
         sum(ours.requests * theirs.errors / theirs.requests) / sum(ours.requests) AS error_rate \
         FROM zones AS theirs JOIN zones AS ours ON theirs.zone = ours.zone \
         WHERE theirs.arm = 'baseline' AND ours.arm = 'candidate' \
         UNION ALL SELECT arm, CAST(sum(errors) AS BIGINT) AS errors, CAST(sum(requests) AS BIGINT) AS requests, \
         CAST(sum(errors) AS DOUBLE) / sum(requests) AS error_rate FROM cells WHERE arm = 'candidate' GROUP BY arm ORDER BY arm",
        arm = arm(scope, by(scope)),
        rows = rows(scope),
        attribute = quoted(by_zone.attribute()),
        compared = among("entry['value']", by_zone.names()),
    )
}
