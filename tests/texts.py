"""A thousand varied texts, and some long ones, the same in every run."""

from __future__ import annotations

import random

SCRIPTS = {
    "latin": "the quick brown fox jumps over lazy dogs while rain falls softly on green hills",
    "german": "Übergrößenträger müssen öfter für Äpfel über weiße Straßen gehen und grüßen",
    "greek": "η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί στην αυλή",
    "russian": "съешь же ещё этих мягких французских булок да выпей чаю под дождём",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה נעימה מאוד",
    "hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा का सर्वनाश करने वाले",
    "thai": "เป็น มนุษย์ สุด ประเสริฐ เลิศ คุณค่า กว่า บรรดา ฝูง สัตว์",
    "japanese": "いろは にほへと ちりぬるを 日本語 の 文章 カタカナ も あります",
    "chinese": "天地 玄黄 宇宙 洪荒 日月 盈昃 辰宿 列张 寒来 暑往",
    "korean": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다",
    "code": "def f(x): return {x: [1, 2.5e-3, None]} if x != '' else lambda *a, **k: ~x >> 2",
    "emoji": "🦜 👩‍👩‍👧‍👦 🇩🇪 ❤️‍🔥 👍🏽 🧑🏿‍🚀 ☃️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "numbers": "0 1 42 3.14159 1e10 ١٢٣ Ⅷ ½ 1,000,000 -7 0x1F 2026-11-21",
}
SPACES = (" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "", "\u200b", " \n\n ")
CONTROLS = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0xAD, 0x200D, 0x202E, 0xFEFF, 0xFFFD)))


def varied_texts(count: int = 1000, seed: int = 1536) -> list[str]:
    """Texts of many scripts, spaces and lengths (1 character to some 300 words), some doubled.

    None is empty, and none holds a lone surrogate, which no JSON reader lets in.
    """
    draw = random.Random(seed)
    texts = [" ", "\n", "\x00", "\ufeff", "a", "🦜", "</s>", "<s>", "[PAD]", CONTROLS, "  \t \n"]
    texts += [chr(point) for point in (0x1, 0x300, 0xAC00, 0xE000, 0xFFFF, 0x10FFFF)]
    while len(texts) < count * 9 // 10:
        texts.append(_text(draw))
    texts += draw.choices(texts, k=count - len(texts))
    draw.shuffle(texts)
    return texts


def long_texts(words: int = 5000, seed: int = 1536) -> list[str]:
    """One text of so many words for each script."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(text.split(), k=words)) for text in SCRIPTS.values()]


def _text(draw: random.Random) -> str:
    match draw.randrange(6):
        case 0:
            return "".join(_character(draw) for _ in range(draw.randint(1, 40)))
        case 1:
            return draw.choice(CONTROLS) * draw.randint(1, 5) + _words(draw, draw.randint(1, 5))
        case 2:
            return draw.choice(SPACES[:4]) * draw.randint(1, 30)
        case _:
            return _words(draw, round(1.5 ** draw.uniform(0, 14)))


def _words(draw: random.Random, count: int) -> str:
    """Words of one to three scripts with one kind of space between them."""
    words = [w for name in draw.choices(list(SCRIPTS), k=3) for w in SCRIPTS[name].split()]
    return draw.choice(SPACES).join(draw.choices(words, k=count)) or "x"


def _character(draw: random.Random) -> str:
    point = draw.choice((draw.randrange(0x80), draw.randrange(0x3000), draw.randrange(0x110000)))
    return chr(point) if not 0xD800 <= point < 0xE000 else "?"
