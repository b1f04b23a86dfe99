//! Calls that differ by casts alone, `sum(x)` and `sum(x::double)`: the planner leaves casts out of names, and takes one for the other.
//!
//! Casts in such calls are marked ([`crate::functions::meant`]), so that each call has a name of its own. In subqueries what is selected
//! without a name is called as it is written.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, Statement, Value, VisitorMut};

use crate::dialect::bare;
use crate::functions::meant::APART;
use crate::walk;
use crate::wanted::call;

/// Tells the calls of `statement` apart.
pub(crate) fn tell(statement: &mut Statement) {
    let mut calls: HashMap<String, HashSet<String>> = HashMap::new();
    let _: ControlFlow<()> = walk::expressions(statement, |expr| {
        if matches!(expr, Expr::Function(_)) {
            calls.entry(name(&bare(expr))).or_default().insert(name(expr));
        }
        ControlFlow::Continue(())
    });
    let alike: HashSet<String> = calls.into_iter().filter(|(_, calls)| calls.len() > 1).map(|(name, _)| name).collect();
    if !alike.is_empty() {
        let _: ControlFlow<()> = walk::visit_mut(statement, &mut Apart { alike });
    }
}

fn name(expr: &Expr) -> String {
    expr.to_string().to_lowercase()
}

struct Apart {
    /// Calls without their casts, of which there are several.
    alike: HashSet<String>,
}

impl Apart {
    fn is_alike(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Function(_)) && self.alike.contains(&name(&bare(expr)))
    }
}

impl VisitorMut for Apart {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            if self.is_alike(expr) {
                let written = expr.to_string();
                let expr = std::mem::replace(expr, Expr::value(Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', written) };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.is_alike(expr)
            && let Expr::Function(function) = expr
        {
            let _: ControlFlow<()> = walk::visit_mut(&mut function.args, &mut Casts);
        }
        ControlFlow::Continue(())
    }
}

/// Marks casts.
struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { data_type, .. } = expr {
            let wanted = Expr::value(Value::SingleQuotedString(data_type.to_string()));
            let cast = std::mem::replace(expr, Expr::value(Value::Null));
            *expr = call(APART, [cast, wanted]);
        }
        ControlFlow::Continue(())
    }
}
