//! The one question of a driver that cannot be asked here, and its answer.
//!
//! asyncpg asks about each type that it meets first, lists of numbers among them, by a query that recurses through domains, composite types
//! and ranges. Here are base types and lists of them, which need no recursion; and recursion is refused.

/// What the query begins with, blanks aside.
const ASKED: &str = "WITH RECURSIVE typeinfo_tree(";

/// Object id of a list of object ids, as which the driver sends the types that it asks about.
const OIDS: u32 = 1028;

/// The same columns, of a type and of that of its elements, elements first. The driver takes kinds and delimiters as bytes.
const ANSWER: &str = "\
    SELECT t.oid AS oid, 'pg_catalog' AS ns, t.typname AS name, arrow_cast(t.typtype, 'Binary') AS kind, \
           CAST(NULL AS INT) AS basetype, t.typelem AS elemtype, arrow_cast(t.typdelim, 'Binary') AS elemdelim, \
           CAST(NULL AS INT) AS range_subtype, CAST(NULL AS TEXT) AS attrtypoids, CAST(NULL AS TEXT) AS attrnames, \
           t.depth AS depth, CAST(NULL AS TEXT) AS basetype_name, e.typname AS elemtype_name, \
           CAST(NULL AS TEXT) AS range_subtype_name \
    FROM (SELECT oid, typname, typtype, typelem, typdelim, 0 AS depth FROM pg_catalog.pg_type WHERE oid = ANY($1) \
          UNION ALL \
          SELECT i.oid, i.typname, i.typtype, i.typelem, i.typdelim, 1 \
          FROM pg_catalog.pg_type a JOIN pg_catalog.pg_type i ON i.oid = a.typelem WHERE a.oid = ANY($1)) t \
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem ORDER BY depth DESC";

/// Returns what is to be run instead of `sql`, and the types of its parameters; mostly what it was given.
pub(super) fn answered(sql: String, types: Vec<u32>) -> (String, Vec<u32>) {
    if sql.trim_start().starts_with(ASKED) { (ANSWER.to_owned(), vec![OIDS]) } else { (sql, types) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_question_of_the_driver_is_answered_otherwise() {
        let asked = "WITH RECURSIVE typeinfo_tree(\n    oid, ns)\nAS (SELECT 1) SELECT 1".to_owned();
        assert_eq!(answered(asked, Vec::new()), (ANSWER.to_owned(), vec![OIDS]));
        let other = "WITH RECURSIVE t(n) AS (SELECT 1) SELECT n FROM t".to_owned();
        assert_eq!(answered(other.clone(), vec![23]), (other, vec![23]));
    }
}
