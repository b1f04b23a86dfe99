//! The shop: six services that call each other, and who serves which share of the traffic.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::logs::Severity;
use parking_lot::RwLock;
use rand::Rng;

use super::instance::{Carrier, Fault, Handling, Instance};

/// The services, with the version that they run at first.
pub(super) const SERVICES: [(&str, &str); 6] = [
    ("frontend", "3.2.0"),
    ("cart", "1.0.4"),
    ("checkout", "2.1.0"),
    ("payment", "1.9.3"),
    ("inventory", "0.8.1"),
    ("shipping", "1.4.0"),
];

/// A service and the instances that share its traffic.
type Serving = (&'static str, Vec<Arc<Instance>>);

/// The running shop.
pub(super) struct Shop {
    endpoint: String,
    /// Instances by service; each request goes to one of them at random.
    instances: RwLock<Vec<Serving>>,
}

/// What a visitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    Browse,
    AddToCart,
    Buy,
}

type Answer = Result<(), Fault>;

impl Shop {
    pub(super) fn open(endpoint: &str) -> Result<Self, String> {
        let shop = Self { endpoint: endpoint.to_owned(), instances: RwLock::new(Vec::new()) };
        for (service, version) in SERVICES {
            let instance = shop.start(service, version, 0)?;
            shop.instances.write().push((service, vec![instance]));
        }
        Ok(shop)
    }

    fn start(&self, service: &'static str, version: &'static str, number: u32) -> Result<Arc<Instance>, String> {
        Instance::start(service, version, number, &self.endpoint)
            .map(Arc::new)
            .map_err(|error| format!("cannot start {service} {version}: {error}"))
    }

    /// Replaces the instances of a service by a canary: a fresh instance of the old version beside one of the new, each with half of
    /// the traffic. Both are equally young, so that a cold start weighs on neither.
    pub(super) fn canary(&self, service: &'static str, old: &'static str, new: &'static str) -> Result<(), String> {
        let pair = vec![self.start(service, old, 1)?, self.start(service, new, 2)?];
        self.replace(service, pair);
        Ok(())
    }

    /// Gives all of a service's traffic to one version.
    pub(super) fn settle(&self, service: &'static str, version: &'static str) {
        let keep: Vec<_> = self.serving(service).into_iter().filter(|instance| instance.version == version).collect();
        self.replace(service, keep);
    }

    fn replace(&self, service: &'static str, instances: Vec<Arc<Instance>>) {
        let retired = {
            let mut all = self.instances.write();
            let slot = all.iter_mut().find(|(name, _)| *name == service);
            slot.map(|(_, serving)| std::mem::replace(serving, instances.clone())).unwrap_or_default()
        };
        // Requests under way hold their own reference; the last spans are sent once those are done.
        tokio::task::spawn_blocking(move || {
            retired.iter().filter(|old| !instances.iter().any(|new| Arc::ptr_eq(old, new))).for_each(|old| old.stop());
        });
    }

    fn serving(&self, service: &str) -> Vec<Arc<Instance>> {
        let all = self.instances.read();
        all.iter().find(|(name, _)| *name == service).map(|(_, serving)| serving.clone()).unwrap_or_default()
    }

    fn pick(&self, service: &str) -> Option<Arc<Instance>> {
        let serving = self.serving(service);
        (!serving.is_empty()).then(|| serving[rand::rng().random_range(0..serving.len())].clone())
    }

    /// Closes the shop: every instance sends what it still holds. Blocks.
    pub(super) fn close(&self) {
        for (_, serving) in self.instances.read().iter() {
            serving.iter().for_each(|instance| instance.stop());
        }
    }

    /// Serves one visitor.
    pub(super) async fn visit(&self, visit: Visit) {
        let (method, route) = match visit {
            Visit::Browse => ("GET", "/products"),
            Visit::AddToCart => ("POST", "/cart"),
            Visit::Buy => ("POST", "/checkout"),
        };
        let Some(front) = self.pick("frontend") else { return };
        let handling = front.accept(method, route, None);
        handling.work(3.0).await;
        let outcome = match visit {
            Visit::Browse => self.call(&handling, "inventory", "GET", "/stock").await,
            Visit::AddToCart => self.call(&handling, "cart", "POST", "/items").await,
            Visit::Buy => self.call(&handling, "checkout", "POST", "/orders").await,
        };
        handling.finish(&outcome.map_err(passed_on));
    }

    async fn call(
        &self,
        from: &Handling<'_>,
        service: &'static str,
        method: &'static str,
        route: &'static str,
    ) -> Answer {
        let call = from.call(service, route);
        // Boxed because services call each other in a circle of async functions.
        let (outcome, took) = Box::pin(self.serve(service, method, route, call.carrier())).await;
        call.finish(&outcome, took);
        outcome
    }

    async fn serve(
        &self,
        service: &'static str,
        method: &'static str,
        route: &'static str,
        caller: Carrier,
    ) -> (Answer, Duration) {
        let Some(instance) = self.pick(service) else { return (Ok(()), Duration::ZERO) };
        let handling = instance.accept(method, route, Some(caller));
        let outcome = match service {
            "cart" => {
                handling.work(4.0).await;
                handling.log(Severity::Info, format!("cart now holds {} items", rand::rng().random_range(1..9)));
                self.call(&handling, "inventory", "GET", "/stock").await
            }
            "checkout" => {
                handling.work(6.0).await;
                match self.call(&handling, "payment", "POST", "/charge").await {
                    Ok(()) => self.call(&handling, "shipping", "POST", "/labels").await,
                    failed => failed,
                }
            }
            "payment" => charge(&handling, instance.version).await,
            "shipping" => {
                handling.work(8.0).await;
                Ok(())
            }
            _ => {
                handling.work(3.0).await;
                Ok(())
            }
        };
        let outcome = if service == "payment" { outcome } else { outcome.map_err(passed_on) };
        let took = handling.finish(&outcome);
        (outcome, took)
    }
}

/// What payment does. Version 2.0.0 talks to a new issuer gateway: some calls are declined by a time-out nobody catches, others wait.
async fn charge(handling: &Handling<'_>, version: &str) -> Answer {
    let cents = rand::rng().random_range(500..20_000_i64);
    handling.note("payment.amount_cents", cents);
    let chance: f64 = rand::rng().random();
    if version == "2.0.0" {
        if chance < 0.12 {
            handling.work(9.0).await;
            return Err(Fault {
                exception: "IssuerTimeout",
                message: format!("issuer gateway gave no answer for charge of {cents} cents"),
                stack: "shop.payment.gateway.IssuerTimeout\n    at shop.payment.gateway.IssuerClient.authorize(IssuerClient.java:88)\n    \
                        at shop.payment.ChargeService.charge(ChargeService.java:41)\n    at shop.payment.ChargeController.post(ChargeController.java:27)",
            });
        }
        if chance < 0.45 {
            handling.work(70.0).await;
        }
    } else if chance < 0.001 {
        handling.work(5.0).await;
        return Err(Fault {
            exception: "CardDeclined",
            message: format!("card declined for charge of {cents} cents"),
            stack: "shop.payment.CardDeclined\n    at shop.payment.ChargeService.charge(ChargeService.java:52)\n    \
                    at shop.payment.ChargeController.post(ChargeController.java:27)",
        });
    }
    handling.work(10.0).await;
    handling.log(Severity::Info, format!("charged {cents} cents"));
    Ok(())
}

/// A failure that a callee caused: the caller fails too, but throws nothing itself.
fn passed_on(fault: Fault) -> Fault {
    Fault { stack: "", exception: "UpstreamError", message: format!("upstream failed: {}", fault.exception) }
}
