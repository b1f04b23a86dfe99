//! Single bits of a segment that change while the server runs: an answer is right or an error that names the segment.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use plimsoll_otlp::{Signal, Table};
use plimsoll_query::{DataFusionEngine, Format, QueryError, QueryRequest, QueryResult, SqlEngine};

use crate::fixture::{Shop, limits, traces};

/// What prunes by bloom filters, by bounds of chunks and of pages, what reads all columns, and what only counts.
const ASKED: &[&str] = &[
    "SELECT name, duration_ns FROM spans WHERE trace_id = 'abababababababab00000000000000c8'",
    "SELECT count(*), sum(duration_ns) FROM spans WHERE start_time BETWEEN '2023-11-14T22:20:00Z' AND '2023-11-14T22:25:00Z'",
    "SELECT count(*), max(duration_ns), count(DISTINCT span_id), max(http_route) FROM spans WHERE service_version = '2.0.0'",
    "SELECT * FROM spans ORDER BY start_time DESC, span_id LIMIT 40",
    "SELECT count(*) FROM spans",
    "SELECT attributes['retries'], count(*) FROM spans WHERE status_code = 'error' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5",
];

/// Changes a region gets.
const CHANGES: u64 = 5;

/// The regions of a segment, by name.
fn regions(file: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    let metadata: ParquetMetaData = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&Bytes::copy_from_slice(file))
        .expect("a Parquet file");
    let size = file.len();
    let length = u32::from_le_bytes(file[size - 8..size - 4].try_into().expect("four bytes")) as usize;
    let footer = size - 8 - length;
    let mut regions = vec![
        ("letters at the start", 0..4),
        ("checksums", footer - 200..footer),
        ("footer", footer..size - 8),
        ("end of the footer", size - 8 - length / 4..size - 8),
        ("length of the footer", size - 8..size - 4),
        ("letters at the end", size - 4..size),
    ];
    let range = |range: Range<u64>| range.start as usize..range.end as usize;
    for column in metadata.row_group(0).columns() {
        let (start, length) = column.byte_range();
        let chunk = range(start..start + length);
        let name = column.column_path().string();
        if ["trace_id", "start_time", "duration_ns", "name", "status_code", "service_version", "span_id"]
            .contains(&name.as_str())
        {
            regions.push(("page header", chunk.start..chunk.start + 16));
            regions.push(("page", chunk.start + 16..chunk.end));
            for (name, at, length) in [
                ("column index", column.column_index_offset(), column.column_index_length()),
                ("offset index", column.offset_index_offset(), column.offset_index_length()),
            ] {
                let region = at.zip(length).map(|(at, length)| at as usize..at as usize + length as usize);
                regions.extend(region.map(|region| (name, region)));
            }
        }
        if let (Some(at), Some(length)) = (column.bloom_filter_offset(), column.bloom_filter_length()) {
            regions.push(("bloom filter", at as usize..at as usize + length as usize));
        }
    }
    regions
}

async fn csv(result: QueryResult) -> Result<String, QueryError> {
    let chunks: Vec<Bytes> = Format::Csv.encode(result).try_collect().await?;
    Ok(String::from_utf8(chunks.concat()).expect("CSV is text"))
}

async fn answers(shop: &Shop, without: bool) -> Vec<(Result<String, QueryError>, Vec<String>)> {
    // A new engine knows no footers.
    let engine = DataFusionEngine::new(shop.store.clone(), Arc::clone(&shop.catalog), limits()).expect("an engine");
    let mut answers = Vec::new();
    for sql in ASKED {
        let request = QueryRequest { allow_missing_segments: without, ..QueryRequest::new(*sql) };
        answers.push(match engine.query(request).await {
            Ok(result) => {
                let missing = result.missing_segments.clone();
                (csv(result).await, missing)
            }
            Err(error) => (Err(error), Vec::new()),
        });
    }
    answers
}

fn texts(answers: Vec<(Result<String, QueryError>, Vec<String>)>) -> Vec<String> {
    answers.into_iter().map(|(text, _)| text.expect("nothing is damaged")).collect()
}

#[tokio::test]
async fn a_bit_that_changed_anywhere_in_a_segment_never_gives_a_wrong_answer() {
    let mut shop = Shop::empty(limits()).await;
    shop.publish(Signal::Traces, &traces(100_000..100_010));
    shop.store.flush().await.expect("flushes");
    let of_the_other = texts(answers(&shop, false).await);
    shop.publish(Signal::Traces, &traces(0..1_000));
    shop.store.flush().await.expect("flushes");
    let of_both = texts(answers(&shop, false).await);
    let segments = shop.store.snapshot().segments(Table::Spans);
    let path = segments.iter().find(|segment| segment.rows == 1_000).expect("was flushed").path.clone();
    let file = shop.segment_file(&path);
    let whole = fs::read(&file).expect("is there");

    let mut state = 0x5eed_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let regions = regions(&whole);
    assert!(
        regions.iter().any(|(name, _)| *name == "bloom filter")
            && regions.iter().any(|(name, _)| *name == "column index")
    );
    let mut named = 0;
    for (name, region) in &regions {
        for _ in 0..CHANGES {
            let (at, bit) = (region.start + random(region.len()), random(8));
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            fs::write(Path::new(&file), &changed).expect("can be written");
            let place = format!("{name}, byte {at}, bit {bit}");
            for (number, (answer, _)) in answers(&shop, false).await.into_iter().enumerate() {
                match answer {
                    Ok(text) => assert_eq!(text, of_both[number], "{place}: {}", ASKED[number]),
                    Err(QueryError::Unreadable(text)) => {
                        assert!(text.contains(&format!("`{path}`")), "{place}: {}: {text}", ASKED[number]);
                        named += 1;
                    }
                    Err(other) => panic!("{place}: {}: {other:?}", ASKED[number]),
                }
            }
            for (number, (answer, missing)) in answers(&shop, true).await.into_iter().enumerate() {
                let text = answer.unwrap_or_else(|error| panic!("{place}: {}: {error:?}", ASKED[number]));
                let wanted = if missing.is_empty() { &of_both } else { &of_the_other };
                assert_eq!(text, wanted[number], "{place}, without {missing:?}: {}", ASKED[number]);
                assert!(missing.is_empty() || missing == [path.as_str()], "{place}: {missing:?}");
            }
        }
    }
    assert!(named > regions.len(), "most changes are in the way of some answer: {named}");
}
