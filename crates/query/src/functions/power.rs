//! `power(base, exponent)`, which `^` is too: of doubles, and an error where Postgres has no value.

use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::lacking;

/// Its name.
pub(crate) const NAME: &str = "power";

/// Returns the function.
pub(crate) fn udf() -> Arc<ScalarUDF> {
    static POWER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Power { signature, aliases: vec!["pow".to_owned()] }))
    });
    Arc::clone(&POWER)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Power {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for Power {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if args.arg_fields.len() != 2 {
            return plan_err!("`power` takes two numbers: `power(base, exponent)`");
        }
        lacking::numbers(NAME, &args)?;
        Ok(Arc::new(Field::new(NAME, DataType::Float64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.into_iter().map(|arg| arg.into_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let [bases, exponents] = given.as_slice() else { return exec_err!("`power` takes two numbers") };
        let [bases, exponents] = [lacking::doubles(bases)?, lacking::doubles(exponents)?];
        let both = bases.as_primitive::<Float64Type>().iter().zip(exponents.as_primitive::<Float64Type>());
        let raised = both.map(|both| match both {
            (Some(base), Some(exponent)) => raise(base, exponent).map(Some),
            _ => Ok(None),
        });
        Ok(ColumnarValue::Array(Arc::new(raised.collect::<Result<Float64Array>>()?)))
    }
}

fn raise(base: f64, exponent: f64) -> Result<f64> {
    if base == 0.0 && exponent < 0.0 {
        return exec_err!(
            "zero raised to a negative power is undefined: leave it out, for instance with `nullif(x, 0)`"
        );
    }
    if base < 0.0 && exponent.floor() != exponent && !exponent.is_nan() {
        return exec_err!("a negative number raised to a power that is not whole is no real number: take its `abs`");
    }
    let power = base.powf(exponent);
    let exact = !base.is_finite() || !exponent.is_finite();
    if !exact && power.is_infinite() {
        return exec_err!("{base} ^ {exponent} is larger than a double can be");
    }
    if !exact && power == 0.0 && base != 0.0 {
        return exec_err!("{base} ^ {exponent} is smaller than a double can be");
    }
    Ok(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_postgres() {
        assert_eq!(raise(2.0, 0.5).ok(), Some(2.0_f64.sqrt()));
        assert_eq!(raise(-8.0, 3.0).ok(), Some(-512.0));
        assert_eq!(raise(0.0, 0.0).ok(), Some(1.0));
        assert_eq!(raise(f64::NAN, 0.0).ok(), Some(1.0));
        assert_eq!(raise(1.0, f64::NAN).ok(), Some(1.0));
        assert!(raise(-1.0, f64::NAN).is_ok_and(f64::is_nan));
        assert_eq!(raise(0.5, f64::INFINITY).ok(), Some(0.0));
        assert_eq!(raise(f64::INFINITY, -1.0).ok(), Some(0.0));
        assert_eq!(raise(f64::NEG_INFINITY, 3.0).ok(), Some(f64::NEG_INFINITY));
        for (base, exponent) in [(0.0, -1.0), (0.0, f64::NEG_INFINITY), (-8.0, 0.5), (10.0, 400.0), (10.0, -400.0)] {
            assert!(raise(base, exponent).is_err(), "{base} ^ {exponent}");
        }
    }
}
