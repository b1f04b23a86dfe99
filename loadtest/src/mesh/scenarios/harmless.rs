//! Deploys that break nothing, however it may look.

use crate::mesh::scenario::{Effect, Expected, Scenario, Strategy, Weather};

const HALF: Strategy = Strategy::Canary(0.5);
const FIFTH: Strategy = Strategy::Canary(0.2);
const TWENTIETH: Strategy = Strategy::Canary(0.05);
const FINE: Expected = Expected::Harmless;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = nothing();
    all.extend(looks_bad());
    all.extend(elsewhere());
    all.extend(telemetry());
    all
}

/// Nothing changes at all.
fn nothing() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("nothing, canary 50 %", "/checkout").rate(30.0).release("payment", HALF, FINE).short(),
        named("nothing, at once", "/search").rate(30.0).release("search", Strategy::AtOnce, FINE).short(),
        named("nothing, canary 5 %", "/products/{id}").rate(40.0).release("catalog", TWENTIETH, FINE),
        named("nothing, rolling", "/cart").rate(30.0).release("cart", Strategy::Rolling(120.0), FINE),
        named("nothing, not marked, ageless", "/account").ageless().release("account", HALF, FINE).marked(None),
        named("configuration, nothing", "/cart").change("pricing", "config", FINE),
        named("flag, nothing", "/checkout").change("checkout", "flag", FINE),
        named("restart", "/account").weather(Weather::Restart("account")).change("account", "infra", FINE),
        named("no version, nothing", "/account").weather(Weather::Versionless("account")).release(
            "account",
            Strategy::AtOnce,
            FINE,
        ),
        named("ten requests a minute", "").rate(0.17).release("gateway", HALF, Expected::Inconclusive),
        named("metrics alone, nothing", "/checkout")
            .history(50.0)
            .weather(Weather::MetricsOnly("fraud"))
            .release("fraud", HALF, FINE),
    ]
}

/// Something changes, and it is no harm.
fn looks_bad() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("log text reworded", "/cart").release("cart", HALF, FINE).with(Effect::Reword).short(),
        named("endpoint renamed", "/search")
            .release("search", HALF, FINE)
            .with(Effect::Rename("/search", "/v2/search")),
        named("endpoint renamed, at once", "/account")
            .release("account", Strategy::AtOnce, FINE)
            .with(Effect::Rename("/account", "/v2/account")),
        named("cold start, canary 20 %", "/search").release("search", FIFTH, FINE).with(Effect::ColdStart(3.0, 20.0)),
        named("cold start, at once", "/checkout")
            .release("payment", Strategy::AtOnce, FINE)
            .with(Effect::ColdStart(3.0, 20.0)),
        named("faster", "/search").release("search", HALF, FINE).with(Effect::Slow {
            share: 1.0,
            times: 0.6,
            add_ms: 0.0,
        }),
        named("new healthy endpoint", "/products/{id}")
            .release("catalog", Strategy::AtOnce, FINE)
            .weather(Weather::Visits("/products/{id}/similar", 2.0)),
        named("many more messages", "/cart").release("cart", HALF, FINE).with(Effect::Chatter(5)),
        named("exception renamed", "/checkout")
            .weather(Weather::Errors("shipping", 0.06))
            .release("shipping", HALF, FINE)
            .with(Effect::RenameException),
        named("more memory, within reason", "/account")
            .history(50.0)
            .release("account", HALF, FINE)
            .with(Effect::Memory(1.2)),
        named("a little slower", "/search").release("search", HALF, FINE).with(Effect::Slow {
            share: 1.0,
            times: 1.05,
            add_ms: 0.0,
        }),
        named("another call, not waited for long", "/products/{id}")
            .release("catalog", HALF, FINE)
            .with(Effect::Slow { share: 0.02, times: 1.0, add_ms: 20.0 }),
    ]
}

/// Something happens beside the deploy.
fn elsewhere() -> Vec<Scenario> {
    let named = Scenario::named;
    let outage = |share: f64| Weather::Outage { service: "pricing", share, from_s: 20.0, to_s: 260.0 };
    vec![
        named("mix shifts to slow requests", "")
            .release("gateway", Strategy::AtOnce, FINE)
            .weather(Weather::Mix("/checkout", 4.0)),
        named("time of day, at once", "/search")
            .release("search", Strategy::AtOnce, FINE)
            .weather(Weather::Swing(0.5, 3_000.0)),
        named("time of day, canary 50 %", "/checkout")
            .release("payment", HALF, FINE)
            .weather(Weather::Swing(0.5, 3_000.0)),
        named("outage of a callee, at once", "/cart").release("cart", Strategy::AtOnce, FINE).weather(outage(0.4)),
        named("outage of a callee, canary 50 %", "/cart").release("cart", HALF, FINE).weather(outage(0.4)),
        named("outage of a callee, configuration", "/products/{id}")
            .change("catalog", "config", FINE)
            .weather(outage(0.3)),
        named("a callee slows down, at once", "/cart")
            .release("cart", Strategy::AtOnce, FINE)
            .weather(Weather::Slowdown { service: "pricing", times: 3.0, from_s: 20.0, to_s: 500.0 }),
        named("a callee slows down, canary 50 %", "/products/{id}")
            .release("catalog", HALF, FINE)
            .weather(Weather::Slowdown { service: "inventory", times: 3.0, from_s: 20.0, to_s: 500.0 }),
        named("slow spells as ever", "/search")
            .weather(Weather::Spells { service: "search", times: 3.0, for_s: 15.0, every_s: 97.0 })
            .release("search", HALF, FINE),
        named("slow spells as ever, at once", "/account")
            .weather(Weather::Spells { service: "account", times: 3.0, for_s: 15.0, every_s: 97.0 })
            .release("account", Strategy::AtOnce, FINE),
        named("an outage just before", "/products/{id}")
            .weather(Weather::Outage { service: "catalog", share: 0.4, from_s: -300.0, to_s: -30.0 })
            .release("catalog", Strategy::AtOnce, FINE),
        named("bots come", "/products/{id}").release("catalog", HALF, FINE).weather(Weather::Visits("/robots", 12.0)),
        named("bots come, at once", "/products/{id}")
            .release("gateway", Strategy::AtOnce, FINE)
            .weather(Weather::Visits("/robots", 12.0)),
        named("errors as ever", "/checkout").weather(Weather::Errors("shipping", 0.10)).release(
            "shipping",
            Strategy::AtOnce,
            FINE,
        ),
    ]
}

/// Telemetry itself is odd.
fn telemetry() -> Vec<Scenario> {
    let named = Scenario::named;
    vec![
        named("clock ahead", "/cart").weather(Weather::Skew("pricing", 150.0)).release("cart", HALF, FINE),
        named("clock of the deployed behind", "/cart")
            .weather(Weather::Skew("cart", -90.0))
            .release("cart", HALF, FINE),
        named("late exports", "/search").weather(Weather::LateExport("search", 25.0)).release("search", HALF, FINE),
        named("sampled 1 %, nothing", "/products/{id}").weather(Weather::Sampled).release("catalog", HALF, FINE),
        named("a version a pod", "/account").weather(Weather::VersionPerPod("account")).release(
            "account",
            Strategy::AtOnce,
            FINE,
        ),
    ]
}
