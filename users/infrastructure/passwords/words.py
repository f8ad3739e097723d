"""Words that are guessed first, the service's and the user's own, and passwords made of nothing else."""

import unicodedata
from collections.abc import Collection, Iterable
from itertools import groupby
from urllib.parse import urlsplit

import idna

SHORTEST = 2
_SECOND_LEVEL = frozenset(
    {"ac", "co", "com", "edu", "gob", "gov", "govt", "go", "ne", "net", "or", "org", "sch"}
)
# Digits and signs that stand for letters; i and l are one, as 1 stands for both.
_LEET = str.maketrans("01345789@$!|l+", "oieastbgasiiit")


def fold(text: str) -> str:
    """The same for every way to write a word: case, width, accents."""
    decomposed = unicodedata.normalize("NFKD", text.strip()).casefold()
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


def words_of_service(issuer: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Of its name, which may be an address, and of what the settings add."""
    address = urlsplit(issuer)
    name = [*_labels(address.hostname), address.path] if address.hostname else [issuer]
    return frozenset().union(*map(words_of, [*name, *more]))


def words_of_email(email: str) -> frozenset[str]:
    local, _, domain = email.rpartition("@")
    return frozenset().union(*map(words_of, [local, *_labels(domain)]))


def words_of(text: str) -> frozenset[str]:
    """Its runs of letters, and all of them as one."""
    runs = ["".join(run) for letters, run in groupby(fold(text), _is_letter) if letters]
    return frozenset(word for word in [*runs, "".join(runs)] if len(word) >= SHORTEST)


def made_of(password: str, words: Collection[str]) -> bool:
    """Whether there is nothing in it but these words, once or several times, with digits and signs between
    them or for some of their letters. Other letters in it make it somebody's own."""
    folded = fold(password)
    if not any(map(_is_letter, folded)):
        return False
    plain, skeletons = folded.translate(_LEET), {word.translate(_LEET) for word in words}
    reached = [True] + [False] * len(folded)
    for place, character in enumerate(folded):
        if not reached[place]:
            continue
        if not _is_letter(character):
            reached[place + 1] = True
        for word in skeletons:
            if plain.startswith(word, place):
                reached[place + len(word)] = True
    return reached[-1]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def _labels(domain: str) -> list[str]:
    """Of a domain, in the letters that people type, without what is everybody's: `com`, `co.uk`."""
    labels = domain.split(".")[:-1] or [domain]
    if len(labels) > 1 and labels[-1] in _SECOND_LEVEL:
        labels.pop()
    return [_decoded(label) for label in labels]


def _decoded(label: str) -> str:
    try:
        return idna.decode(label)
    except idna.IDNAError:
        return label
