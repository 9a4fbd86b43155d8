//! The C interface. `../../ddtok.h` has the declarations and says what each function does.
//!
//! Safety, for all of them: a pointer with a length points to that many elements that stay unchanged during the call (it may
//! be dangling when the length is 0); a tokenizer or batch comes from a function here and is freed once.

use std::cell::Cell;
use std::ffi::{c_char, c_int, CString};
use std::{ptr, slice, str};

use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

use crate::arrays::{detail, Arrays, SPECIAL_TOKENS};
use crate::guard::guard;
use crate::handle::Handle;

/// What C sees of a batch: pointers into `owner`.
#[repr(C)]
pub struct Batch {
    owner: *mut Arrays,
    ids: *const u32,
    type_ids: *const u32,
    offsets: *const [u32; 2],
    word_ids: *const i32,
    sequence_ids: *const i32,
    word_starts: *const bool,
    starts: *const usize,
    firsts: *const usize,
    tokens: usize,
    encodings: usize,
    failed: usize,
}

/// A string handed to C, freed by `ddtok_bytes_free`.
#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    length: usize,
}

unsafe fn view<'a, T>(data: *const T, length: usize) -> &'a [T] {
    if length == 0 {
        &[]
    } else {
        slice::from_raw_parts(data, length)
    }
}

fn give(text: String) -> Bytes {
    let boxed = text.into_bytes().into_boxed_slice();
    Bytes { length: boxed.len(), data: Box::into_raw(boxed).cast() }
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_new(json: *const u8, length: usize, err: *mut *mut c_char) -> *mut Handle {
    guard(err, ptr::null_mut(), || Ok(Box::into_raw(Box::new(Handle::from_json(view(json, length))?))))
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_truncating(
    t: *const Handle,
    max_length: usize,
    stride: usize,
    strategy: c_int,
    direction: c_int,
    err: *mut *mut c_char,
) -> *mut Handle {
    guard(err, ptr::null_mut(), || {
        let strategy = match strategy {
            0 => TruncationStrategy::LongestFirst,
            1 => TruncationStrategy::OnlyFirst,
            2 => TruncationStrategy::OnlySecond,
            other => return Err(format!("no truncation strategy {other}")),
        };
        let direction = match direction {
            0 => TruncationDirection::Right,
            1 => TruncationDirection::Left,
            other => return Err(format!("no truncation direction {other}")),
        };
        let handle = (*t).truncating(TruncationParams { max_length, stride, strategy, direction })?;
        Ok(Box::into_raw(Box::new(handle)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_free(t: *mut Handle) {
    if !t.is_null() {
        guard(ptr::null_mut(), (), || {
            drop(Box::from_raw(t));
            Ok(())
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_encode(
    t: *const Handle,
    data: *const u8,
    ends: *const usize,
    texts: usize,
    texts_per_input: usize,
    flags: u32,
    out: *mut Batch,
    err: *mut *mut c_char,
) -> c_int {
    let current = Cell::new(usize::MAX);
    let code = guard(err, 1, || {
        let ends = view(ends, texts);
        let all = view(data, ends.last().copied().unwrap_or(0));
        let mut arrays = Arrays::with_room(texts, all.len());
        let mut start = 0;
        for (input, ends) in ends.chunks(texts_per_input).enumerate() {
            current.set(input);
            let first = text(all, start, ends[0])?;
            let pair = ends.get(1).map(|&end| text(all, ends[0], end)).transpose()?;
            start = ends[ends.len() - 1];
            let encoding = (*t).encode(first, pair, flags & SPECIAL_TOKENS != 0, detail(flags))?;
            arrays.push_input(&encoding, flags);
        }
        *out = Batch::of(Box::new(arrays));
        Ok(0)
    });
    if code != 0 {
        (*out).failed = current.get();
    }
    code
}

fn text(all: &[u8], start: usize, end: usize) -> Result<&str, String> {
    if end - start > u32::MAX as usize {
        return Err("the text is longer than 4 GiB".into());
    }
    str::from_utf8(&all[start..end]).map_err(|e| format!("invalid UTF-8 at byte {}", e.valid_up_to()))
}

impl Batch {
    fn of(arrays: Box<Arrays>) -> Self {
        Batch {
            ids: arrays.ids.as_ptr(),
            type_ids: arrays.type_ids.as_ptr(),
            offsets: arrays.offsets.as_ptr(),
            word_ids: arrays.word_ids.as_ptr(),
            sequence_ids: arrays.sequence_ids.as_ptr(),
            word_starts: arrays.word_starts.as_ptr(),
            starts: arrays.starts.as_ptr(),
            firsts: arrays.firsts.as_ptr(),
            tokens: arrays.ids.len(),
            encodings: arrays.starts.len() - 1,
            failed: 0,
            owner: Box::into_raw(arrays),
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_batch_free(batch: *mut Batch) {
    if !(*batch).owner.is_null() {
        drop(Box::from_raw((*batch).owner));
        (*batch).owner = ptr::null_mut();
    }
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_decode(
    t: *const Handle,
    ids: *const u32,
    length: usize,
    skip_special: bool,
    out: *mut Bytes,
    err: *mut *mut c_char,
) -> c_int {
    guard(err, 1, || {
        let text = (*t).vocabulary().decode(view(ids, length), skip_special).map_err(|e| e.to_string())?;
        *out = give(text);
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_token_to_id(
    t: *const Handle,
    token: *const u8,
    length: usize,
    err: *mut *mut c_char,
) -> i64 {
    guard(err, -1, || {
        let token = str::from_utf8(view(token, length)).ok();
        Ok(token.and_then(|token| (*t).vocabulary().token_to_id(token)).map_or(-1, i64::from))
    })
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_id_to_token(t: *const Handle, id: u32, out: *mut Bytes, err: *mut *mut c_char) -> c_int {
    guard(err, 1, || {
        let Some(token) = (*t).vocabulary().id_to_token(id) else { return Ok(1) };
        *out = give(token);
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_vocab_size(t: *const Handle, with_added: bool, err: *mut *mut c_char) -> i64 {
    guard(err, -1, || Ok((*t).vocabulary().get_vocab_size(with_added) as i64))
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_bytes_free(bytes: Bytes) {
    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(bytes.data, bytes.length)))
}

#[no_mangle]
pub unsafe extern "C" fn ddtok_error_free(message: *mut c_char) {
    if !message.is_null() {
        drop(CString::from_raw(message))
    }
}
