//! Deploys that break something.

use crate::mesh::scenario::{Deploy, Effect, Expected, FORMER, Scenario, Strategy, Weather, blames};

const HALF: Strategy = Strategy::Canary(0.5);
const FIFTH: Strategy = Strategy::Canary(0.2);
const TWENTIETH: Strategy = Strategy::Canary(0.05);

pub(super) fn all() -> Vec<Scenario> {
    let mut all = requests();
    all.extend(narrow());
    all.extend(quiet());
    all.extend(several());
    all
}

/// Requests fail or are slow, whatever they are.
fn requests() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("errors, canary 50 %", "/checkout")
            .release("payment", HALF, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.10, "shop.payment.CardDeclined"))
            .short(),
        named("errors, at once", "/checkout")
            .release("payment", Strategy::AtOnce, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.10, "shop.payment.CardDeclined"))
            .short(),
        named("errors, canary 5 %", "/products/{id}")
            .rate(40.0)
            .release("catalog", TWENTIETH, blames("catalog", "GET /products/{id}"))
            .with(Effect::Fail(0.20, "shop.catalog.RowMissing")),
        named("errors, rolling", "/cart")
            .release("cart", Strategy::Rolling(120.0), blames("cart", "GET /cart"))
            .with(Effect::Fail(0.15, "shop.cart.Stale")),
        named("slow median, canary 50 %", "/search")
            .release("search", HALF, blames("search", "GET /search"))
            .with(Effect::Slow { share: 1.0, times: 1.9, add_ms: 0.0 })
            .short(),
        named("slow median, at once", "/checkout")
            .release("payment", Strategy::AtOnce, blames("payment", "POST /charge"))
            .with(Effect::Slow { share: 1.0, times: 2.2, add_ms: 0.0 }),
        named("slow median, rolling, ageless", "/account")
            .ageless()
            .release("account", Strategy::Rolling(120.0), blames("account", "GET /account"))
            .with(Effect::Slow { share: 1.0, times: 2.2, add_ms: 0.0 }),
        named("slow tail, canary 50 %", "/cart")
            .release("pricing", HALF, blames("pricing", "GET /price/{sku}"))
            .with(Effect::Slow { share: 0.15, times: 1.0, add_ms: 250.0 }),
        named("slow tail, at once", "/products/{id}")
            .release("inventory", Strategy::AtOnce, blames("inventory", "GET /stock/{sku}"))
            .with(Effect::Slow { share: 0.15, times: 1.0, add_ms: 250.0 }),
        named("hanging calls", "/search")
            .release("search", HALF, blames("search", "GET /search"))
            .with(Effect::Hang(0.08, 3_000.0)),
        named("no errors before", "/checkout")
            .weather(Weather::Clean)
            .release("payment", HALF, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.04, "shop.payment.CardDeclined")),
        named("many errors before", "/checkout")
            .weather(Weather::Errors("shipping", 0.08))
            .release("shipping", HALF, blames("shipping", "POST /quotes"))
            .with(Effect::Fail(0.25, "shop.shipping.NoCarrier")),
        named("one failure in thirty more, canary 50 %", "/checkout")
            .rate(30.0)
            .release("payment", HALF, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.035, "shop.payment.CardDeclined")),
        named("half as slow again, canary 20 %", "/search")
            .rate(30.0)
            .release("search", FIFTH, blames("search", "GET /search"))
            .with(Effect::Slow { share: 1.0, times: 1.5, add_ms: 0.0 }),
        named("errors of a consumer", "/checkout")
            .release("notifier", HALF, blames("notifier", "orders process"))
            .with(Effect::Fail(0.20, "shop.notifier.Unaddressed")),
        named("errors as traffic rises, at once", "/search")
            .weather(Weather::Swing(0.5, 3_000.0))
            .release("search", Strategy::AtOnce, blames("search", "GET /search"))
            .with(Effect::Fail(0.12, "shop.search.IndexGone")),
        named("errors during an outage of a callee", "/cart")
            .weather(Weather::Outage { service: "pricing", share: 0.3, from_s: 20.0, to_s: 260.0 })
            .release("cart", HALF, blames("cart", "GET /cart"))
            .with(Effect::Fail(0.20, "shop.cart.Stale")),
        named("sampled 1 %", "/products/{id}")
            .weather(Weather::Sampled)
            .release("catalog", HALF, blames("catalog", "GET /products/{id}"))
            .with(Effect::Fail(0.12, "shop.catalog.RowMissing")),
        named("errors in bursts", "/cart")
            .rate(12.0)
            .release("cart", HALF, blames("cart", "GET /cart"))
            .with(Effect::Fail(0.7, "shop.cart.Stale"))
            .only(|fault| (fault.every_s, fault.for_s) = (60.0, 20.0)),
        named("errors after two minutes", "/account")
            .release("account", HALF, blames("account", "GET /account"))
            .with(Effect::Fail(0.15, "shop.account.PoolExhausted"))
            .only(|fault| fault.from_s = 120.0),
        named("marked late", "/search")
            .release("search", HALF, blames("search", "GET /search"))
            .marked(Some(90.0))
            .with(Effect::Fail(0.15, "shop.search.IndexGone")),
        named("not marked", "/account")
            .release("account", HALF, blames("account", "GET /account"))
            .marked(None)
            .with(Effect::Fail(0.15, "shop.account.PoolExhausted")),
    ]
}

/// Only some requests.
fn narrow() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("one endpoint", "/cart/items")
            .release("cart", HALF, blames("cart", "POST /cart/items"))
            .with(Effect::Fail(0.20, "shop.cart.Stale"))
            .only(|fault| fault.route = "/cart/items")
            .short(),
        named("one region", "/cart/items")
            .release("inventory", HALF, blames("inventory", "GET /stock/{sku}"))
            .with(Effect::Fail(0.30, "shop.inventory.ShardGone"))
            .only(|fault| fault.region = "us-east"),
        named("one caller", "/cart")
            .release("pricing", HALF, blames("pricing", "GET /price/{sku}"))
            .with(Effect::Fail(0.25, "shop.pricing.BadCurrency"))
            .only(|fault| fault.caller = "cart"),
        named("one arm of a flag", "/checkout")
            .change("checkout", "flag", blames("checkout", "POST /orders"))
            .with(Effect::Fail(0.25, "shop.checkout.NewFlow"))
            .only(|fault| fault.arm = "on"),
        named("configuration, errors", "/cart")
            .change("pricing", "config", blames("pricing", "GET /price/{sku}"))
            .with(Effect::Fail(0.12, "shop.pricing.BadCurrency"))
            .short(),
        named("configuration, slow", "/search")
            .change("search", "config", blames("search", "GET /search"))
            .with(Effect::Slow { share: 1.0, times: 2.5, add_ms: 0.0 }),
        named("no version, errors", "/account")
            .weather(Weather::Versionless("account"))
            .release("account", Strategy::AtOnce, blames("account", "GET /account"))
            .with(Effect::Fail(0.15, "shop.account.PoolExhausted")),
        named("too little traffic, errors", "")
            .rate(0.17)
            .too_little()
            .release("gateway", HALF, Expected::Either)
            .with(Effect::Fail(0.10, "shop.gateway.Upstream")),
    ]
}

/// What no request says.
fn quiet() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("swallowed exception", "/cart")
            .release("cart", HALF, blames("cart", ""))
            .with(Effect::Swallow(0.15, "shop.cart.LostUpdate")),
        named("new error message", "/checkout")
            .release("shipping", HALF, blames("shipping", ""))
            .with(Effect::Complain(0.15, "label printer refused the parcel")),
        named("traffic lost, at once", "/cart")
            .release("cart", Strategy::AtOnce, blames("cart", ""))
            .with(Effect::Unreached(0.85)),
        named("crash loop", "/search")
            .release("search", Strategy::AtOnce, blames("search", ""))
            .with(Effect::CrashLoop { up_s: 25.0, down_s: 12.0 }),
        named("never comes up", "/account")
            .release("account", Strategy::AtOnce, blames("account", ""))
            .with(Effect::Dead),
        named("memory leak", "/account")
            .history(50.0)
            .release("account", HALF, blames("account", ""))
            .with(Effect::Leak(60.0)),
        named("retry storm", "/products/{id}")
            .release("catalog", HALF, blames("catalog", "GET /products/{id}"))
            .with(Effect::Repeat("inventory", 4)),
        named("orders lost", "/checkout")
            .history(50.0)
            .release("checkout", HALF, blames("checkout", ""))
            .with(Effect::LoseOrders(0.8)),
        named("metrics alone, slow", "/checkout")
            .history(50.0)
            .weather(Weather::MetricsOnly("fraud"))
            .release("fraud", HALF, blames("fraud", ""))
            .with(Effect::Slow { share: 1.0, times: 2.5, add_ms: 0.0 }),
        named("messages not consumed", "/checkout")
            .release("notifier", Strategy::AtOnce, blames("notifier", ""))
            .with(Effect::Unreached(0.85)),
    ]
}

/// More than one deploy.
fn several() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("two at once, one innocent", "/cart")
            .release("cart", FIFTH, Expected::Harmless)
            .release("pricing", HALF, blames("pricing", "GET /price/{sku}"))
            .with(Effect::Fail(0.20, "shop.pricing.BadCurrency")),
        named("caller and callee at once", "/checkout")
            .release("checkout", Strategy::AtOnce, Expected::Harmless)
            .release("payment", Strategy::AtOnce, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.20, "shop.payment.CardDeclined")),
        named("calls that a callee cannot answer", "/checkout")
            .release("checkout", HALF, blames("checkout", "POST /orders"))
            .with(Effect::Misuses("payment", 0.25, "shop.payment.BadRequest")),
        named("wrong version of a callee", "/checkout")
            .deploy(Deploy {
                service: "payment",
                version: "3.0.0-beta",
                kind: "release",
                strategy: Strategy::Canary(0.0),
                at_s: 0.0,
                marked_s: None,
                expected: blames("payment", "POST /charge"),
            })
            .with(Effect::Fail(0.30, "shop.payment.NoSuchAccount"))
            .release("checkout", HALF, Expected::Either)
            .with(Effect::CallsVersion("payment", "3.0.0-beta")),
        named("rolled back", "/checkout")
            .release("payment", Strategy::AtOnce, blames("payment", "POST /charge"))
            .with(Effect::Fail(0.20, "shop.payment.CardDeclined"))
            .deploy(Deploy {
                service: "payment",
                version: FORMER,
                kind: "rollback",
                strategy: Strategy::AtOnce,
                at_s: 240.0,
                marked_s: Some(0.0),
                expected: Expected::Harmless,
            }),
    ]
}
