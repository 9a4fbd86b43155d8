//! A tokenizer in two halves: text to tokens, and tokens to the finished encoding.

use std::sync::Arc;

use tokenizers::models::wordlevel::WordLevel;
use tokenizers::{EncodeInput, Encoding, PostProcessor, PostProcessorWrapper, Tokenizer, TruncationParams};

/// How much of an encoding a caller reads; less costs less.
#[derive(Clone, Copy, PartialEq)]
pub enum Detail {
    /// Ids and type ids. The crate's fast path leaves offsets and word ids out.
    Ids,
    /// Word ids too.
    Words,
    /// Offsets in characters, as Python counts them, too.
    Offsets,
}

/// The crate, as of 0.23, stops early when a truncation is set on the tokenizer that reads the text, and then cuts pairs at
/// another place than the Python package and loses overflow (huggingface/tokenizers#2091). So `reader` knows neither
/// truncation nor post-processor, and `finisher` has both but no vocabulary: handles that differ in truncation share one
/// vocabulary.
pub struct Handle {
    reader: Arc<Tokenizer>,
    finisher: Tokenizer,
}

impl Handle {
    /// Reads a tokenizer.json. Its own truncation and padding are dropped: they are the caller's to choose.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut reader = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        reader.with_padding(None);
        reader.with_truncation(None).map_err(|e| e.to_string())?;
        let processor = reader.get_post_processor().cloned();
        reader.with_post_processor(None::<PostProcessorWrapper>);
        Ok(Handle { reader: Arc::new(reader), finisher: finisher(processor) })
    }

    /// The same tokenizer with a truncation; the vocabulary is shared.
    pub fn truncating(&self, params: TruncationParams) -> Result<Self, String> {
        let processor = self.finisher.get_post_processor().cloned();
        let special = processor.as_ref().map_or(0, |p| p.added_tokens(false));
        // The crate subtracts without looking and would wrap around.
        let room = params.max_length.checked_sub(special).ok_or_else(|| too_short(params.max_length, special))?;
        if params.stride > 0 && params.stride >= room {
            return Err(format!(
                "a stride of {} leaves nothing to go on by: {} tokens of a maximum length of {} are not special",
                params.stride, room, params.max_length
            ));
        }
        let mut finisher = finisher(processor);
        finisher.with_truncation(Some(params)).map_err(|e| e.to_string())?;
        Ok(Handle { reader: Arc::clone(&self.reader), finisher })
    }

    /// Encodes one text, or a pair of texts.
    pub fn encode(&self, text: &str, pair: Option<&str>, special: bool, detail: Detail) -> Result<Encoding, String> {
        if let (true, Some(cut)) = (special, self.finisher.get_truncation()) {
            let added = self.finisher.get_post_processor().map_or(0, |p| p.added_tokens(pair.is_some()));
            if cut.max_length < added {
                return Err(too_short(cut.max_length, added));
            }
        }
        let first = self.read(text, detail)?;
        let second = match pair {
            None => None,
            Some(text) => {
                let mut encoding = self.read(text, detail)?;
                encoding.set_type_ids(vec![1; encoding.len()]);
                Some(encoding)
            }
        };
        self.finisher.post_process(first, second, special).map_err(|e| e.to_string())
    }

    fn read(&self, text: &str, detail: Detail) -> Result<Encoding, String> {
        let input = EncodeInput::Single(text.into());
        match detail {
            Detail::Ids => self.reader.encode_fast(input, false),
            Detail::Words => self.reader.encode(input, false),
            Detail::Offsets => self.reader.encode_char_offsets(input, false),
        }
        .map_err(|e| e.to_string())
    }

    /// What needs the vocabulary alone: decoding, and tokens by name and id.
    pub fn vocabulary(&self) -> &Tokenizer {
        &self.reader
    }
}

fn finisher(processor: Option<PostProcessorWrapper>) -> Tokenizer {
    let mut finisher = Tokenizer::new(WordLevel::default());
    finisher.with_post_processor(processor);
    finisher
}

fn too_short(max_length: usize, special: usize) -> String {
    format!("a maximum length of {max_length} has no room for the {special} special tokens")
}
