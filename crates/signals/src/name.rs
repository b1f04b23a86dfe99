//! What an operation is called.
//!
//! A span's own name is kept where it is a name. Where `http.route` is known and the name lacks it, the operation is
//! `METHOD route`. A name that is a raw path or carries ids loses them: a word or path segment that is a number, a UUID, a
//! long hexadecimal string or a long mixture of letters and digits becomes `{id}`, and a query string goes.

use std::borrow::Cow;

/// Longest operation name kept, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 200;

/// Names the operation that a span belongs to.
pub(crate) fn operation_name<'a>(name: &'a str, method: Option<&str>, route: Option<&'a str>) -> Cow<'a, str> {
    let full = match route {
        Some(route) if !route.is_empty() && !name.contains(route) => match method {
            Some(method) if !method.is_empty() => Cow::Owned(format!("{method} {route}")),
            _ => Cow::Borrowed(route),
        },
        Some(route) if !route.is_empty() => Cow::Borrowed(name),
        _ => without_ids(name),
    };
    match truncated(&full, NAME_BYTES_MAX).len() {
        len if len == full.len() => full,
        len => Cow::Owned(full[..len].to_owned()),
    }
}

/// Cuts text at a character boundary.
pub(crate) fn truncated(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn without_ids(name: &str) -> Cow<'_, str> {
    let path = if name.contains('/') { name.split('?').next().unwrap_or(name) } else { name };
    if !path.split(['/', ' ']).any(is_id) {
        return Cow::Borrowed(path);
    }
    let mut clean = String::with_capacity(path.len());
    let mut rest = path;
    loop {
        let end = rest.find(['/', ' ']).unwrap_or(rest.len());
        let word = &rest[..end];
        clean.push_str(if is_id(word) { "{id}" } else { word });
        let Some(separator) = rest[end..].chars().next() else { break };
        clean.push(separator);
        rest = &rest[end + 1..];
    }
    Cow::Owned(clean)
}

/// Says whether a word names one thing rather than a sort of thing.
pub(crate) fn is_id(word: &str) -> bool {
    let bytes = word.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if digits == 0 || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.')) {
        return false;
    }
    let plain = bytes.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':'));
    let hex = bytes.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    plain || (hex && bytes.len() >= 8) || (bytes.len() >= 16 && digits >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_says_the_sort_of_work_and_lose_ids() {
        for (name, expected) in [
            ("GET /api/v1/users", "GET /api/v1/users"),
            ("/orders/12345/items?page=2", "/orders/{id}/items"),
            ("GET /u/4bf92f3577b34da6a3ce929d0e0e4736", "GET /u/{id}"),
            ("/u/0b5f0e6c-3d6e-4b6e-9d57-1f3f6a1f2b11/cart", "/u/{id}/cart"),
            ("/seats/{typeIndex}/{orderId}", "/seats/{typeIndex}/{orderId}"),
            ("job 981234", "job {id}"),
            ("OrderController.queryV2", "OrderController.queryV2"),
            ("grpc.health.v1.Health/Check", "grpc.health.v1.Health/Check"),
            ("/é/1", "/é/{id}"),
            ("", ""),
        ] {
            assert_eq!(operation_name(name, Some("GET"), None), expected);
        }
    }

    #[test]
    fn a_route_completes_a_name_that_lacks_it() {
        assert_eq!(operation_name("GET", Some("GET"), Some("/a/{id}")), "GET /a/{id}");
        assert_eq!(operation_name("GET /a/{id}", Some("GET"), Some("/a/{id}")), "GET /a/{id}");
        assert_eq!(operation_name("handler", None, Some("/a")), "/a");
        assert_eq!(operation_name("handler", None, Some("")), "handler");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = "é".repeat(300);
        assert_eq!(operation_name(&name, None, None).len(), NAME_BYTES_MAX);
    }
}
