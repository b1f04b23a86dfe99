//! What an attribute means where a number or a condition is wanted: the marks that [`crate::wanted`] leaves, and what they stand for.
//!
//! They take an attribute, or what is a number or a condition already; anything else is told that it is none. No mark is left once a
//! statement is planned, but of [`TRUTH`] over an attribute.

use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TryCast, Volatility,
};

use super::{FACE, FACE_ATTRIBUTE};

/// The mark of a number.
pub(crate) const NUMBER: &str = "attribute_number";
/// The mark of a condition: true for `true`, false for `false`, null for all else.
pub(crate) const TRUTH: &str = "attribute_truth";

/// The mark of a cast, with how its type is written: see [`crate::apart`].
pub(crate) const APART: &str = "cast_apart";
/// Every mark.
pub(crate) const MARKS: [&str; 3] = [NUMBER, TRUTH, APART];

/// Returns the functions of all marks.
pub(crate) fn udfs() -> [Arc<ScalarUDF>; 3] {
    static ALL: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
        MARKS.map(|name| {
            let arguments = if name == APART { 2 } else { 1 };
            let signature = Signature::any(arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::from(Meant { name, signature }))
        })
    });
    ALL.clone()
}

/// Returns the condition that an attribute is.
pub(crate) fn truth(attribute: Expr) -> Expr {
    let [_, truth, _] = udfs();
    truth.call(vec![attribute])
}

/// Returns what a mark over a value of type `field` stands for; `None` where it stays.
pub(crate) fn settled(mark: &str, value: &Expr, field: &Field) -> Option<Expr> {
    match (mark, is_attribute(field)) {
        (NUMBER, true) => Some(Expr::TryCast(TryCast::new(Box::new(value.clone()), DataType::Float64))),
        (NUMBER | TRUTH, false) | (APART, _) => Some(value.clone()),
        _ => None,
    }
}

fn is_attribute(field: &Field) -> bool {
    field.metadata().get(FACE).is_some_and(|face| face == FACE_ATTRIBUTE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Meant {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Meant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        internal_err!("the type of `{}` depends on what its argument stands for", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let Some(given) = args.arg_fields.first() else { return plan_err!("`{}` takes one argument", self.name) };
        let data_type = given.data_type();
        let textual = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            || matches!(data_type, DataType::Dictionary(..));
        match self.name {
            NUMBER if is_attribute(given) => Ok(Arc::new(Field::new(NUMBER, DataType::Float64, true))),
            NUMBER if textual => plan_err!("text is no number: cast it, for instance `x::double`"),
            TRUTH if is_attribute(given) || *data_type == DataType::Null => {
                Ok(Arc::new(Field::new(TRUTH, DataType::Boolean, true)))
            }
            TRUTH if *data_type != DataType::Boolean => {
                plan_err!(
                    "a value of type {data_type} is no condition: compare it with something, for instance `x > 0`"
                )
            }
            _ => Ok(Arc::clone(given)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(given), TRUTH) = (args.args.into_iter().next(), self.name) else {
            return exec_err!("`{}` takes one attribute", self.name);
        };
        let texts = cast(&given.into_array(args.number_rows)?, &DataType::Utf8)?;
        let truth = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let truths: BooleanArray = texts.as_string::<i32>().iter().map(|text| text.and_then(truth)).collect();
        Ok(ColumnarValue::Array(Arc::new(truths)))
    }
}
