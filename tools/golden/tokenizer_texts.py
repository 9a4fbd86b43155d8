"""Texts that tokenizers disagree on: random Unicode, control characters, special tokens inside the text, and the like."""

import random

LETTERS = [  # ranges of code points that one script writes its words with
    (0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x620, 0x64A),
    (0x905, 0x939), (0xE01, 0xE30), (0x1E00, 0x1EFF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xFF21, 0xFF5A), (0x1D400, 0x1D4FF), (0x20000, 0x20100),
]
SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\ufeff"
SPECIAL = [
    "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "<0x41>", "<0xFF>",
    "<extra_id_0>", "<extra_id_99>", "<extra_id_100>", "[mask]", "<MASK>", "[MAS", "K]", "< mask >", "[[MASK]]", "\u2581", "\u2581\u2581",
    "\u0120", "\u010a", "##", "##s", "<|begin_of_text|>", "<|eot_id|>", "<|reserved|>",
]
MARKS = [(0x300, 0x36F), (0x483, 0x487), (0x591, 0x5BD), (0x64B, 0x655), (0x93E, 0x94D), (0xE31, 0xE3A), (0x20D0, 0x20F0), (0xFE20, 0xFE2F)]
EMOJI = [
    "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466", "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA", "1\uFE0F\u20E3",
    "\u2764\uFE0F\u200D\U0001F525", "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "\U0001F926\u200D\u2642",
]
COMPATIBLE = "\ufb01\ufb03\u00bd\u2460\u2122\u33a5\ufdfa\u0130\u0131\u1e9e\u00df\u017f\u03c2\u0149\u01c5\u00aa\uff10\u2163\u3392\ufe10\u2026"
WORDS = (
    "the of and light colour Prism rays don't we'll I'm it's 'tis U.S.A. e-mail x=3.14 10,000 http://a.b/c?d=e#f @you C++ "
    "na\u00efve r\u00e9sum\u00e9 cafe\u0301 Stra\u00dfe \u0421\u043b\u043e\u0432\u043e \u03bb\u03cc\u03b3\u03bf\u03c2 \u05e9\u05dc\u05d5\u05dd \u0633\u0644\u0627\u0645 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u4f60\u597d \u6771\u4eac\u30bf\u30ef\u30fc \ud55c\uad6d\uc5b4"
).split(" ")


def between(rng, ranges):
    low, high = rng.choice(ranges)
    return chr(rng.randint(low, high))


def any_character(rng):
    limit = rng.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF])
    while True:
        point = rng.randint(0, limit)
        if not 0xD800 <= point <= 0xDFFF:
            return chr(point)


def random_characters(rng):
    return "".join(any_character(rng) for _ in range(rng.randint(0, 60)))


def mixed_scripts(rng):
    words = []
    for _ in range(rng.randint(1, 20)):
        script = [rng.choice(LETTERS)]
        words.append("".join(between(rng, script) for _ in range(rng.randint(1, 9))))
    return rng.choice(["", " ", "  ", "-", "'"]).join(words)


def controls(rng):
    pool = "\x00\x01\x07\x08\x0e\x1b\x7f\x80\x9f\u00ad\u200c\u200d\u200e\u202e\u2066\ufffd\ufffe\uffff\ufdd0\ue000\U000e0001\U0010ffff"
    return "".join(rng.choice([rng.choice(pool), rng.choice(WORDS), " "]) for _ in range(rng.randint(1, 25)))


def long_word(rng):
    length = rng.choice([99, 100, 101, 200, 600, 2500])
    alphabet = rng.choice(["a", "ab", "abcdefgh", "\u00e9x", "\u4e2d", "9", "!", "\u0301", "\U0001F600"])
    return rng.choice(["", "so "]) + "".join(rng.choice(alphabet) for _ in range(length)) + rng.choice(["", " end"])


def special_tokens(rng):
    parts = [rng.choice([rng.choice(SPECIAL), rng.choice(SPECIAL), rng.choice(WORDS), " ", "  ", "\n"]) for _ in range(rng.randint(1, 14))]
    return "".join(parts)


def combining(rng):
    text = ""
    for _ in range(rng.randint(1, 15)):
        text += rng.choice(["a", "E", "\u00e5", "\u0915", "\u05d0", "\u1100\u1161\u11a8", " ", ""])
        text += "".join(between(rng, MARKS) for _ in range(rng.randint(0, 8)))
    return text


def emoji(rng):
    return "".join(rng.choice([rng.choice(EMOJI), rng.choice(WORDS), " ", "\u200d", "\ufe0f"]) for _ in range(rng.randint(1, 12)))


def white_space(rng):
    parts = []
    for _ in range(rng.randint(1, 10)):
        parts.append("".join(rng.choice(SPACES) for _ in range(rng.randint(1, 6))))
        parts.append(rng.choice(WORDS + [""]))
    return "".join(parts)


def punctuation(rng):
    marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u00a1\u00b7\u2014\u2018\u2019\u201c\u2026\u3001\u3002\uff01\u20ac\u00d7\u2192\u2581"
    return "".join(rng.choice([rng.choice(marks), rng.choice(marks) * 3, rng.choice(WORDS), "7"]) for _ in range(rng.randint(1, 25)))


def compatibility(rng):
    return "".join(rng.choice([rng.choice(COMPATIBLE), rng.choice(WORDS), " "]) for _ in range(rng.randint(1, 15)))


def sentence(rng):
    text = list(rng.choice(["", " "]) + " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 25))))
    for _ in range(rng.randint(0, 3)):
        text.insert(rng.randint(0, len(text)), any_character(rng))
    return "".join(text)


KINDS = [
    random_characters, mixed_scripts, controls, long_word, special_tokens, combining, emoji, white_space, punctuation, compatibility, sentence,
]


def hostile(rng: random.Random) -> str:
    text = rng.choice(KINDS)(rng)
    return text + rng.choice(KINDS)(rng) if rng.random() < 0.2 else text


def hostile_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return ["", " ", "\x00", "\ufeff", "a", "\u2581"] + [hostile(rng) for _ in range(count - 6)]
