//! `GET /admin/v1/config`, `POST /admin/v1/reload`, `GET` and `PUT /admin/v1/log`, `POST /admin/v1/drain`: what only the
//! program around the gate can do.
//!
//! A gate does not know its configuration's file, nor where its log goes, and cannot end its own process. So these endpoints put an [`Order`] before
//! whoever runs the gate, who answers it with JSON; `feedgate serve` does as on SIGHUP and SIGTERM. In a program that takes
//! no orders they are refused.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{
    exchange::{Answer, Request},
    health::Readiness,
    problem::Problem,
    router::Route,
};
use crate::config::LogLevel;

/// For how many seconds a level of the log is switched, unless the request says so, and at most.
const USUAL: u64 = 600;
const LONGEST: u64 = 7 * 86_400;
/// Orders that wait; operators are few.
const WAITING: usize = 16;

/// Puts orders before the program around the gate, if it takes any. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Control(Option<mpsc::Sender<Order>>);

/// The orders, for the program around the gate.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

/// An order that waits for its answer.
#[derive(Debug)]
pub struct Order {
    /// What is to be done.
    pub wanted: Wanted,
    reply: oneshot::Sender<Result<Value, Problem>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The configuration is to be told.
    Config,
    /// The configuration is to be read again.
    Reload,
    /// The log's level is to be told.
    Log,
    /// The log's level is to be this for so long; none: the configured one.
    Level(Option<(LogLevel, Duration)>),
    /// The gate is to drain, and the program to end.
    Drain,
}

// === impl Control ===

impl Control {
    /// A way to put orders, and where they come out.
    pub fn new() -> (Self, Orders) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(Some(sender)), Orders(receiver))
    }

    async fn order(self, wanted: Wanted) -> Result<Value, Problem> {
        let Some(orders) = self.0 else {
            let detail = "the program around this gate takes no orders; one run by `feedgate serve` does";
            return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "no_orders", detail));
        };
        let (reply, answer) = oneshot::channel();
        let over = || Problem::conflict("the gate is draining");
        orders.send(Order { wanted, reply }).await.map_err(|_| over())?;
        answer.await.map_err(|_| over())?
    }
}

// === impl Orders ===

impl Orders {
    /// The next order; `None` when no more can come.
    pub async fn next(&mut self) -> Option<Order> {
        self.0.recv().await
    }
}

// === impl Order ===

impl Order {
    /// Tells the operator what came of it.
    pub fn answer(self, answer: Result<Value, Problem>) {
        // Who has left wants no answer.
        let _ = self.reply.send(answer);
    }
}

/// A level that is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    level: Option<String>,
    seconds: Option<u64>,
}

// === impl Asked ===

impl Asked {
    fn read(self) -> Result<Wanted, Problem> {
        let seconds = self.seconds.unwrap_or(USUAL);
        if !(1..=LONGEST).contains(&seconds) {
            let rule = format!("`seconds` is {seconds}; it must be from 1 to {LONGEST}");
            return Err(Problem::invalid(rule));
        }
        let level = self.level.as_deref().map(str::parse).transpose();
        let level: Option<LogLevel> = level.map_err(|rule| Problem::invalid(format!("`level` {rule}")))?;
        Ok(Wanted::Level(level.map(|level| (level, Duration::from_secs(seconds)))))
    }
}

/// The routes of all that. Once an operator knows that the gate drains, `readiness` says so too.
pub(super) fn routes(control: &Control, readiness: &Readiness) -> Vec<Route> {
    let order = |method, pattern, wanted| {
        Route::waiting(method, pattern, control, move |control, _| async move {
            Answer::json(&control.order(wanted).await?)
        })
    };
    let both = (control.clone(), readiness.clone());
    let drain =
        Route::waiting(Method::POST, "/admin/v1/drain", &both, |(control, readiness), _| async move {
            let told = control.order(Wanted::Drain).await?;
            readiness.set(false);
            Ok(Answer::json(&told)?.with_status(StatusCode::ACCEPTED))
        });
    let switch =
        Route::waiting(Method::PUT, "/admin/v1/log", control, |control, request: Request| async move {
            Answer::json(&control.order(request.json::<Asked>()?.read()?).await?)
        });
    vec![
        order(Method::GET, "/admin/v1/log", Wanted::Log),
        switch,
        order(Method::GET, "/admin/v1/config", Wanted::Config),
        order(Method::POST, "/admin/v1/reload", Wanted::Reload),
        drain,
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Control, Wanted};
    use crate::admin::problem::Problem;

    #[tokio::test]
    async fn an_order_is_answered_or_refused_and_none_waits_for_ever() {
        let refused = Control::default().order(Wanted::Drain).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (501, "no_orders"));

        let (control, mut orders) = Control::new();
        let program = tokio::spawn(async move {
            let first = orders.next().await.unwrap();
            assert_eq!(first.wanted, Wanted::Reload);
            first.answer(Ok(json!({ "applied": [] })));
            orders.next().await.unwrap().answer(Err(Problem::invalid("no")));
            // The third is dropped unanswered, with the program.
            drop(orders.next().await);
        });
        assert_eq!(control.clone().order(Wanted::Reload).await.unwrap(), json!({ "applied": [] }));
        assert_eq!(control.clone().order(Wanted::Reload).await.unwrap_err().status, 400);
        assert_eq!(control.clone().order(Wanted::Drain).await.unwrap_err().code, "conflict");
        program.await.unwrap();
        assert_eq!(control.order(Wanted::Drain).await.unwrap_err().code, "conflict");
    }
}
