//! `text LIKE '%word%'`: the word is looked for in the texts of a batch as they lie in memory, one after the other, and not in each by
//! itself.
//!
//! *Invariants.* It says what the planner's own expression says, which it keeps and asks where texts lie otherwise.
//!
//! *Cost.* One pass over the bytes of a batch, and a step for each row at most.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{LikeExpr, Literal};
use memchr::memmem::Finder;

/// Puts [`Contains`] in place of what it can do in `predicate`.
///
/// # Errors
/// None in practice: no expression refuses its own children.
pub(crate) fn search(predicate: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let searching = predicate.transform_up(|expr| {
        Ok(match Contains::of(&expr) {
            Some(contains) => Transformed::yes(Arc::new(contains) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    })?;
    Ok(searching.data)
}

/// Says whether a text holds a word.
#[derive(Debug)]
struct Contains {
    like: Arc<dyn PhysicalExpr>,
    text: Arc<dyn PhysicalExpr>,
    finder: Finder<'static>,
}

impl Contains {
    fn of(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        let like = expr.downcast_ref::<LikeExpr>()?;
        let pattern = like.pattern().downcast_ref::<Literal>()?;
        let ScalarValue::Utf8(Some(pattern)) = pattern.value() else { return None };
        let word = pattern.strip_prefix('%')?.strip_suffix('%')?;
        let plain = !word.is_empty() && !word.contains(['%', '_', '\\']);
        (plain && !like.negated() && !like.case_insensitive()).then(|| Self {
            like: Arc::clone(expr),
            text: Arc::clone(like.expr()),
            finder: Finder::new(word).into_owned(),
        })
    }
}

/// Says of each text whether it holds what `finder` looks for.
fn holding(texts: &StringArray, finder: &Finder<'_>) -> BooleanArray {
    let offsets = texts.value_offsets();
    let bytes = texts.value_data();
    let mut holds = BooleanBufferBuilder::new(texts.len());
    holds.append_n(texts.len(), false);
    let length = finder.needle().len();
    let end = offsets[texts.len()] as usize;
    let (mut at, mut row) = (offsets[0] as usize, 0);
    while let Some(found) = finder.find(&bytes[at..end]) {
        let found = at + found;
        // The row whose text has the first byte that was found; those before are done.
        row += offsets[row + 1..].partition_point(|next| *next as usize <= found);
        let next = offsets[row + 1] as usize;
        if found + length <= next {
            holds.set_bit(row, true);
            at = next;
        } else {
            // Its end is in another text.
            at = found + 1;
        }
    }
    BooleanArray::new(holds.finish(), texts.nulls().cloned())
}

impl PhysicalExpr for Contains {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.text.evaluate(batch)? {
            ColumnarValue::Array(texts) if texts.data_type() == &DataType::Utf8 => {
                Ok(ColumnarValue::Array(Arc::new(holding(texts.as_string(), &self.finder))))
            }
            _ => self.like.evaluate(batch),
        }
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.like.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.like.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let like = Arc::clone(&self.like).with_new_children(children)?;
        Ok(match Self::of(&like) {
            Some(contains) => Arc::new(contains),
            None => like,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.like.fmt_sql(f)
    }
}

impl fmt::Display for Contains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.like, f)
    }
}

impl PartialEq for Contains {
    fn eq(&self, other: &Self) -> bool {
        self.like.as_ref() == other.like.as_ref()
    }
}

impl Eq for Contains {}

impl Hash for Contains {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.like.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ArrayRef;
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{col, like, lit};
    use proptest::prelude::*;

    fn batch(texts: StringArray) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(texts) as ArrayRef]).expect("a column of text")
    }

    fn expression(pattern: &str, negated: bool, schema: &Schema) -> Arc<dyn PhysicalExpr> {
        let text = col("text", schema).expect("is there");
        like(negated, false, text, lit(pattern), schema).expect("text is like text")
    }

    fn said(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> BooleanArray {
        let array = expr.evaluate(batch).and_then(|said| said.into_array(batch.num_rows())).expect("is evaluated");
        array.as_boolean().clone()
    }

    proptest! {
        #[test]
        fn it_says_what_like_says(
            texts in prop::collection::vec(prop::option::weighted(0.9, "[abä]{0,6}"), 0..40),
            word in "[abä]{1,3}",
            (from, to) in (0_usize..10, 0_usize..10),
        ) {
            let texts = StringArray::from(texts);
            // Also of a slice, whose texts begin in the middle of the bytes.
            let from = from.min(texts.len());
            let texts = texts.slice(from, texts.len() - from - to.min(texts.len() - from));
            let batch = batch(texts);
            let like = expression(&format!("%{word}%"), false, batch.schema_ref());
            let contains = search(Arc::clone(&like)).expect("is rewritten");
            prop_assert!(contains.downcast_ref::<Contains>().is_some());
            prop_assert_eq!(said(&contains, &batch), said(&like, &batch));
            prop_assert_eq!(contains.to_string(), like.to_string());
        }
    }

    #[test]
    fn patterns_with_more_to_them_are_left_to_like() {
        let batch = batch(StringArray::from(vec!["a_b%", "axb"]));
        for (pattern, negated) in [
            ("a%", false),
            ("%a", false),
            ("%%", false),
            ("%", false),
            ("%a_b%", false),
            ("%a%b%", false),
            (r"%a\_b%", false),
            ("%a%", true),
        ] {
            let like = expression(pattern, negated, batch.schema_ref());
            let same = search(Arc::clone(&like)).expect("is looked at");
            assert!(same.downcast_ref::<LikeExpr>().is_some(), "{pattern}");
        }
    }
}
