//! Rows numbered by their group, from the numbers that the values of each key have.
//!
//! A dictionary's values are looked up once each, not once a row: what a row costs is a load for each key, and one more for
//! each key after the first.
//!
//! *Invariants.* Groups are numbered from zero in the order in which they were first seen, without a gap.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, PrimitiveArray, StringArray, UInt32Array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type};
use datafusion::common::{Result, internal_err};

/// Not numbered yet.
const NONE: u32 = u32::MAX;
/// Entries of a table of pairs; beyond it pairs are hashed.
const TABLE_MAX: usize = 1 << 16;

/// The values of one key and their numbers.
struct Key {
    data_type: DataType,
    values: Values,
    /// The number of null, once there was one.
    null: u32,
    count: u32,
}

enum Values {
    Text {
        numbers: HashMap<Box<str>, u32>,
        /// In the order of their numbers; `None` for null.
        texts: Vec<Option<Box<str>>>,
        /// The dictionary seen last, and the numbers of its values.
        last: Option<(ArrayRef, Vec<u32>)>,
    },
    Number {
        numbers: HashMap<i64, u32>,
        all: Vec<Option<i64>>,
    },
}

/// Says whether keys of this type can be numbered, and whether that is a gain.
pub(super) fn takes(data_type: &DataType) -> (bool, bool) {
    match data_type {
        DataType::Dictionary(key, value) => {
            let known = key.as_ref() == &DataType::UInt32 && value.as_ref() == &DataType::Utf8;
            (known, known)
        }
        DataType::Utf8 | DataType::Int64 | DataType::Timestamp(TimeUnit::Nanosecond, _) => (true, false),
        _ => (false, false),
    }
}

impl Key {
    fn new(data_type: &DataType) -> Self {
        let values = match data_type {
            DataType::Int64 | DataType::Timestamp(..) => Values::Number { numbers: HashMap::new(), all: Vec::new() },
            _ => Values::Text { numbers: HashMap::new(), texts: Vec::new(), last: None },
        };
        Self { data_type: data_type.clone(), values, null: NONE, count: 0 }
    }

    /// Appends the number of each row's value to `out`.
    fn number(&mut self, array: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        let Self { data_type, values, null, count } = self;
        match (data_type, values) {
            (DataType::Dictionary(..), Values::Text { numbers, texts, last }) => {
                let Some(array) = array.as_any().downcast_ref::<DictionaryArray<UInt32Type>>() else {
                    return internal_err!("a key is no dictionary");
                };
                let seen = last.take().filter(|(values, _)| Arc::ptr_eq(values, array.values()));
                let (values, mut map) =
                    seen.unwrap_or_else(|| (Arc::clone(array.values()), vec![NONE; array.values().len()]));
                let text = values.as_string::<i32>();
                let mut of = |at: u32, map: &mut [u32]| {
                    let at = at as usize;
                    if map[at] == NONE {
                        map[at] = if text.is_valid(at) {
                            text_number(text.value(at), numbers, texts, count)
                        } else {
                            null_number(null, count, || texts.push(None))
                        };
                    }
                    map[at]
                };
                let keys = array.keys();
                if keys.null_count() == 0 {
                    out.extend(keys.values().iter().map(|key| of(*key, &mut map)));
                } else {
                    for row in 0..keys.len() {
                        let number = if keys.is_valid(row) { of(keys.value(row), &mut map) } else { NONE };
                        out.push(number);
                    }
                    for number in out.iter_mut().filter(|number| **number == NONE) {
                        *number = null_number(null, count, || texts.push(None));
                    }
                }
                *last = Some((values, map));
            }
            (_, Values::Text { numbers, texts, .. }) => {
                let array = array.as_string::<i32>();
                let mut before: Option<(&str, u32)> = None;
                for row in 0..array.len() {
                    if array.is_null(row) {
                        out.push(null_number(null, count, || texts.push(None)));
                        continue;
                    }
                    let text = array.value(row);
                    let number = match before {
                        Some((same, number)) if same == text => number,
                        _ => text_number(text, numbers, texts, count),
                    };
                    before = Some((text, number));
                    out.push(number);
                }
            }
            (DataType::Int64, Values::Number { numbers, all }) => {
                whole(array.as_primitive::<Int64Type>(), numbers, all, null, count, out);
            }
            (_, Values::Number { numbers, all }) => {
                whole(array.as_primitive::<TimestampNanosecondType>(), numbers, all, null, count, out);
            }
        }
        Ok(())
    }

    /// Returns the values of these numbers.
    fn array(&self, of: &[u32]) -> Result<ArrayRef> {
        Ok(match (&self.values, &self.data_type) {
            (Values::Text { texts, .. }, DataType::Dictionary(..)) => {
                // Null is no value of a dictionary but a key that is null.
                let mut places = Vec::with_capacity(texts.len());
                let mut used = 0_u32;
                for text in texts {
                    places.push(text.is_some().then_some(used));
                    used += u32::from(text.is_some());
                }
                let keys: UInt32Array = of.iter().map(|number| places[*number as usize]).collect();
                let values: StringArray = texts.iter().flatten().map(|text| Some(text.as_ref())).collect();
                Arc::new(DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(values))?)
            }
            (Values::Text { texts, .. }, _) => {
                let values: StringArray = of.iter().map(|number| texts[*number as usize].as_deref()).collect();
                Arc::new(values)
            }
            (Values::Number { all, .. }, DataType::Int64) => {
                Arc::new(of.iter().map(|number| all[*number as usize]).collect::<Int64Array>())
            }
            (Values::Number { all, .. }, data_type) => {
                let times: PrimitiveArray<TimestampNanosecondType> =
                    of.iter().map(|number| all[*number as usize]).collect();
                Arc::new(times.with_data_type(data_type.clone()))
            }
        })
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Text { texts, last, .. } => {
                let held: usize = texts.iter().flatten().map(|text| 2 * text.len() + 64).sum();
                held + last.as_ref().map_or(0, |(_, map)| map.len() * 4)
            }
            Values::Number { all, .. } => all.len() * 48,
        }
    }
}

fn null_number(null: &mut u32, count: &mut u32, note: impl FnOnce()) -> u32 {
    if *null == NONE {
        *null = *count;
        *count += 1;
        note();
    }
    *null
}

fn text_number(
    text: &str,
    numbers: &mut HashMap<Box<str>, u32>,
    texts: &mut Vec<Option<Box<str>>>,
    count: &mut u32,
) -> u32 {
    if let Some(number) = numbers.get(text) {
        return *number;
    }
    let number = *count;
    *count += 1;
    numbers.insert(text.into(), number);
    texts.push(Some(text.into()));
    number
}

fn whole<T: ArrowPrimitiveType<Native = i64>>(
    array: &PrimitiveArray<T>,
    numbers: &mut HashMap<i64, u32>,
    all: &mut Vec<Option<i64>>,
    null: &mut u32,
    count: &mut u32,
    out: &mut Vec<u32>,
) {
    let mut before: Option<(i64, u32)> = None;
    for row in 0..array.len() {
        if array.is_null(row) {
            out.push(null_number(null, count, || all.push(None)));
            continue;
        }
        let value = array.value(row);
        let number = match before {
            Some((same, number)) if same == value => number,
            _ => *numbers.entry(value).or_insert_with(|| {
                all.push(Some(value));
                *count += 1;
                *count - 1
            }),
        };
        before = Some((value, number));
        out.push(number);
    }
}

/// Pairs of numbers and the numbers that they have.
#[derive(Default)]
struct Pairs {
    /// By `left << bits | right`, while that is short.
    table: Vec<u32>,
    bits: u32,
    hashed: Option<HashMap<(u32, u32), u32>>,
    made: Vec<(u32, u32)>,
}

impl Pairs {
    /// Replaces each of `left` by the number of its pair with that of `right`, where `right` are below `count`.
    fn number(&mut self, left: &mut [u32], left_count: u32, right: &[u32], count: u32) {
        let bits = u32::BITS - count.max(1).leading_zeros();
        let wanted = (left_count as usize) << bits;
        if self.hashed.is_none() && wanted > TABLE_MAX {
            self.hashed = Some(self.made.iter().zip(0..).map(|(pair, number)| (*pair, number)).collect());
            self.table = Vec::new();
        }
        let Self { table, hashed, made, .. } = self;
        let mut next = |pair: (u32, u32)| {
            made.push(pair);
            made.len() as u32 - 1
        };
        if let Some(hashed) = hashed {
            let mut before = None;
            for (left, right) in left.iter_mut().zip(right) {
                let pair = (*left, *right);
                let number = match before {
                    Some((same, number)) if same == pair => number,
                    _ => *hashed.entry(pair).or_insert_with(|| next(pair)),
                };
                before = Some((pair, number));
                *left = number;
            }
            return;
        }
        if bits != self.bits || table.len() < wanted {
            self.bits = bits;
            table.clear();
            table.resize(wanted, NONE);
            for (number, (left, right)) in made.iter().enumerate() {
                table[(*left as usize) << bits | *right as usize] = number as u32;
            }
        }
        let mut next = |pair: (u32, u32)| {
            made.push(pair);
            made.len() as u32 - 1
        };
        for (left, right) in left.iter_mut().zip(right) {
            let place = &mut table[(*left as usize) << bits | *right as usize];
            if *place == NONE {
                *place = next((*left, *right));
            }
            *left = *place;
        }
    }
}

/// All groups seen so far.
pub(super) struct Groups {
    keys: Vec<Key>,
    pairs: Vec<Pairs>,
    scratch: (Vec<u32>, Vec<u32>),
}

impl Groups {
    /// Makes the groups of keys of these types, each of which [`takes`] takes.
    pub(super) fn new(types: &[DataType]) -> Self {
        let pairs = types.iter().skip(1).map(|_| Pairs::default()).collect();
        Self { keys: types.iter().map(Key::new).collect(), pairs, scratch: Default::default() }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        match self.pairs.last() {
            Some(pairs) => pairs.made.len(),
            None => self.keys.first().map_or(0, |key| key.count as usize),
        }
    }

    /// Puts the number of each row's group into `out`.
    pub(super) fn number(&mut self, arrays: &[ArrayRef], out: &mut Vec<usize>) -> Result<()> {
        let (numbers, right) = &mut self.scratch;
        numbers.clear();
        let mut count = 0;
        for (at, (key, array)) in self.keys.iter_mut().zip(arrays).enumerate() {
            if at == 0 {
                key.number(array, numbers)?;
                count = key.count;
                continue;
            }
            right.clear();
            key.number(array, right)?;
            let pairs = &mut self.pairs[at - 1];
            pairs.number(numbers, count, right, key.count);
            count = pairs.made.len() as u32;
        }
        out.clear();
        out.extend(numbers.iter().map(|number| *number as usize));
        Ok(())
    }

    /// Returns the keys of all groups, in their order.
    pub(super) fn keys(&self) -> Result<Vec<ArrayRef>> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        let mut arrays = Vec::with_capacity(self.keys.len());
        for (at, key) in self.keys.iter().enumerate().rev() {
            if at == 0 {
                arrays.push(key.array(&numbers)?);
                break;
            }
            let made = &self.pairs[at - 1].made;
            let right: Vec<u32> = numbers.iter().map(|number| made[*number as usize].1).collect();
            arrays.push(key.array(&right)?);
            numbers.iter_mut().for_each(|number| *number = made[*number as usize].0);
        }
        arrays.reverse();
        Ok(arrays)
    }

    /// Returns the bytes that they hold, about.
    pub(super) fn bytes(&self) -> usize {
        let pairs = |pairs: &Pairs| {
            pairs.table.capacity() * 4
                + pairs.made.capacity() * 8
                + pairs.hashed.as_ref().map_or(0, |all| all.len() * 24)
        };
        self.keys.iter().map(Key::bytes).sum::<usize>() + self.pairs.iter().map(pairs).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringDictionaryBuilder, TimestampNanosecondArray};
    use arrow::compute::cast;
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Row = (Option<u8>, Option<u8>, Option<i64>);

    fn arrays(rows: &[Row]) -> Vec<ArrayRef> {
        let mut shared = StringDictionaryBuilder::<UInt32Type>::new();
        rows.iter().for_each(|row| shared.append_option(row.0.map(|n| format!("value {n}"))));
        let text: StringArray = rows.iter().map(|row| row.1.map(|n| n.to_string())).collect();
        let times: TimestampNanosecondArray = rows.iter().map(|row| row.2).collect();
        vec![Arc::new(shared.finish()), Arc::new(text), Arc::new(times.with_timezone("UTC"))]
    }

    fn shown(keys: &[ArrayRef], row: usize) -> Vec<String> {
        let text = |array: &ArrayRef| array_value_to_string(&cast(array, &DataType::Utf8).expect("text"), row);
        keys.iter().map(|array| format!("{} {}", array.is_null(row), text(array).expect("shown"))).collect()
    }

    proptest! {
        #[test]
        fn rows_with_equal_keys_and_no_others_have_one_number(
            rows in prop::collection::vec(
                (prop::option::of(0_u8..40), prop::option::of(any::<u8>()), prop::option::of(0_i64..60)), 1..400),
            size in 1_usize..100,
            keys in 1_usize..4,
        ) {
            let types: Vec<DataType> = arrays(&rows).iter().take(keys).map(|array| array.data_type().clone()).collect();
            let (mut groups, mut wanted) = (Groups::new(&types), BTreeMap::new());
            let mut out = Vec::new();
            for part in rows.chunks(size) {
                let part = &arrays(part)[..keys];
                groups.number(part, &mut out).expect("numbered");
                for (row, number) in out.iter().enumerate() {
                    let known = wanted.entry(shown(part, row)).or_insert(*number);
                    prop_assert_eq!(*known, *number);
                }
            }
            prop_assert_eq!(groups.len(), wanted.len());
            let told = groups.keys().expect("keys");
            prop_assert_eq!(told.iter().map(|array| array.data_type().clone()).collect::<Vec<_>>(), types);
            for (shown_as, number) in wanted {
                prop_assert_eq!(shown(&told, number), shown_as);
            }
        }
    }

    #[test]
    fn many_pairs_are_hashed_and_keep_their_numbers() {
        let types = [DataType::Int64, DataType::Int64];
        let mut groups = Groups::new(&types);
        let (mut out, mut first) = (Vec::new(), Vec::new());
        for round in 0..2 {
            for left in 0..600_i64 {
                let arrays: Vec<ArrayRef> =
                    vec![Arc::new(Int64Array::from(vec![left; 300])), Arc::new((0..300).collect::<Int64Array>())];
                groups.number(&arrays, &mut out).expect("numbered");
                if round == 0 { first.push(out.clone()) } else { assert_eq!(first[left as usize], out) }
            }
        }
        assert_eq!(groups.len(), 180_000);
    }
}
