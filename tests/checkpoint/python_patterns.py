"""Writes python_patterns.tsv: regexes, names, and whether `re.match` of Python takes the name or refuses the regex.

    python3 tests/checkpoint/python_patterns.py > tests/checkpoint/python_patterns.tsv

Each line: the answer (`match`, `none`, `refused`), the regex and the name, the last two as JSON texts. Made with Python
3.11, whose grammar llm-compressor's own releases run on; Python 3.14 takes `\\z` too. Regexes by hand come first, then
random ones from the parts that regexes are made of; the seed is fixed.
"""

import json
import random
import re
import sys
import warnings

warnings.simplefilter("ignore")

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.mlp.down_proj",
    "model.visual.blocks.3.attn.qkv",
    "lm_head",
    "aaab",
    "abcabc",
    "AbC_1",
    "q proj",
    "a\n",
    "a\nb",
    "[a]-b&&c",
    "ıİ",
    "é²",
]

BY_HAND = r"""
model|.*up|.*down_proj$|.*\Z|\Amodel|^model|a$|a$\n|a$.|(?m)a$|(?m)a$\nb|(?s)a.b|a.b|(?m)a\n^b|a\n^b|a\Z|a\n\Z
.*layers\.[[:digit:]]+|.*[qk&&q]_proj|.*[a-z--q]_proj|.*[--q]_proj|.*[q[k]]_proj|.*\<q_proj|.*\b{start}q_proj|.*[[qk]_proj
.*(?i)DOWN_PROJ|.*down_proj\z|.*\pLown_proj|.*(?<x>down)_proj|.*(?<=mlp\.|self_attn\.)down_proj|.*down_proj**|^*model.*|(?U).*
.*layer{,3}s\.0\.|.*q_proj{,}|.*(?#the query)q_proj|(?a).*q_proj|.*(q)?(?(1)_proj|k_proj)|.*\161_proj|.*\N{LATIN SMALL LETTER Q}_proj
a++b|a*+a|a?+a|(?>a+)b|(?>a+)ab|(?>a|aa)ab|a{1,3}+b|a{2}{2}|a{2}?|a+?b|a??b|(?:a{2}){2}|(?:a+)+b|a{3,2}|a{|a{}|a{1|a{1,2|a{,|a{ 1}|{|{1}|{,}
(a)\1|(a)(?:\1)b|(?P<n>a)(?P=n)|(?P<n>a)\1|(?P=n)|(\1)|(?P<n>a)(?P<n>b)|(?P<1>a)|(?P<n-m>a)|(abc)\1|((a)b)\2|(a)\2|\1(a)|(?i)(a)b|(?i)(abc)\1
(?=model)m|(?!model)m|(?!lm)|(?<=a)b|.(?<=a)a|.*(?<!q)_proj|.*(?<=down)_proj|(?<=a*)b|(?<=ab|c)|(?<=ab|cd)|(?<=(a)\1)b|(a)(?<=\1)a|(?=a)*a|(?=a)+a|(?!a)?a|(?<=^)a|(?<=\b)a
(?i)MODEL|(?i:MODEL)\.|(?i-i:a)|(?-i:a)|(?i)a(?-i:B)|(?i)a(?-i:b)|(?x) m o # c|(?x)a # c \) b|(?x:a b)c|(?xi) A A|(?-x:a)|(?a-i:a)|(?i-a:a)|(?u)a|(?au)a|(?a)(?u)a|(?L)a|(?i)i|(?i)İ|(?i)[a-z]+$|(?ai)É|(?i)É|(?i)[^a]
a|(?i)b|(?i)(?s)a|(?#x)(?i)A|(?:(?i)a)|(?i|(?i:a|(?z)|(?P|(?P>a)|(?|(?<|(?<a|(?'n'a)|(?R)|(?&n)|(?1)|(?|a|b)|(?=a|(?#a|(a|a)|)
[]a]|[^]a]|[a|[]|[^]|[a-]|[-a]|[a-z-9]|[z-a]|[\w-z]|[a-\d]|[\w-]|[\d\s]|[\W]|[^\W]+|[\D]|[\S]+|[\b]|[\A]|[\1]|[\141]|[\8]|[\400]|[\x61]|[\x6]|[\u0061]|[\N{FULL STOP}]|[.]|[$]|[a^]|[&&]|[[a]|[[]a]|[a||b]|[a~~b]
\d|\D+|\s|\S+|\w+$|\W|.*\bq|.*\Bq|.*\B_proj|\bmodel\b|(?a)\w+$|(?a)\W|(?a).*\bq|(?a)[\w.]+$|(?a)[^\w]|\b*|\B+|(?:\b)*a|(?:^)*a|(?:$)*a|$*|^+|\A?|\Z*
\x61|\x6|\x{61}|\u0061|\u61|\U00000061|\U00110000|\N{x}|\N|\N{DIGIT ONE}|\0|\01|\141|\400|\777|\8|\18|\e|\h|\K|\R|\X|\Q|\E|\G|\l|\y|\-|\.|\_|\ |\é|\a|\f|\t|\v|\r
(?(1)a|b)|(a)?(?(1)a|b)|(a)(?(1)a|b|c)|(?P<n>a)?(?(n)a|b)|(?(n)a)|(?(0)a)|(a)?(?(1))|(?(a-b)c)|(?(1)(a))|(a)?b?(?(1)c)
()|()*a|(|a)+b|(a|)*b|(?:)|(?:)*a|(?:|a)b|a||b|(?:a|b|)c|((a)|b)+|(a*)*b|(a*)+\1|(?:a?)*?b|(a?)??b|x*|(?!)|(?!)a|(?=)a|(?<!)a
*|+|?|a**|a+*|a?*|a*?*|a*+*|a+++|a???|(*)|(+a)|a|*|(?:a|+)|a(?#x)*|(?x)a *|(?x)a {2}|(?x)a { 2}|(?x)[ a]|(?x)\ a|(?x)a#|a\
""".strip("\n")


def by_hand():
    # Regexes are apart by `|` outside groups and sets; those that cannot be cut so are listed below.
    for line in BY_HAND.splitlines():
        depth, part, escaped = 0, "", False
        for c in line:
            if escaped:
                part, escaped = part + c, False
                continue
            escaped = c == "\\"
            depth = max(0, depth + (c == "(") - (c == ")"))
            if c == "|" and depth == 0:
                yield part
                part = ""
            else:
                part += c
        yield part
        # Once more without regard to groups, for texts that are cut in the middle.
        yield from line.split("|")
    yield from ["mlp|model", "a|b|c", "\\", "[]", "[^]", "(?<=a|b)c", "(a)?(?(1)|b)", "(b)?(?(1)|a)a", "(a)?(?(1)b|)a", r".*\bq", r".*\B_proj$", r".\b", r"..\b", r"é\B", r"(?a).\b", r"(?i)\bABC\b|abcabc\b", "a|", "|a", "\ud7ff", "(?x)a\\\nb", "(?x)#\\\na"]


PARTS = list("aabc.") + [
    "a", "q", "_", "1", "layers", r"\.", r"\d", r"\w", r"\s", r"\W", r"\b", r"\B", r"\Z", r"\A", "^", "$", "*", "+", "?", "*?", "+?",
    "++", "*+", "?+", "{2}", "{,2}", "{1,}", "{1,2}?", "{", "}", "(", "(", ")", ")", ")", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>",
    "(?i)", "(?i:", "(?s:", "(?-i:", "(?P<n>", "(?P=n)", r"\1", r"\2", "(?(1)", "|", "|", "[", "]", "[a-c]", "[^a]", "[^", "-", "[]a]",
    r"[\w.]", r"\x61", r"\141", r"\n", "\n", " ", "#", ".*", ".*", ".+",
]


def at_random(generator):
    count = 0
    while count < 1500:
        text = "".join(generator.choice(PARTS) for _ in range(generator.randint(1, 9)))
        if text.count("(") > text.count(")") and generator.random() < 0.8:
            text += ")" * (text.count("(") - text.count(")"))
        valid = True
        try:
            re.compile(text)
        except (re.error, OverflowError, ValueError):
            valid = False
        # Most of what is refused is so for the same few reasons.
        if valid or generator.random() < 0.15:
            count += 1
            yield text


def main():
    generator = random.Random(20)
    seen = set()
    for regex in [*by_hand(), *at_random(generator)]:
        if regex in seen or not regex:
            continue
        seen.add(regex)
        try:
            compiled = re.compile(regex)
        except (re.error, OverflowError, ValueError):
            print("refused", json.dumps(regex), '""', sep="\t")
            continue
        matched = [name for name in NAMES if compiled.match(name)]
        others = [name for name in NAMES if name not in matched]
        for names, answer in ((matched, "match"), (others, "none")):
            for name in generator.sample(names, min(3, len(names))):
                print(answer, json.dumps(regex), json.dumps(name), sep="\t")


if __name__ == "__main__":
    sys.exit(main())
