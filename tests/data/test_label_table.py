"""Tables of labels as people write them."""

import pytest

from dfkd_exp.data.label_table import read_table
from dfkd_exp.errors import DfkdError

IMAGES = [f"images/{index}.png" for index in range(4)]
EXPECTED = [(None, "cat" if index % 2 else "dog", image) for index, image in enumerate(IMAGES)]
WORDS = ["dog", "cat", "dog", "cat"]


def read(text, images=IMAGES):
    return read_table(text.encode(), "labels.csv", images, "place")


def lines(template, header=""):
    return header + "".join(template.format(i=index, word=word) + "\n" for index, word in enumerate(WORDS))


@pytest.mark.parametrize(
    "text",
    [
        lines("{i}.png,{word}", "file,label\n"),
        lines("{i}.png,{word}"),
        lines("{i},{word}", "id,breed\n"),
        lines("{word};images/{i}.png", "﻿Class;Path\n"),
        lines("{i}.png\t{word}"),
        lines("./images/{i}.png {word}"),
        lines("/somewhere/else/images/{i}.png,{word}"),
        lines('"{i}.png", "{word}" ,12', "image_id,label,age\n"),
        lines("{i},{word},7,8", "name,class,x,y2\n") + "\n\n",
        lines("images\\{i}.png,{word}"),
    ],
)
def test_a_table_is_read_however_it_is_written(text):
    assert read(text) == (EXPECTED, [])


def test_parts_stand_in_a_column_or_are_folders():
    parts = ["train", "Test", "train", "valid"]
    text = "file,label,split\n" + "".join(
        f"{i}.png,{word},{part}\n" for i, (word, part) in enumerate(zip(WORDS, parts, strict=True))
    )
    assert [part for part, _, _ in read(text)[0]] == ["train", "test", "train", "val"]
    images = ["train/0.png", "test/1.png", "train/2.png", "test/3.png"]
    rows, _ = read(lines("{i}.png,{word}"), images)
    assert [part for part, _, _ in rows] == ["train", "test", "train", "test"]


def test_what_is_missing_on_either_side_is_said():
    rows, notes = read(lines("{i}.png,{word}") + "9.png,cat\n", [*IMAGES, "images/77.png"])
    assert rows == EXPECTED
    assert notes == [
        "1 of the 5 files that labels.csv names are not there",
        "1 images of which labels.csv says nothing are left out",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a column of files and one of classes"),
        ("just text\n", "nothing in its first lines is the name of an image in place, as 'just, text'|just, text"),
        ("a.png,cat\nb.png,dog\n", "nothing in its first lines is the name of an image in place"),
        ("0.png,cat\n1.png,\n", "line 2, says no class"),
        ("file,label\n0.png,cat\n0.png,dog\n", "has 0.png twice, as cat and as dog"),
        ("file,cat,dog,emu\n0.png,1,0,0\n", "which column is the class.* cat, dog, emu; call one of them label"),
        ("file,class,species\n0.png,1,0\n", "which column is the class.* class, species"),
        ("file,label,split\n0.png,cat,0\n1.png,dog,2\n", "its column split says '[02]'; write train, val or test"),
    ],
)
def test_what_has_no_one_meaning_is_asked_about_in_one_line(text, message):
    with pytest.raises(DfkdError, match=message) as asked:
        read(text)
    assert "\n" not in str(asked.value)


def test_a_table_that_is_not_text_is_refused():
    with pytest.raises(DfkdError, match=r"labels.csv is not a table of UTF-8 text"):
        read_table(b"\xff\xfe\x00\x01,", "labels.csv", IMAGES, "place")


def test_a_name_that_two_files_have_needs_its_folder():
    with pytest.raises(DfkdError, match=r"0.png could be a/0.png or b/0.png; write its folder before it"):
        read("0.png,cat\n", ["a/0.png", "b/0.png"])
    assert read("a/0.png,cat\nb/0.png,dog\n", ["a/0.png", "b/0.png"])[0][1] == (None, "dog", "b/0.png")


def test_a_class_that_is_called_as_an_image_is_no_file():
    images = [*(f"test/{index:02}.png" for index in range(4)), "meta/0.png", "meta/1.png"]
    rows, _ = read("Width,ClassId,Path\n" + "".join(f"30,{i % 2},test/{i:02}.png\n" for i in range(4)), images)
    assert rows == [(None, str(index % 2), images[index]) for index in range(4)]
