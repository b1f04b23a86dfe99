//! Walks over a statement's syntax tree.
//!
//! The parser's own walks are compiled once for each visitor, with every kind of node there is: a few dozen visitors were four fifths of what
//! this crate compiled. Here they are compiled once for all, over a visitor that passes on what it meets.
//!
//! *Cost.* A call through a pointer a node.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

/// A visitor, and what it ended with.
struct Kept<'a, V, B> {
    visitor: &'a mut V,
    broke: Option<B>,
}

macro_rules! erased {
    ($visitor:ident, $hooks:ident, $erased:ident, { $($hook:ident($node:ty)),* $(,)? }) => {
        /// What a visitor is asked.
        trait $hooks {
            $(fn $hook(&mut self, node: $node) -> ControlFlow<()>;)*
        }

        impl<V: $visitor> $hooks for Kept<'_, V, V::Break> {
            $(fn $hook(&mut self, node: $node) -> ControlFlow<()> {
                self.visitor.$hook(node).map_break(|broke| self.broke = Some(broke))
            })*
        }

        /// The one visitor that walks are compiled for.
        struct $erased<'a>(&'a mut dyn $hooks);

        impl $visitor for $erased<'_> {
            type Break = ();

            $(fn $hook(&mut self, node: $node) -> ControlFlow<()> {
                self.0.$hook(node)
            })*
        }
    };
}

erased!(Visitor, Hooks, Erased, {
    pre_visit_query(&Query),
    post_visit_query(&Query),
    pre_visit_select(&Select),
    post_visit_select(&Select),
    pre_visit_relation(&ObjectName),
    post_visit_relation(&ObjectName),
    pre_visit_table_factor(&TableFactor),
    post_visit_table_factor(&TableFactor),
    pre_visit_expr(&Expr),
    post_visit_expr(&Expr),
    pre_visit_statement(&Statement),
    post_visit_statement(&Statement),
    pre_visit_value(&ValueWithSpan),
    post_visit_value(&ValueWithSpan),
});

erased!(VisitorMut, HooksMut, ErasedMut, {
    pre_visit_query(&mut Query),
    post_visit_query(&mut Query),
    pre_visit_select(&mut Select),
    post_visit_select(&mut Select),
    pre_visit_relation(&mut ObjectName),
    post_visit_relation(&mut ObjectName),
    pre_visit_table_factor(&mut TableFactor),
    post_visit_table_factor(&mut TableFactor),
    pre_visit_expr(&mut Expr),
    post_visit_expr(&mut Expr),
    pre_visit_statement(&mut Statement),
    post_visit_statement(&mut Statement),
    pre_visit_value(&mut ValueWithSpan),
    post_visit_value(&mut ValueWithSpan),
});

/// Walks over `node`.
pub(crate) fn visit<V: Visitor>(node: &impl Visit, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _: ControlFlow<()> = node.visit(&mut Erased(&mut kept));
    kept.broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Walks over `node`, and changes it.
pub(crate) fn visit_mut<V: VisitorMut>(node: &mut impl VisitMut, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _: ControlFlow<()> = node.visit(&mut ErasedMut(&mut kept));
    kept.broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

struct Each<F>(F);

impl<E, F: FnMut(&Expr) -> ControlFlow<E>> Visitor for Each<F> {
    type Break = E;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<E> {
        self.0(expr)
    }
}

impl<E, F: FnMut(&mut Expr) -> ControlFlow<E>> VisitorMut for Each<F> {
    type Break = E;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<E> {
        self.0(expr)
    }
}

/// Looks at every expression in `node`, the outer before the inner.
pub(crate) fn expressions<E>(node: &impl Visit, look: impl FnMut(&Expr) -> ControlFlow<E>) -> ControlFlow<E> {
    visit(node, &mut Each(look))
}

/// Changes every expression in `node`, the inner before the outer.
pub(crate) fn expressions_mut<E>(
    node: &mut impl VisitMut,
    change: impl FnMut(&mut Expr) -> ControlFlow<E>,
) -> ControlFlow<E> {
    visit_mut(node, &mut Each(change))
}
