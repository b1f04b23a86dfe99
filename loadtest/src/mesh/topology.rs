//! The mesh: twelve services of a shop, what they serve, and whom they call for it.

/// The services.
pub(super) const SERVICES: [&str; 12] = [
    "gateway",
    "catalog",
    "search",
    "cart",
    "checkout",
    "account",
    "inventory",
    "pricing",
    "payment",
    "fraud",
    "shipping",
    "notifier",
];

/// What a service does for its callers.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    /// Median of the time that it spends itself.
    pub(super) median_ms: f64,
    /// Service and route of what it calls, one after the other.
    pub(super) calls: &'static [(&'static str, &'static str)],
    /// Whether it asks a database, which emits no spans of its own.
    pub(super) database: bool,
}

impl Operation {
    /// A consumer takes messages that nobody waits for.
    pub(super) fn consumes(&self) -> bool {
        self.method.is_empty()
    }

    /// The span's name.
    pub(super) fn name(&self, route: &str) -> String {
        if self.consumes() { format!("{route} process") } else { format!("{} {route}", self.method) }
    }
}

const fn serves(
    service: &'static str,
    method: &'static str,
    route: &'static str,
    median_ms: f64,
    database: bool,
    calls: &'static [(&'static str, &'static str)],
) -> Operation {
    Operation { service, method, route, median_ms, calls, database }
}

/// All operations; those of the gateway are where requests come in.
pub(super) const OPERATIONS: [Operation; 21] = [
    serves("gateway", "GET", "/products/{id}", 5.0, false, &[("catalog", "/products/{id}")]),
    serves("gateway", "GET", "/search", 5.0, false, &[("search", "/search")]),
    serves("gateway", "GET", "/cart", 5.0, false, &[("cart", "/cart")]),
    serves("gateway", "POST", "/cart/items", 5.0, false, &[("cart", "/cart/items")]),
    serves("gateway", "POST", "/checkout", 6.0, false, &[("checkout", "/orders")]),
    serves("gateway", "GET", "/account", 5.0, false, &[("account", "/account")]),
    serves(
        "catalog",
        "GET",
        "/products/{id}",
        20.0,
        true,
        &[("inventory", "/stock/{sku}"), ("pricing", "/price/{sku}")],
    ),
    serves("search", "GET", "/search", 45.0, true, &[]),
    serves("cart", "GET", "/cart", 18.0, true, &[("pricing", "/price/{sku}")]),
    serves("cart", "POST", "/cart/items", 22.0, true, &[("inventory", "/stock/{sku}")]),
    serves(
        "checkout",
        "POST",
        "/orders",
        25.0,
        true,
        &[("payment", "/charge"), ("shipping", "/quotes"), ("notifier", "orders")],
    ),
    serves("account", "GET", "/account", 25.0, true, &[]),
    serves("inventory", "GET", "/stock/{sku}", 14.0, true, &[]),
    serves("pricing", "GET", "/price/{sku}", 16.0, false, &[]),
    serves("payment", "POST", "/charge", 40.0, false, &[("fraud", "/score")]),
    serves("fraud", "POST", "/score", 22.0, false, &[]),
    serves("shipping", "POST", "/quotes", 30.0, false, &[]),
    serves("notifier", "", "orders", 35.0, false, &[]),
    // What only some scenarios have.
    serves("catalog", "GET", "/products/{id}/similar", 24.0, true, &[]),
    serves("gateway", "GET", "/products/{id}/similar", 5.0, false, &[("catalog", "/products/{id}/similar")]),
    serves("gateway", "GET", "/robots", 5.0, false, &[("catalog", "/products/{id}")]),
];

/// Routes of the gateway, with their weights where no scenario says otherwise.
pub(super) const ENTRIES: [(&str, f64); 6] = [
    ("/products/{id}", 0.30),
    ("/search", 0.15),
    ("/cart", 0.15),
    ("/cart/items", 0.10),
    ("/checkout", 0.20),
    ("/account", 0.10),
];

/// Finds an operation.
pub(super) fn operation(service: &str, route: &str) -> usize {
    let found = OPERATIONS.iter().position(|op| op.service == service && op.route == route);
    found.expect("the tables name operations that there are")
}

/// Finds a service.
pub(super) fn service(name: &str) -> usize {
    SERVICES.iter().position(|service| *service == name).expect("the tables name services that there are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_leads_to_an_operation_and_none_in_a_circle() {
        fn depth(at: usize, seen: usize) -> usize {
            assert!(seen < 6, "calls run in a circle");
            OPERATIONS[at].calls.iter().map(|(s, r)| depth(operation(s, r), seen + 1)).max().unwrap_or(seen)
        }
        for (at, op) in OPERATIONS.iter().enumerate() {
            service(op.service);
            depth(at, 0);
        }
        assert!((ENTRIES.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
