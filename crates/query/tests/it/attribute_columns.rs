//! Attribute keys with a column of their own are read by it where a segment has it, and nobody can tell from the rows.

use plimsoll_otlp::{Signal, Table};

use crate::fixture::{Shop, limits, traces};

const QUESTIONS: [&str; 14] = [
    "SELECT attributes['http.route'] AS route, count(*) FROM spans GROUP BY route ORDER BY route",
    "SELECT count(*) FROM spans WHERE attributes['http.route'] = '/charge'",
    "SELECT count(*), sum(attributes['http.response.status_code']) FROM spans \
        WHERE attributes['http.response.status_code'] >= 200 AND attributes['http.route'] IS NOT NULL",
    "SELECT count(*) FROM spans WHERE attributes['http.response.status_code'] = '200'",
    "SELECT count(*) FROM spans WHERE attributes['nobody.has.it'] IS NOT NULL",
    "SELECT attributes['http.route'], attributes FROM spans ORDER BY start_time LIMIT 3",
    "SELECT name FROM spans WHERE attributes['http.route'] LIKE '/ch%' ORDER BY name, start_time LIMIT 2",
    "SELECT a.route, count(*) FROM (SELECT trace_id, attributes['http.route'] AS route FROM spans) a \
        JOIN spans b ON a.trace_id = b.trace_id WHERE a.route <> '' GROUP BY a.route ORDER BY a.route",
    "SELECT a.attributes['http.route'] AS x, b.attributes['retries'] AS y, count(*) FROM spans a \
        JOIN spans b ON a.trace_id = b.trace_id GROUP BY x, y ORDER BY x, y LIMIT 5",
    "SELECT s.m['http.route'] AS route, max(s.name) FROM (SELECT name, attributes AS m FROM spans ORDER BY start_time LIMIT 7) s \
        GROUP BY route",
    "SELECT name FROM (SELECT upper(name) AS name, attributes FROM (SELECT name, attributes FROM spans LIMIT 3)) \
        WHERE attributes['http.route'] IS NOT NULL",
    "SELECT name, attributes['http.route'] AS route FROM (SELECT upper(name) AS name, attributes \
        FROM (SELECT name, attributes FROM spans LIMIT 3))",
    "SELECT trace_id, attributes['http.route'] AS a, attributes['nobody.has.it'] AS b, attributes FROM spans \
        WHERE attributes['http.route'] IS NOT NULL OR attributes['nobody.has.it'] IS NOT NULL \
        UNION ALL SELECT trace_id, attributes['c'], attributes['d'], attributes FROM span_events ORDER BY 1, 2 LIMIT 4",
    "SELECT attributes['http.route'] AS route, kind, count(*) FROM spans \
        GROUP BY GROUPING SETS ((attributes['http.route']), (kind), (attributes['http.route'], kind)) ORDER BY 1, 2",
];

/// The same rows: in memory as they came, or merged but for a small segment and a tail.
async fn shop(merged: bool) -> Shop {
    let mut shop = Shop::empty(limits()).await;
    for round in 0..10 {
        shop.publish(Signal::Traces, &traces(round * 10..round * 10 + 10));
        if merged && round < 9 {
            shop.store.flush().await.expect("flushes");
        }
        if merged && round == 7 {
            let segments = || shop.store.snapshot().segments(Table::Spans);
            while segments().len() > 1 {
                shop.store.maintain().await.expect("maintained");
            }
        }
    }
    shop
}

#[tokio::test]
async fn answers_are_the_same_whether_or_not_keys_have_columns() {
    let (plain, merged) = (shop(false).await, shop(true).await);
    assert_eq!(plain.store.snapshot().segments(Table::Spans).len(), 0);
    assert_eq!(merged.store.snapshot().segments(Table::Spans).len(), 2, "one with columns, one without");
    for question in QUESTIONS {
        let expected = plain.csv(question).await.unwrap_or_else(|problem| panic!("{question}: {problem}"));
        assert_eq!(merged.csv(question).await, Ok(expected), "{question}");
    }
}

#[tokio::test]
async fn a_column_computed_above_the_stored_one_of_its_name_is_not_taken_for_it() {
    let shop = shop(true).await;
    let shouted = shop.csv(QUESTIONS[10]).await;
    assert_eq!(shouted.as_deref(), Ok("POST /CHARGE\nPOST /CHARGE\nPOST /CHARGE\n"));
    let ids = "SELECT DISTINCT length(trace_id) FROM (SELECT trace_id, attributes FROM spans LIMIT 3) \
        WHERE attributes['http.route'] = '/charge'";
    assert_eq!(shop.csv(ids).await.as_deref(), Ok("32\n"));
}

#[tokio::test]
async fn the_map_is_not_read_through_subqueries_and_joins_either() {
    let shop = shop(true).await;
    for sql in [
        "SELECT s.m['http.route'], count(*) FROM (SELECT attributes AS m FROM spans ORDER BY start_time LIMIT 7) s GROUP BY 1",
        "SELECT a.attributes['http.route'], count(*) FROM spans a JOIN deploys d ON a.service_name = d.service_name GROUP BY 1",
    ] {
        let plan = shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
        let physical = plan.split("physical_plan").nth(1).expect("has a physical plan");
        let columns: Vec<&str> = physical.lines().filter(|line| line.contains("projection=[")).collect();
        assert!(columns.iter().any(|line| line.contains("attributes.http.route")), "{plan}");
    }
}

#[tokio::test]
async fn the_map_is_not_read_where_there_is_a_column() {
    let shop = shop(true).await;
    let plan = async |sql: &str| shop.csv(&format!("EXPLAIN {sql}")).await.expect("explains");
    let physical = |plan: &str| plan.split("physical_plan").nth(1).expect("has a physical plan").to_owned();
    let grouped = physical(&plan(QUESTIONS[0]).await);
    // Of the two segments one has the column: it is read in place of the map.
    let segments: Vec<&str> = grouped.lines().filter(|line| line.contains(".parquet")).collect();
    let (maps, columns): (Vec<&str>, Vec<&str>) =
        segments.iter().partition(|line| line.contains("attribute(") || line.contains("attributes@"));
    assert_eq!((maps.len(), columns.len()), (1, 1), "{grouped}");
    assert!(columns[0].contains("projection=[attributes.http.route]"), "{grouped}");
    let filtered = physical(&plan(QUESTIONS[1]).await);
    assert!(filtered.contains("predicate=attributes.http.route@"), "{filtered}");
    let number =
        physical(&plan("SELECT count(*) FROM spans WHERE attributes['http.response.status_code'] > 300").await);
    assert!(number.contains("attributes.http.response.status_code@"), "{number}");
}
