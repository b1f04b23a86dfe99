//! What is said in the log.

use std::fmt;
use std::sync::{Arc, Mutex};

use plimsoll_model::{ServiceKey, VerdictKind};
use plimsoll_watch::NewDeploy;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::scene::{Scene, marker};

/// Messages and their levels.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, Message)>>>);

#[derive(Default)]
struct Message {
    text: String,
    summary: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            "summary" => self.summary = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.0.lock().expect("not poisoned").push((*event.metadata().level(), message));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn an_event_is_called_queued_only_where_some_sink_hears_of_it_and_is_a_warning_where_none_does() {
    for (environment, level, said) in [
        ("prod", Level::INFO, "regression event queued"),
        ("unheard", Level::WARN, "regression event that no sink hears of: set `alerts.sinks` to have people told"),
    ] {
        let mut scene = Scene::new().await;
        scene.service = ServiceKey::new(environment, "payment");
        scene.traffic("1", -100..100, 500, 5);
        scene.traffic("2", 0..40, 500, 60);
        let marker = NewDeploy { environment: environment.to_owned(), ..marker("2") };
        let (deploy, _) = scene.watcher.register(marker, None).await.expect("valid");
        let log = Log::default();
        let guard = tracing::subscriber::set_default(log.clone());
        scene.look(0..20).await;
        drop(guard);
        assert_eq!(scene.verdict(&deploy).await.verdict, VerdictKind::Regressed);
        let log = log.0.lock().expect("not poisoned");
        let events: Vec<_> = log.iter().filter(|(_, message)| message.text.starts_with("regression event")).collect();
        let [(at, message)] = events[..] else { panic!("{environment}: {} events", events.len()) };
        assert_eq!((*at, message.text.as_str()), (level, said), "{environment}");
        assert!(message.summary.contains("payment 2 `") && message.summary.contains(" fails "), "{}", message.summary);
    }
}
