//! Frames read out of the text of a stack trace: Java, Python, JavaScript, Go, Rust and .NET.

/// One frame without what changes from build to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackFrame {
    pub(crate) name: String,
    /// False for the language's runtime and common frameworks.
    pub(crate) in_app: bool,
}

/// Names that begin so belong to a runtime or a framework.
const RUNTIME_NAMES: &[&str] = &[
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "com.sun.",
    "jakarta.",
    "kotlin.",
    "kotlinx.",
    "scala.",
    "akka.",
    "org.springframework.",
    "org.apache.",
    "org.hibernate.",
    "org.eclipse.jetty.",
    "io.netty.",
    "reactor.",
    "io.grpc.",
    "io.opentelemetry.",
    "io.vertx.",
    "io.undertow.",
    "System.",
    "Microsoft.",
    "Npgsql.",
    "Grpc.",
    "std::",
    "<std::",
    "core::",
    "<core::",
    "alloc::",
    "<alloc::",
    "tokio::",
    "<tokio::",
    "hyper::",
    "<hyper::",
    "axum::",
    "<axum::",
    "tonic::",
    "<tonic::",
    "tower::",
    "<tower::",
    "futures",
    "rust_begin_unwind",
    "__rust",
    "__libc",
    "_start",
    "main as",
    "backtrace::",
    "anyhow::",
    "<anyhow::",
    "runtime.",
    "runtime/",
    "net/http.",
    "net.",
    "reflect.",
    "testing.",
    "google.golang.org/",
    "go.opentelemetry.io/",
    "panic",
    "sync.",
    "Module._",
    "Module.load",
    "process.",
    "Layer.handle",
    "Function.executeUserEntryPoint",
];

/// Paths that contain this belong to a runtime or a framework.
const RUNTIME_PATHS: &[&str] = &[
    "site-packages",
    "dist-packages",
    "/lib/python",
    "<frozen",
    "<string>",
    "node_modules",
    "node:",
    "internal/",
    "/rustc/",
    ".cargo/registry",
    "/usr/local/go/",
    "/pkg/mod/",
    "<anonymous>",
];

/// Reads the frames of a stack, in the order of its lines.
pub(crate) fn frames_of(stack: &str) -> Vec<StackFrame> {
    let mut frames = Vec::new();
    for line in stack.lines() {
        let line = line.trim();
        let frame = if let Some(rest) = line.strip_prefix("at ") {
            // A path alone belongs to the Rust frame above it.
            dotted(rest)
        } else if let Some(rest) = line.strip_prefix("File \"") {
            python(rest)
        } else if let Some(cause) = line.strip_prefix("Caused by: ") {
            Some(StackFrame { name: format!("caused by {}", cause.split(':').next().unwrap_or(cause)), in_app: true })
        } else {
            numbered(line).or_else(|| go(line))
        };
        frames.extend(frame);
    }
    // What caused it is no frame of its own: alone it would stand for every stack.
    if frames.iter().all(|frame| frame.name.starts_with("caused by ")) {
        frames.clear();
    }
    frames
}

fn frame(name: &str, path: &str) -> StackFrame {
    let name = name.trim();
    let runtime = RUNTIME_NAMES.iter().any(|prefix| name.starts_with(prefix))
        || RUNTIME_PATHS.iter().any(|part| path.contains(part));
    StackFrame { name: name.to_owned(), in_app: !runtime }
}

/// Java `pkg.Class.method(File.java:12)`, .NET `Ns.Class.Method(Type arg) in /a/b.cs:line 3`,
/// JavaScript `async name (/app/a.js:1:2)` or `/app/a.js:1:2`.
fn dotted(rest: &str) -> Option<StackFrame> {
    if let Some((name, place)) = rest.split_once(" (")
        && place.contains(':')
        && !place.contains(" in ")
    {
        let path = strip_position(place.trim_end_matches(')'));
        let name = name.trim_start_matches("async ").trim_start_matches("new ");
        return Some(frame(&format!("{} {}", without_numbers(name), last_parts(path)), path));
    }
    if let Some((name, _)) = rest.split_once('(') {
        // A module stands before the class: `java.base/java.lang.Thread`, `app//shop.Pay`.
        let name = name.rsplit('/').next().unwrap_or(name);
        return Some(frame(&without_numbers(name), ""));
    }
    let path = strip_position(rest.trim_start_matches("async "));
    let positioned = path.len() < rest.len() && !path.ends_with(".rs");
    positioned.then(|| frame(&last_parts(path), path))
}

/// `/app/a.py", line 12, in charge`.
fn python(rest: &str) -> Option<StackFrame> {
    let (path, place) = rest.split_once('"')?;
    let function = place.rsplit_once(" in ").map_or("", |(_, function)| function);
    Some(frame(&format!("{function} {}", last_parts(path)), path))
}

/// Rust `3: shop::pay::charge::h0123456789abcdef`, maybe with an address before the name.
fn numbered(line: &str) -> Option<StackFrame> {
    let (number, name) = line.split_once(": ")?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let name = match name.trim().split_once(" - ") {
        Some((address, name)) if address.starts_with("0x") => name,
        _ => name.trim(),
    };
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => name,
    };
    Some(frame(name, ""))
}

/// Go `main.(*Server).charge(0xc000123, 0x2)`; the line below it, with the path, says nothing more.
fn go(line: &str) -> Option<StackFrame> {
    if line.starts_with('/') || line.starts_with("goroutine ") {
        return None;
    }
    let line = line.strip_prefix("created by ").unwrap_or(line);
    let line = line.split(" in goroutine ").next().unwrap_or(line);
    let name = if line.ends_with(')') { &line[..line.rfind('(')?] } else { return None };
    let qualified = name.contains('.') && !name.contains(' ') && !name.contains(':');
    qualified.then(|| frame(&without_numbers(name), ""))
}

/// Takes `:12`, `:12:5` or `:line 12` off the end.
fn strip_position(place: &str) -> &str {
    let mut path = place;
    while let Some((before, number)) = path.rsplit_once(':') {
        let number = number.trim_start_matches("line ");
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        path = before;
    }
    path
}

/// The last two parts of a path: where a program was installed does not matter.
fn last_parts(path: &str) -> String {
    let mut parts: Vec<&str> = path.rsplit(['/', '\\']).take(2).collect();
    parts.reverse();
    parts.join("/")
}

/// Generated names carry numbers that change: `lambda$charge$3`, `Pay$$Lambda$12/0x00ab`, `func1`.
fn without_numbers(name: &str) -> String {
    let name = name.split("/0x").next().unwrap_or(name);
    let mut text = String::with_capacity(name.len());
    let mut after_dollar = false;
    for c in name.chars() {
        if after_dollar && c.is_ascii_digit() {
            continue;
        }
        after_dollar = c == '$';
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exception::exception;

    const STACKS: [(&str, &str, &str); 6] = [
        (
            "java",
            "shop.CardDeclined: no\n\tat shop.Pay.charge(Pay.java:41)\n\tat shop.Pay.lambda$run$3(Pay.java:12)\n\tat java.base/java.lang.Thread.run(Thread.java:840)",
            "shop.CardDeclined: no\n\tat shop.Pay.charge(Pay.java:57)\n\tat shop.Pay.lambda$run$8(Pay.java:19)\n\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:264)",
        ),
        (
            "python",
            "Traceback (most recent call last):\n  File \"/srv/a/shop/pay.py\", line 10, in charge\n    raise E\n  File \"/usr/lib/python3.11/asyncio/runners.py\", line 44, in run\nE: x",
            "Traceback (most recent call last):\n  File \"/opt/b/shop/pay.py\", line 88, in charge\n    raise E\n  File \"/usr/lib/python3.12/asyncio/base.py\", line 4, in go\nE: y",
        ),
        (
            "javascript",
            "Error: no\n    at charge (/srv/app/pay.js:10:15)\n    at async handle (file:///srv/app/http.mjs:3:1)\n    at Layer.handle (/srv/node_modules/express/a.js:95:5)",
            "Error: no\n    at charge (/srv/app/pay.js:22:9)\n    at async handle (file:///srv/app/http.mjs:7:9)\n    at node:internal/process/task_queues:95:5",
        ),
        (
            "go",
            "goroutine 18 [running]:\nmain.(*Pay).Charge(0xc000012345, 0x2a)\n\t/app/pay.go:41 +0x1d\nnet/http.HandlerFunc.ServeHTTP(0x1)\n\t/usr/local/go/src/net/http/server.go:2136 +0x29\ncreated by main.run in goroutine 1",
            "goroutine 77 [running]:\nmain.(*Pay).Charge(0xc000099999, 0x7)\n\t/app/pay.go:63 +0x44\nruntime.goexit()\n\t/usr/local/go/src/runtime/asm.s:1 +0x1",
        ),
        (
            "rust",
            "   0: std::panicking::begin_panic::h0123456789abcdef\n   1: shop::pay::charge::h1111111111111111\n             at ./src/pay.rs:10:5\n   2: tokio::runtime::park::h2222222222222222",
            "   0: rust_begin_unwind\n   1: core::panicking::panic_fmt\n   2: shop::pay::charge::h3333333333333333\n             at ./src/pay.rs:99:1",
        ),
        (
            "dotnet",
            "   at Shop.Pay.Charge(String id) in /src/Pay.cs:line 10\n   at System.Threading.Tasks.Task.Run()",
            "   at Shop.Pay.Charge(String id) in /build/Pay.cs:line 31\n   at Microsoft.AspNetCore.Host.Go()",
        ),
    ];

    #[test]
    fn a_fingerprint_survives_a_new_build_in_every_language() {
        for (language, before, after) in STACKS {
            let (a, b) = (exception("E", "m 1", before).0, exception("E", "m 2", after).0);
            assert_eq!(a, b, "{language}: {:?} against {:?}", frames_of(before), frames_of(after));
            assert!(frames_of(before).iter().any(|frame| frame.in_app), "{language}");
            assert!(frames_of(before).iter().any(|frame| !frame.in_app), "{language}");
        }
    }

    #[test]
    fn another_function_is_another_fingerprint_in_every_language() {
        for (language, before, _) in STACKS {
            let other = before.replace("charge", "refund").replace("Charge", "Refund");
            assert_ne!(exception("E", "m", before).0, exception("E", "m", &other).0, "{language}");
        }
    }

    #[test]
    fn a_stack_of_nothing_but_runtime_still_counts() {
        let of = |stack| exception("E", "same", stack).0;
        assert_ne!(of("at java.util.List.get(List.java:1)"), of("at java.util.Map.get(Map.java:1)"));
        assert_eq!(of("at java.util.List.get(List.java:1)"), of("at java.util.List.get(List.java:2)"));
    }
}
