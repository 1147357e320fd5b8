//! A JSON body as units: one value, a list of them, or one a line.
//!
//! Called by the doors in `server` and by `cli`. Its rule: a unit that cannot be read is named by its line, or by its position in
//! a list, and the others are used. The way not taken: a flag for the form.

use serde_json::Value;

/// Hands each unit to `take`, which says whether it could be used. With `by_line` each line is a unit; else the body is one
/// value, and is read by line when that fails and there is more than one line.
///
/// Gives line and reason when the body as a whole is to blame: nothing in it could be used.
pub fn each(
    bytes: &[u8],
    by_line: bool,
    take: &mut dyn FnMut(usize, Result<Value, String>) -> bool,
) -> Option<(usize, String)> {
    if bytes.trim_ascii().is_empty() {
        return None;
    }
    let mut whole = None;
    if !by_line {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Array(units)) => {
                for (n, unit) in units.into_iter().enumerate() {
                    take(n + 1, Ok(unit));
                }
                return None;
            }
            Ok(unit) => {
                take(1, Ok(unit));
                return None;
            }
            // Several lines sent as one document are meant as lines.
            Err(error) if bytes.trim_ascii_end().contains(&b'\n') => whole = Some(error),
            Err(error) => return Some((error.line(), format!("not JSON: {error}"))),
        }
    }
    let mut used = false;
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
        used |= take(n + 1, serde_json::from_slice(line).map_err(|e| format!("not JSON: {e}")));
    }
    // Not one line can be used, so it was meant as one document: then its own mistake is the one to name.
    whole.filter(|_| !used).map(|error| (error.line(), format!("not JSON: {error}")))
}
