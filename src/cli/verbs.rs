//! The verbs that the engine hasn't yet: each says so by name.
//!
//! A method of [`Engine`] with the same name comes before these, so that a verb is wired by being written.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::api::{
    ContainerInfo, CreateRequest, Events, ExecRequest, Failure, FailureKind, LogsRequest, RunOutcome, Stdio,
};
use crate::engine::Engine;

/// Declares each verb with a body that refuses.
macro_rules! verbs {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {
        pub(crate) trait Verbs {
            $(fn $name(&self, $(_: $argument),*) -> Result<$result, Failure> {
                Err(Failure::new(FailureKind::System, concat!("`", stringify!($name), "` is not supported yet")))
            })*
        }
    };
}

verbs! {
    create(&CreateRequest, &Events) -> String;
    run(&CreateRequest, Stdio, bool, &Events) -> RunOutcome;
    start(&str, Stdio) -> Option<i32>;
    exec(&ExecRequest, Stdio) -> i32;
    ps(bool) -> Vec<ContainerInfo>;
    logs(&LogsRequest, &mut dyn Write, &mut dyn Write) -> ();
    stop(&str, Option<Duration>, Option<&str>) -> ();
    kill(&str, &str) -> ();
    rm(&str, bool, bool) -> ();
    wait(&str) -> i32;
    inspect_container(&str) -> Value;
}

impl Verbs for Engine {}
