//! `latest_deploy(service, environment, time)`: the id of the deploy of a service that had started last at a time; null where
//! there was none. A fourth argument names the namespace; without it the deploys of all namespaces count.
//!
//! Deploys are read from the catalog before planning starts, because a function cannot wait (`planning.rs`).
//!
//! *Cost.* Deploys are sorted for each service and environment once a query; a row costs a hash of its names, unless they are
//! those of the row before, and a binary search. Ids come out as a dictionary, so that rows group by four bytes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, DictionaryArray, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimestampNanosecondType, UInt32Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use plimsoll_model::Deploy;
use plimsoll_otlp::schema::timestamp;

/// Name of the function.
pub(crate) const NAME: &str = "latest_deploy";

/// When deploys of one service began, ascending, and their numbers.
type Starts = Vec<(i64, u32)>;

/// The service that was looked up last, and what was found.
type Known<'a> = (Vec<Option<&'a str>>, Option<&'a Starts>);

/// When each service was deployed.
pub(crate) struct DeployIndex {
    ids: Arc<StringArray>,
    /// Start and place in `ids`, ascending, by service, environment and, where it matters, namespace.
    starts: HashMap<(String, String, Option<String>), Starts>,
}

impl Default for DeployIndex {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl DeployIndex {
    /// Sorts `deploys`.
    pub(crate) fn new(deploys: &[Deploy]) -> Self {
        let mut starts: HashMap<_, Vec<(i64, u32)>> = HashMap::new();
        for (at, deploy) in deploys.iter().enumerate() {
            let Ok(at) = u32::try_from(at) else { break };
            let service = &deploy.service;
            for namespace in [None, Some(service.namespace.clone())] {
                let key = (service.service.clone(), service.environment.clone(), namespace);
                starts.entry(key).or_default().push((deploy.started_at.as_i64(), at));
            }
        }
        for list in starts.values_mut() {
            // Of two that started at once, the one with the greater id counts, whatever order they came in.
            list.sort_unstable_by(|a, b| {
                let id = |at: u32| deploys.get(at as usize).map(|deploy| deploy.id.as_str());
                a.0.cmp(&b.0).then_with(|| id(a.1).cmp(&id(b.1)))
            });
        }
        let ids: StringArray = deploys.iter().map(|deploy| Some(deploy.id.as_str())).collect();
        Self { ids: Arc::new(ids), starts }
    }

    fn latest(list: &[(i64, u32)], time: i64) -> Option<u32> {
        let after = list.partition_point(|(start, _)| *start <= time);
        after.checked_sub(1).and_then(|at| list.get(at)).map(|(_, id)| *id)
    }
}

impl fmt::Debug for DeployIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeployIndex").field("deploys", &self.ids.len()).finish_non_exhaustive()
    }
}

/// Makes the function of one query.
pub(crate) fn udf(index: Arc<DeployIndex>) -> Arc<ScalarUDF> {
    // Stable: the same call later, after another deploy, gives another answer.
    Arc::new(ScalarUDF::from(LatestDeploy { index, signature: Signature::variadic_any(Volatility::Stable) }))
}

#[derive(Debug)]
struct LatestDeploy {
    index: Arc<DeployIndex>,
    signature: Signature,
}

impl PartialEq for LatestDeploy {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
    }
}

impl Eq for LatestDeploy {}

impl Hash for LatestDeploy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

fn returned() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

impl ScalarUDFImpl for LatestDeploy {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        if !matches!(args.len(), 3 | 4) {
            return plan_err!(
                "`{NAME}` takes three arguments and may take the namespace as a fourth, for instance \
                 `{NAME}(service_name, environment, start_time)`"
            );
        }
        let is_time = matches!(
            &args[2],
            DataType::Timestamp(..)
                | DataType::Date32
                | DataType::Date64
                | DataType::Utf8
                | DataType::Utf8View
                | DataType::LargeUtf8
                | DataType::Dictionary(..)
                | DataType::Null
        );
        if !is_time {
            return plan_err!("the third argument of `{NAME}` is a time, for instance `start_time` or `now()`");
        }
        Ok(returned())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut given = Vec::with_capacity(args.args.len());
        for (at, value) in args.args.into_iter().enumerate() {
            let wanted = if at == 2 { timestamp() } else { DataType::Utf8 };
            // A text that is no time is a mistake, and no time at which nothing was deployed.
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            given.push(cast_with_options(&value.into_array(args.number_rows)?, &wanted, &strict)?);
        }
        let times = given[2].as_primitive::<TimestampNanosecondType>();
        let names: Vec<&StringArray> =
            [0, 1, 3].iter().filter_map(|at| given.get(*at)).map(|names| names.as_string::<i32>()).collect();
        let mut known: Option<Known<'_>> = None;
        let mut ids = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let same = known.as_ref().is_some_and(|(last, _)| {
                names.iter().zip(last).all(|(names, last)| names.is_valid(row).then(|| names.value(row)) == *last)
            });
            if !same {
                let key: Vec<Option<&str>> =
                    names.iter().map(|names| names.is_valid(row).then(|| names.value(row))).collect();
                let list = match key.as_slice() {
                    [Some(service), Some(environment)] => {
                        self.index.starts.get(&((*service).to_owned(), (*environment).to_owned(), None))
                    }
                    [Some(service), Some(environment), Some(namespace)] => self.index.starts.get(&(
                        (*service).to_owned(),
                        (*environment).to_owned(),
                        Some((*namespace).to_owned()),
                    )),
                    _ => None,
                };
                known = Some((key, list));
            }
            let list = known.as_ref().and_then(|(_, list)| *list).filter(|_| times.is_valid(row));
            ids.push(list.and_then(|list| DeployIndex::latest(list, times.value(row))));
        }
        let keys: UInt32Array = ids.into_iter().collect();
        let array = DictionaryArray::<UInt32Type>::try_new(keys, Arc::clone(&self.index.ids) as _)?;
        Ok(ColumnarValue::Array(Arc::new(array)))
    }
}
