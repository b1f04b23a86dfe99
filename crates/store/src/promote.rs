//! Which attribute keys get a column of their own in a merged segment, and those columns' values.
//!
//! Keys are chosen from a sample of the rows, the most frequent first, and from what queries asked for; their number is bounded
//! ([`BY_DATA`], [`BY_QUERY`]), so that millions of distinct keys cost nothing but their entries in the map. The map keeps
//! every entry: a column is a faster copy, and a reader that does not know of it misses nothing.
//!
//! *Invariants.* A column holds what the map says of its key in every row: the text of the first entry, null where there is
//! none or where it is empty. Where a column is of integers, their decimals are those texts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int64Builder, MapArray, RecordBatch, StringArray, StringBuilder,
    UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use plimsoll_otlp::value::{INT, letter};

/// Columns for keys that are frequent, at most.
pub(crate) const BY_DATA: usize = 48;
/// Columns for keys that queries asked for, at most.
pub(crate) const BY_QUERY: usize = 16;
/// What the names of such columns begin with; the key follows.
pub(crate) const PREFIX: &str = "attributes.";
/// The column that holds all attributes, and the one with the letters of their types.
pub(crate) const MAP: &str = "attributes";
pub(crate) const TYPES: &str = "attribute_types";

/// A longer key gets no column.
const KEY_BYTES_MAX: usize = 200;
/// Values that are longer than this on average are not worth a copy, unless queries ask for them.
const VALUE_BYTES_MEAN_MAX: usize = 64;
/// A key that fewer of the sampled rows have is not frequent.
const SEEN_MIN: u64 = 4;
/// Distinct keys that are told apart in a sample.
const DISTINCT_MAX: usize = 65_536;

/// An attribute key with a column of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promoted {
    pub(crate) key: String,
    /// All its values are integers; they are text otherwise.
    pub(crate) integers: bool,
}

impl Promoted {
    pub(crate) fn field(&self) -> Field {
        let data_type = if self.integers { DataType::Int64 } else { DataType::Utf8 };
        Field::new(format!("{PREFIX}{}", self.key), data_type, true)
    }

    /// Returns those that a segment with `schema` has.
    pub(crate) fn of(schema: &Schema) -> Vec<Self> {
        let fields = schema.fields().iter();
        let promoted = fields.filter_map(|field| {
            let key = field.name().strip_prefix(PREFIX)?;
            Some(Self { key: key.to_owned(), integers: *field.data_type() == DataType::Int64 })
        });
        promoted.collect()
    }
}

#[derive(Default)]
struct Seen {
    rows: u64,
    bytes: u64,
    other_than_integers: bool,
}

/// What a sample of rows says about their keys.
#[derive(Default)]
pub(crate) struct Sample {
    keys: HashMap<String, Seen>,
}

impl Sample {
    /// Adds rows; the first column is the map, the second the types.
    pub(crate) fn add(&mut self, rows: &RecordBatch) {
        let Some((map, types)) = columns(rows) else { return };
        let (keys, values) = (map.keys().as_dictionary::<UInt32Type>(), map.values().as_string::<i32>());
        let (keys, names) = (keys.keys().values(), keys.values().as_string::<i32>());
        for row in 0..map.len() {
            let types = types.is_valid(row).then(|| types.value(row));
            for (index, at) in entries(map, row).enumerate() {
                let key = names.value(keys[at] as usize);
                if key.len() > KEY_BYTES_MAX || (self.keys.len() >= DISTINCT_MAX && !self.keys.contains_key(key)) {
                    continue;
                }
                let seen = match self.keys.get_mut(key) {
                    Some(seen) => seen,
                    None => self.keys.entry(key.to_owned()).or_default(),
                };
                seen.rows += 1;
                if values.is_valid(at) {
                    seen.bytes += values.value(at).len() as u64;
                    seen.other_than_integers |= letter(types, index) != INT;
                }
            }
        }
    }

    /// Chooses: what the inputs have already and queries want comes first, then what is most frequent. In the order of the keys.
    pub(crate) fn choose(&self, before: &[Promoted], wanted: &[String], text_only: &[String]) -> Vec<Promoted> {
        let mut chosen: BTreeMap<&str, bool> = BTreeMap::new();
        let integers = |key: &str, otherwise: bool| {
            let sampled = self.keys.get(key).map_or(otherwise, |seen| !seen.other_than_integers);
            sampled && !text_only.iter().any(|text| text == key)
        };
        for key in wanted.iter().filter(|key| key.len() <= KEY_BYTES_MAX).take(BY_QUERY) {
            chosen.insert(key, integers(key, false));
        }
        let asked = chosen.len();
        let mut frequent: Vec<(&str, &Seen)> = self
            .keys
            .iter()
            .filter(|(_, seen)| seen.rows >= SEEN_MIN && seen.bytes / seen.rows <= VALUE_BYTES_MEAN_MAX as u64)
            .map(|(key, seen)| (key.as_str(), seen))
            .collect();
        frequent.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then(a.0.cmp(b.0)));
        // A key that was rare in the sample and had a column keeps it, so that columns do not come and go.
        let kept = before.iter().map(|promoted| (promoted.key.as_str(), integers(&promoted.key, promoted.integers)));
        let all = frequent.iter().map(|(key, _)| (*key, integers(key, false))).chain(kept);
        for (key, integers) in all {
            if chosen.len() >= asked + BY_DATA {
                break;
            }
            chosen.entry(key).or_insert(integers);
        }
        chosen.into_iter().map(|(key, integers)| Promoted { key: key.to_owned(), integers }).collect()
    }
}

/// A value that its column cannot hold: the key has to be text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotInteger(pub(crate) String);

enum Column<'a> {
    Text(StringBuilder),
    /// Numbers in the dictionary that the map's values have.
    Numbers(UInt32Builder, &'a ArrayRef),
    Integers(Int64Builder),
}

/// Texts as they are stored: one by one, or numbers of texts in a dictionary.
struct Texts<'a> {
    array: &'a ArrayRef,
    texts: &'a StringArray,
    keys: Option<&'a [u32]>,
}

impl<'a> Texts<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        Some(match array.as_dictionary_opt::<UInt32Type>() {
            Some(dictionary) => {
                Self { array, texts: dictionary.values().as_string_opt()?, keys: Some(dictionary.keys().values()) }
            }
            None => Self { array, texts: array.as_string_opt()?, keys: None },
        })
    }

    fn is_valid(&self, at: usize) -> bool {
        self.array.is_valid(at)
    }

    fn value(&self, at: usize) -> &'a str {
        self.texts.value(self.keys.map_or(at, |keys| keys[at] as usize))
    }
}

/// Takes the values of chosen keys out of maps.
pub(crate) struct Extractor {
    promoted: Vec<Promoted>,
    places: HashMap<String, usize>,
}

impl Extractor {
    pub(crate) fn new(promoted: Vec<Promoted>) -> Self {
        let places = promoted.iter().enumerate().map(|(at, promoted)| (promoted.key.clone(), at)).collect();
        Self { promoted, places }
    }

    /// Returns the columns, in the order in which they were chosen, for rows of the map and of the types. Text comes by number where the
    /// values of the map do.
    pub(crate) fn extract(&self, map: &ArrayRef, types: &ArrayRef) -> Result<Vec<ArrayRef>, NotInteger> {
        let (Some(map), Some(types)) = (map.as_map_opt(), Texts::of(types)) else { return Ok(Vec::new()) };
        let Some(values) = Texts::of(map.values()) else { return Ok(Vec::new()) };
        let mut columns_out: Vec<Column<'_>> = self
            .promoted
            .iter()
            .map(|promoted| match (promoted.integers, values.array.as_dictionary_opt::<UInt32Type>()) {
                (true, _) => Column::Integers(Int64Builder::with_capacity(map.len())),
                (false, Some(dictionary)) => {
                    Column::Numbers(UInt32Builder::with_capacity(map.len()), dictionary.values())
                }
                (false, None) => Column::Text(StringBuilder::new()),
            })
            .collect();
        let keys = map.keys().as_dictionary::<UInt32Type>();
        let (keys, names) = (keys.keys().values(), keys.values().as_string::<i32>());
        let places: Vec<Option<usize>> =
            names.iter().map(|name| self.places.get(name.unwrap_or("")).copied()).collect();
        // Where the entry of each column is in the row at hand; its index says where its type stands.
        let mut found: Vec<Option<(usize, usize)>> = vec![None; self.promoted.len()];
        for row in 0..map.len() {
            found.fill(None);
            for (index, at) in entries(map, row).enumerate() {
                if let Some(place) = places[keys[at] as usize] {
                    found[place].get_or_insert((index, at));
                }
            }
            let types = types.array.is_valid(row).then(|| types.value(row));
            for (place, column) in columns_out.iter_mut().enumerate() {
                let entry = found[place].filter(|(_, at)| values.is_valid(*at));
                match (column, entry) {
                    (Column::Text(column), Some((_, at))) => column.append_value(values.value(at)),
                    (Column::Text(column), None) => column.append_null(),
                    (Column::Numbers(column, _), entry) => {
                        column.append_option(entry.and_then(|(_, at)| values.keys.map(|keys| keys[at])));
                    }
                    (Column::Integers(column), None) => column.append_null(),
                    (Column::Integers(column), Some((index, at))) => {
                        let number = (letter(types, index) == INT).then(|| values.value(at).parse().ok()).flatten();
                        match number {
                            Some(number) => column.append_value(number),
                            None => return Err(NotInteger(self.promoted[place].key.clone())),
                        }
                    }
                }
            }
        }
        let finished = columns_out.into_iter().map(|column| match column {
            Column::Text(mut column) => Arc::new(column.finish()) as ArrayRef,
            Column::Integers(mut column) => Arc::new(column.finish()) as ArrayRef,
            Column::Numbers(mut column, texts) => {
                Arc::new(DictionaryArray::<UInt32Type>::new(column.finish(), Arc::clone(texts))) as ArrayRef
            }
        });
        Ok(finished.collect())
    }
}

fn columns(rows: &RecordBatch) -> Option<(&MapArray, &StringArray)> {
    let map = rows.columns().first()?.as_map_opt()?;
    map.keys().as_dictionary_opt::<UInt32Type>()?;
    Some((map, rows.columns().get(1)?.as_string_opt::<i32>()?))
}

/// The places of a row's entries in the keys and values of the map.
fn entries(map: &MapArray, row: usize) -> std::ops::Range<usize> {
    let offsets = map.value_offsets();
    if map.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{MapBuilder, MapFieldNames, StringDictionaryBuilder};
    use arrow::datatypes::Int64Type;

    type Row<'a> = (&'a [(&'a str, Option<&'a str>)], Option<&'a str>);

    fn rows(rows: &[Row<'_>]) -> RecordBatch {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        let mut map = MapBuilder::new(Some(names), StringDictionaryBuilder::<UInt32Type>::new(), StringBuilder::new());
        for (entries, _) in rows {
            for (key, value) in *entries {
                map.keys().append_value(key);
                map.values().append_option(*value);
            }
            map.append(true).expect("keys and values are even");
        }
        let types: StringArray = rows.iter().map(|(_, types)| *types).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![(MAP, Arc::new(map.finish())), (TYPES, Arc::new(types))];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).expect("columns fit")
    }

    #[test]
    fn a_column_holds_the_first_entry_of_its_key_and_integers_where_all_are() {
        let batch = rows(&[
            (&[("a", Some("x")), ("n", Some("7")), ("a", Some("y"))], Some("sis")),
            (&[("n", None), ("b", Some("z"))], Some("ns")),
            (&[], None),
        ]);
        let promoted =
            vec![Promoted { key: "a".into(), integers: false }, Promoted { key: "n".into(), integers: true }];
        let columns = Extractor::new(promoted).extract(batch.column(0), batch.column(1)).expect("all are integers");
        assert_eq!(columns[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), None, None]);
        assert_eq!(columns[1].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None, None]);
    }

    #[test]
    fn a_text_that_looks_like_a_number_is_no_integer() {
        let batch = rows(&[(&[("n", Some("7"))], None)]);
        let column = Extractor::new(vec![Promoted { key: "n".into(), integers: true }]);
        assert_eq!(column.extract(batch.column(0), batch.column(1)), Err(NotInteger("n".into())));
    }

    #[test]
    fn however_many_keys_there_are_few_become_columns() {
        let mut sample = Sample::default();
        let names: Vec<String> = (0..100_000).map(|n| format!("request.{n}")).collect();
        for chunk in names.chunks(10) {
            let mut entries: Vec<(&str, Option<&str>)> = chunk.iter().map(|name| (name.as_str(), Some("1"))).collect();
            entries.push(("tenant", Some("a")));
            sample.add(&rows(&[(&entries, None)]));
        }
        assert!(sample.keys.len() <= DISTINCT_MAX);
        let chosen = sample.choose(&[], &["asked.for".to_owned()], &[]);
        let keys: Vec<&str> = chosen.iter().map(|promoted| promoted.key.as_str()).collect();
        assert_eq!(keys, ["asked.for", "tenant"], "a key that one row has is not frequent");

        let many: Vec<Promoted> =
            names.iter().take(1_000).map(|key| Promoted { key: key.clone(), integers: true }).collect();
        assert_eq!(sample.choose(&many, &names, &[]).len(), BY_DATA + BY_QUERY);
    }

    #[test]
    fn a_key_is_of_integers_only_if_every_sampled_value_is_one() {
        let mut sample = Sample::default();
        for _ in 0..4 {
            sample.add(&rows(&[(&[("n", Some("7")), ("m", Some("7"))], Some("ii")), (&[("m", Some("x"))], None)]));
        }
        let chosen = sample.choose(&[], &[], &[]);
        assert_eq!(
            chosen.iter().map(|p| (p.key.as_str(), p.integers)).collect::<Vec<_>>(),
            [("m", false), ("n", true)]
        );
        assert!(sample.choose(&[], &[], &["n".to_owned()]).iter().all(|promoted| !promoted.integers));
    }
}
