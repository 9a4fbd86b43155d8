#!/usr/bin/env python3
"""Trains the demo's tokenizer and writes the base model's directory, all but its weights.

  make_tokenizer.py CORPUS OUT

CORPUS is what make_corpus.py wrote. The tokenizer is BERT's: uncased WordPiece, 4096 tokens. Writes OUT/tokenizer.json,
tokenizer_config.json, vocab.txt and config.json: a directory that ddprun (and transformers) initialises at random.

The crate breaks ties between rare pieces in hash order, so two runs differ in the numbering and in a few tokens: after a new
run the weights must be trained anew too.

Needs the Python packages tokenizers and transformers (tools/golden/requirements.txt).
"""

import glob
import os
import sys

import transformers as tf
from tokenizers import BertWordPieceTokenizer

VOCAB = 4096
MAX_TOKENS = 128


def main(corpus, out):
    files = sorted(glob.glob(os.path.join(corpus, "train", "*.txt")))
    if not files:
        sys.exit(f"{corpus}/train holds no .txt file: run make_corpus.py first")
    os.makedirs(out, exist_ok=True)
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train(files, vocab_size=VOCAB, min_frequency=2, limit_alphabet=80, show_progress=False)
    wordpiece.save_model(out)
    tf.BertTokenizerFast(tokenizer_object=wordpiece._tokenizer, model_max_length=MAX_TOKENS).save_pretrained(out)
    tf.BertConfig(
        architectures=["BertForMaskedLM"], vocab_size=VOCAB, hidden_size=192, num_hidden_layers=4, num_attention_heads=3,
        intermediate_size=768, max_position_embeddings=MAX_TOKENS).save_pretrained(out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
