//! Encodings as flat arrays, the form in which they cross into Go.

use tokenizers::Encoding;

use crate::handle::Detail;

pub const SPECIAL_TOKENS: u32 = 1;
pub const TYPE_IDS: u32 = 2;
pub const OFFSETS: u32 = 4;
pub const WORD_IDS: u32 = 8;
pub const SEQUENCE_IDS: u32 = 16;
pub const WORD_STARTS: u32 = 32;
pub const OVERFLOW: u32 = 64;

/// The arrays of a batch of inputs. Those not asked for stay empty.
#[derive(Default)]
pub struct Arrays {
    pub ids: Vec<u32>,
    pub type_ids: Vec<u32>,
    pub offsets: Vec<[u32; 2]>,
    /// -1: none.
    pub word_ids: Vec<i32>,
    /// -1: a special token.
    pub sequence_ids: Vec<i32>,
    pub word_starts: Vec<bool>,
    /// Encoding k has tokens starts[k] to starts[k+1].
    pub starts: Vec<usize>,
    /// Input i has encodings firsts[i] to firsts[i+1]: itself, then its overflow.
    pub firsts: Vec<usize>,
}

impl Arrays {
    /// Empty arrays with room for what `inputs` inputs of `bytes` bytes together commonly give.
    pub fn with_room(inputs: usize, bytes: usize) -> Self {
        let mut arrays = Arrays { ids: Vec::with_capacity(bytes / 4 + 3 * inputs), ..Default::default() };
        arrays.starts.reserve(inputs + 1);
        arrays.starts.push(0);
        arrays.firsts.push(0);
        arrays
    }

    /// Adds one input's encoding, with its overflow if asked for.
    pub fn push_input(&mut self, encoding: &Encoding, flags: u32) {
        self.push(encoding, flags);
        if flags & OVERFLOW != 0 {
            for part in encoding.get_overflowing() {
                self.push(part, flags);
            }
        }
        self.firsts.push(self.starts.len() - 1);
    }

    fn push(&mut self, encoding: &Encoding, flags: u32) {
        let has = |flag| flags & flag != 0;
        self.ids.extend_from_slice(encoding.get_ids());
        self.starts.push(self.ids.len());
        if has(TYPE_IDS) {
            self.type_ids.extend_from_slice(encoding.get_type_ids());
        }
        if has(OFFSETS) {
            self.offsets.extend(encoding.get_offsets().iter().map(|&(start, end)| [start as u32, end as u32]));
        }
        if has(WORD_IDS) {
            self.word_ids.extend(encoding.get_word_ids().iter().map(|word| word.map_or(-1, |word| word as i32)));
        }
        if has(SEQUENCE_IDS) {
            self.sequence_ids.extend(encoding.get_sequence_ids().iter().map(|id| id.map_or(-1, |id| id as i32)));
        }
        if has(WORD_STARTS) {
            push_word_starts(&mut self.word_starts, encoding);
        }
    }
}

/// A token starts a word where the word id or the sequence changes, where it has no word id, and where it begins with
/// the sign by which SentencePiece writes a space. The last matters for tokenizers without a pre-tokenizer (Llama), to which
/// the whole text is one word; for all others it changes nothing, as they split at that sign or never produce it.
fn push_word_starts(starts: &mut Vec<bool>, encoding: &Encoding) {
    let sequences = encoding.get_sequence_ids();
    let mut previous = None;
    for ((token, word), sequence) in encoding.get_tokens().iter().zip(encoding.get_word_ids()).zip(sequences) {
        let here = Some((word, sequence));
        starts.push(word.is_none() || here != previous || token.starts_with('\u{2581}'));
        previous = here;
    }
}

/// The least work that gives what the flags ask for.
pub fn detail(flags: u32) -> Detail {
    if flags & OFFSETS != 0 {
        Detail::Offsets
    } else if flags & (WORD_IDS | WORD_STARTS) != 0 {
        Detail::Words
    } else {
        Detail::Ids
    }
}
