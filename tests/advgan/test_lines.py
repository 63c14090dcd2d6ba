"""Are lines of text what they were, once they have been tokens, whatever they are made of?"""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advgan.sequences.text import END, UNKNOWN, UNREADABLE, Vocabulary, pieces, read, usual_kind, visible
from attacks import InputError

HARD = [
    "e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} \N{REGIONAL INDICATOR SYMBOL LETTER I}",
    "漢字かな交じり文",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "a\0b\x1b[2J",
    "\N{NO-BREAK SPACE}edge\t ",
]

characters = st.characters(blacklist_categories=["Cs"])
lines_of_text = st.lists(st.text(characters, max_size=12), min_size=1, max_size=6)


def knows(lines: list[str], kind: str) -> bool:
    return len({piece for line in lines for piece in pieces(line, kind)}) >= 2


@given(lines_of_text)
def test_known_characters_come_back_as_they_were(lines: list[str]):
    if knows(lines, "characters"):
        vocabulary = Vocabulary.of(lines, "characters")
        assert vocabulary.decode(vocabulary.encode(lines, 13)) == lines


@given(lines_of_text)
def test_known_words_come_back_with_one_space_between_them(lines: list[str]):
    if knows(lines, "words"):
        vocabulary = Vocabulary.of(lines, "words")
        assert vocabulary.decode(vocabulary.encode(lines, 13)) == [" ".join(line.split()) for line in lines]


@given(lines_of_text)
def test_a_file_gives_its_lines_whatever_ends_them(lines: list[str]):
    whole = [line for line in lines if line.strip() and not {"\r", "\n"} & set(line) and line[0] != "\ufeff"]
    if not whole:
        return
    path = Path(".lines-of-a-test.txt")
    try:
        for end in ("\n", "\r\n", "\r"):
            path.write_bytes(end.join(whole).encode())
            assert read(path) == whole
    finally:
        path.unlink()


@pytest.mark.parametrize("line", HARD)
def test_scripts_and_controls_survive(line: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{line}x\n".encode())
    lines = read(tmp_path / "a.txt")
    assert lines == [line, f"{line}x"]
    vocabulary = Vocabulary.of(lines, "characters")
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again == vocabulary
    assert again.decode(vocabulary.encode(lines, 40)) == lines


def test_a_line_ends_in_end_to_the_length_of_all():
    vocabulary = Vocabulary.of(["a b a", "b"], "words")
    assert vocabulary.tokens == ("a", "b")  # the most frequent first, then by name
    assert vocabulary.encode(["a b a", "b", ""], 4).tolist() == [[2, 3, 2, END], [3, END, END, END], [END] * 4]
    assert len(vocabulary) == 4


def test_what_stands_behind_the_first_end_is_not_read_out():
    vocabulary = Vocabulary("words", ("a", "b"))
    assert vocabulary.decode(torch.tensor([[2, END, 3, 3], [2, 3, 2, 3]])) == ["a", "a b a b"]


def test_rare_tokens_are_unknown():
    vocabulary = Vocabulary.of(["a a a b b c"], "words", largest=2)
    tokens = vocabulary.encode(["a c b"], 4)
    assert tokens.tolist() == [[2, UNKNOWN, 3, END]]
    assert vocabulary.decode(tokens) == [f"a {UNREADABLE} b"]


def test_names_are_spelled_and_sentences_worded():
    assert usual_kind(["Anna", "Jean Luc", "Bo"]) == "characters"
    assert usual_kind(["the cat sat", "the dog sat down", "no"]) == "words"
    assert usual_kind(["漢字かな交じり文"]) == "characters"


@given(st.text(characters, max_size=20))
def test_what_is_shown_stays_on_its_line_and_steers_nothing(line: str):
    shown = visible(line)
    assert len(shown.splitlines()) <= 1
    assert not {"\x1b", "\0", "\u202e", "\x9b"} & set(shown)


def test_what_is_shown_is_otherwise_as_it_is():
    assert visible("a\x1b[2J\u202eb") == "a\\x1b[2J\\u202eb"
    for line in HARD[:4]:
        assert visible(line) == line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no line of text"),
        (b" \n\r\n\t\n", "has no line of text"),
        (b"good\nb\xe9d\n", r"byte 6 \(of line 2\) is 0xe9"),
        (b"\xef\xbb\xbfgood\nb\xe9d\n", r"byte 9 \(of line 2\) is 0xe9"),
        (b"half of a snowman \xe2\x98", "byte 18"),
        ("text".encode("utf-16"), "looks like UTF-16"),
    ],
    ids=["empty", "blank", "latin1", "latin1 behind a mark", "cut short", "utf16"],
)
def test_files_that_are_no_text_are_refused(content: bytes, said: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.txt")


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)


def test_vocabularies_that_make_no_sense_are_refused():
    for lines in ([], ["a"], ["a a", "a"]):
        with pytest.raises(InputError, match="fewer than two different words"):
            Vocabulary.of(lines, "words")
    with pytest.raises(InputError, match="takes 2 tokens or more"):
        Vocabulary.of(["a b"], "words", largest=1)
    with pytest.raises(InputError, match="no vocabulary 'letters'"):
        Vocabulary.of(["a b"], "letters")


def test_lines_that_are_too_long_and_tokens_of_others_are_refused():
    vocabulary = Vocabulary("characters", ("a", "b"))
    with pytest.raises(InputError, match="has 4 characters, and at most 3 were learnt: abab"):
        vocabulary.encode(["ab", "abab"], 4)
    with pytest.raises(InputError, match=r"tokens 0 to 3, and these lie within 0 and 4"):
        vocabulary.decode(torch.tensor([[0, 4]]))


@pytest.mark.parametrize("told", ["{", "[]", '{"format": 9}', '{"format": 1, "kind": "words", "tokens": [1]}'])
def test_a_vocabulary_that_is_damaged_is_refused(told: str, tmp_path: Path):
    (tmp_path / "v.json").write_text(told)
    with pytest.raises(InputError, match=r"v\.json"):
        Vocabulary.load(tmp_path / "v.json")


def test_a_saved_vocabulary_is_plain_ascii_json(tmp_path: Path):
    Vocabulary("characters", tuple(HARD)).save(tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_bytes().decode("ascii"))["tokens"] == HARD
