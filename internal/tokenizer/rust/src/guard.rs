//! Panics become errors: no unwinding may cross into C.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_char, CString};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Where this thread's last panic happened.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; an error or a panic in it is written to `err`, and `otherwise` is returned.
pub fn guard<T>(err: *mut *mut c_char, otherwise: T, body: impl FnOnce() -> Result<T, String>) -> T {
    quiet();
    let message = match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(message)) => message,
        Err(payload) => describe(&*payload),
    };
    if !err.is_null() {
        let text = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
        // SAFETY: err is not null, and the caller passed the address of a pointer.
        unsafe { *err = text.into_raw() };
    }
    otherwise
}

/// Keeps the default hook from printing to standard error: the message goes to the caller.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map_or(String::new(), |at| format!(" ({}:{})", tail(at.file()), at.line()));
            PLACE.with(|cell| cell.replace(place));
        }))
    });
}

/// The last two parts of a source path; the rest belongs to the machine that compiled it.
fn tail(path: &str) -> &str {
    path.rmatch_indices('/').nth(1).map_or(path, |(at, _)| &path[at + 1..])
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let what = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("panic in tokenizers: {what}{}", PLACE.with(|cell| cell.take()))
}
