"""Somebody's own data: other idx sets, .npz files, folders of pictures; adapted to."""

from __future__ import annotations

import io
import string
import zipfile

import numpy as np
import pytest
import test_data_idx
from batches import TINY
from PIL import Image

from cnnjax import load_dataset, prepare
from cnnjax.base.errors import InputError
from cnnjax.data import idx_sets
from cnnjax.data.idx import FILES
from cnnjax.data.preprocessing import Standardize
from cnnjax.data.splits import OFFICIAL, HoldOut
from cnnjax.experiments.adapting import HELD_OUT, adaptations, adapted
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES, get_recipe

RNG = np.random.default_rng(0)
LETTERS = "emnist-letters-{part}-{kind}"
PIXELS = RNG.integers(0, 256, (6, 5, 4), np.uint8)
PIXELS[0, 0, :2] = 0, 255
LABELS = np.array([0, 1, 2, 0, 1, 2])


def named(spelling: str, contents: dict[str, bytes]) -> dict[str, bytes]:
    """Give the four files other names."""
    parts = [(p, k) for p in ("train", "test") for k in ("images-idx3", "labels-idx1")]
    return {
        f"{spelling.format(part=part, kind=kind)}-ubyte": content
        for (part, kind), content in zip(parts, contents.values(), strict=True)
    }


def refused(name: str, folder=None) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=folder and str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_emnist_letters_are_upright_and_have_their_names(tmp_path):
    """Its images are stored by columns, and its 26 labels begin with 1."""
    contents = test_data_idx.make_files(size=(5, 4), labels=27, train=30)
    test_data_idx.write(tmp_path, named(LETTERS, contents))
    dataset = load_dataset("idx", data_dir=str(tmp_path))
    assert dataset.class_names == ("none", *string.ascii_lowercase)
    stored = np.frombuffer(contents[FILES[0]][16:], np.uint8).reshape(30, 5, 4)
    images = dataset.train.inputs
    np.testing.assert_array_equal(images[..., 0], stored.swapaxes(1, 2))
    assert list(idx_sets.EMNIST_CLASSES["balanced"][36:]) == list("abdefghnqrt")
    assert {n: len(c) for n, c in idx_sets.EMNIST_CLASSES.items()} == {
        **{"byclass": 62, "bymerge": 47, "balanced": 47},
        **{"letters": 27, "digits": 10, "mnist": 10},
    }


def test_of_several_sets_one_is_named(tmp_path):
    for name, labels in (("emnist-letters", 27), ("emnist-digits", 10)):
        contents = test_data_idx.make_files(labels=labels, train=30)
        test_data_idx.write(tmp_path, named(f"{name}-{{part}}-{{kind}}", contents))
    told = refused("idx", tmp_path)
    assert "got emnist-digits, emnist-letters; name one" in told
    assert "--dataset=idx:emnist-digits" in told
    told = refused("idx:emnist-leters", tmp_path)
    assert "unknown set of idx files 'emnist-leters'; did you mean emnist-le" in told
    dataset = load_dataset("idx:emnist-digits", data_dir=str(tmp_path))
    assert (dataset.name, dataset.num_classes) == ("idx:emnist-digits", 10)


@pytest.mark.parametrize("name", ["idx", "mnist"])
@pytest.mark.parametrize("packed", ["torchvision", "7-Zip"])
def test_folders_as_others_make_them(name, packed, tmp_path, monkeypatch):
    contents = test_data_idx.make_files()
    test_data_idx.make_official(monkeypatch, "mnist", contents)
    for file, content in contents.items():
        folder = {"torchvision": "MNIST/raw", "7-Zip": file}[packed]
        dotted = file.replace("-idx", ".idx") if packed == "7-Zip" else file
        test_data_idx.write(tmp_path / folder, {dotted: content})
    dataset = load_dataset(name, data_dir=str(tmp_path))
    test_data_idx.check(dataset, contents)


def test_two_sets_of_one_name_are_told_by_their_folders(tmp_path):
    """Mistake: files of two data sets in one, since their names are alike."""
    for folder in ("MNIST/raw", "FashionMNIST/raw"):
        test_data_idx.write(tmp_path / folder, test_data_idx.make_files())
    assert "got FashionMNIST/raw, MNIST/raw; name one" in refused("idx", tmp_path)
    dataset = load_dataset("idx:MNIST/raw", data_dir=str(tmp_path))
    assert len(dataset.train.labels) == 7


def test_qmnist_has_eight_columns_of_integers(tmp_path):
    contents = test_data_idx.make_files()
    for file, count in ((FILES[1], 7), (FILES[3], 3)):
        columns = np.arange(8 * count).reshape(count, 8) % 10
        contents[file] = test_data_idx.idx(columns, ">i4")
    names = named("qmnist-{part}-{kind}", contents)
    files = {n.replace("idx1-ubyte", "idx2-int"): c for n, c in names.items()}
    test_data_idx.write(tmp_path, files)
    dataset = load_dataset("idx", data_dir=str(tmp_path))
    assert dataset.train.labels.tolist() == [0, 8, 6, 4, 2, 0, 8]


FLOATS = {
    "whole numbers": PIXELS.astype(np.float32),
    "divided in float32": PIXELS.astype(np.float32) / np.float32(255),
    "divided in float64": PIXELS / 255,
    "divided, then rounded to float16": (PIXELS / 255).astype(np.float16),
    "integers of 32 bits": PIXELS.astype(np.int32),
}


@pytest.mark.parametrize("held", FLOATS)
def test_pixels_of_other_types_are_the_same_bytes(held, tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, x=FLOATS[held], y=LABELS)
    dataset = load_dataset(f"npz:{path}")
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], PIXELS)
    assert dataset.train.inputs.dtype == np.uint8


@pytest.mark.parametrize(
    ("x_train", "y_train", "told"),
    [
        (PIXELS / 255 - 0.5, LABELS, "own.npz, x_train: expected pixels from 0 to 255"),
        (PIXELS / 200, LABELS, "got float64 from 0 to 1.275 that are neither"),
        (PIXELS * 2.0, LABELS, "float64 from 0 to 510 that are neither"),
        (np.where(PIXELS[0, 0, 0] == PIXELS, np.nan, PIXELS), LABELS, "nan"),
        (np.zeros((6, 1, 5, 7)), LABELS, "channels last: np.moveaxis(images, 1, -1)"),
        (PIXELS, np.eye(3)[LABELS], "one-hot rows: labels.argmax(axis=1)"),
        (PIXELS, LABELS - 1, "expected labels from 0 to 999999, got -1 to 1"),
        (PIXELS, LABELS[1:], "expected one of y_train for each of x_train, got shapes"),
        (PIXELS[:, :0], LABELS, "got uint8 with 3 axes (6 x 0 x 4)"),
        (PIXELS[:0], LABELS[:0], "expected one of y_train for each of x_train"),
        (PIXELS.astype(str), LABELS, "expected arrays named x_train, y_train"),
    ],
)
def test_wrong_arrays_are_refused(x_train, y_train, told, tmp_path):
    np.savez(tmp_path / "own.npz", x_train=x_train, y_train=y_train)
    assert told in refused("npz:own.npz", tmp_path)


NAMES = {
    "Keras": ("x_train", "y_train", "x_test", "y_test"),
    "MedMNIST": ("train_images", "train_labels", "test_images", "test_labels"),
    "capitals": ("X_train", "Y_train", "X_test", "Y_test"),
}


@pytest.mark.parametrize("names", NAMES)
def test_npz_as_others_write_them(names, tmp_path):
    """MedMNIST's labels are columns, and it has arrays of no use here."""
    arrays = (PIXELS, LABELS[:, None], PIXELS[:3], LABELS[:3, None])
    more = {"val_images": PIXELS, "names": np.array(["a", "b"])}
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **dict(zip(NAMES[names], arrays, strict=True)), **more)
    dataset = load_dataset("npz:own.npz", data_dir=str(tmp_path))
    assert (dataset.num_classes, dataset.name) == (3, "npz:own.npz")
    assert dataset.train.labels.tolist() == LABELS.tolist()
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.test.inputs[..., 0], PIXELS[:3])
    assert list(dataset.files) == ["own.npz"]


def test_numbers_and_targets_in_an_npz_are_a_regression(tmp_path):
    inputs = np.asfortranarray(RNG.normal(size=(6, 4)))
    np.savez(tmp_path / "own.npz", x=inputs, y=inputs.sum(axis=1))
    dataset = load_dataset("npz:own.npz", data_dir=str(tmp_path))
    assert (dataset.class_names, dataset.test) == ((), None)
    np.testing.assert_allclose(dataset.train.inputs, inputs, rtol=1e-6)
    assert dataset.train.labels.shape == (6, 1)


def test_an_array_larger_than_its_file_takes_no_memory(tmp_path):
    """NumPy itself would allocate what the header says: 8 TB."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (2**43,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(10))
        archive.writestr("y.npy", header.getvalue())
    told = refused("npz:own.npz", tmp_path)
    assert "the .npz file is damaged: x.npy has" in told
    assert "its header says uint8 (8796093022208,)" in told


def test_objects_are_left_out_and_never_unpickled(tmp_path):
    objects = np.array([{}, {}], dtype=object)
    np.savez(tmp_path / "own.npz", x=PIXELS, y=LABELS, z=objects)
    assert load_dataset("npz:own.npz", data_dir=str(tmp_path)).num_classes == 3
    np.savez(tmp_path / "own.npz", x=PIXELS, y=objects)
    assert "got x" in refused("npz:own.npz", tmp_path)


def draw(path, colour, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_a_folder_of_pictures_for_each_class(tmp_path):
    for name, colour in (("cat", (9, 0, 0)), ("dog", (0, 9, 0)), ("emu", (0, 0, 9))):
        for number in range(3):
            draw(tmp_path / "own" / name / f"{number}.png", colour)
    (tmp_path / "own" / "cat" / "notes.txt").write_text("not a picture")
    dataset = load_dataset("folder:own", data_dir=str(tmp_path))
    assert dataset.class_names == ("cat", "dog", "emu")
    assert dataset.train.inputs.shape == (9, 4, 6, 3)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.train.inputs[:, 0, 0].tolist() == [
        *([[9, 0, 0]] * 3 + [[0, 9, 0]] * 3 + [[0, 0, 9]] * 3)
    ]
    assert dataset.test is None
    scaled = load_dataset("folder:own@8x10", data_dir=str(tmp_path))
    assert scaled.train.inputs.shape == (9, 8, 10, 3)


def test_grey_pictures_have_one_channel_and_a_test_folder_is_one(tmp_path):
    for part in ("train", "test"):
        for name, shade in (("a", 0), ("b", 200)):
            draw(tmp_path / part / name / f"{part}.png", shade, mode="L")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.train.inputs.shape == (2, 4, 6, 1)
    assert dataset.test is not None
    assert dataset.test.inputs[1, 0, 0].tolist() == [200]
    assert sorted(dataset.files) == ["test, 2 pictures", "train, 2 pictures"]


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    draw(tmp_path / "one" / "a" / "1.png", 0)
    assert "expected two classes or more in" in refused("folder:one", tmp_path)
    for name, size in (("a", (6, 4)), ("b", (6, 5))):
        draw(tmp_path / "sizes" / name / "1.png", 0, size=size)
    told = refused("folder:sizes", tmp_path)
    assert "expected pictures of one size, got 4x6 in " in told
    assert "scale them with folder:PATH@4x6" in told
    assert load_dataset("folder:sizes@4x6", data_dir=str(tmp_path)).num_classes == 2
    assert "expected a size as 32x32" in refused("folder:sizes@big", tmp_path)
    (tmp_path / "sizes" / "c").mkdir()
    assert "expected pictures (.bmp, " in refused("folder:sizes@4x6", tmp_path)
    (tmp_path / "sizes" / "c" / "1.png").write_bytes(b"<html>")
    assert "c/1.png: expected a picture" in refused("folder:sizes@4x6", tmp_path)
    for part, names in (("train", "ab"), ("test", "ac")):
        for name in names:
            draw(tmp_path / "differ" / part / name / "1.png", 0)
    assert "got b, c in only one" in refused("folder:differ", tmp_path)
    told = refused("folder:nowhere", tmp_path)
    assert told.startswith("expected what follows folder: to be a folder, got ")


def test_the_network_takes_the_shapes_and_classes_and_nothing_else_changes(tmp_path):
    np.savez(tmp_path / "own.npz", x=PIXELS, y=LABELS)
    dataset = load_dataset("npz:own.npz", data_dir=str(tmp_path))
    recipe = adapted(TINY, dataset)
    assert recipe.model.input_shape == (5, 4, 1)
    assert recipe.split == HoldOut(HELD_OUT)
    back = override(
        recipe,
        input_shape=TINY.model.input_shape,
        layers=TINY.model.layers,
        split=TINY.split,
    )
    assert back == TINY
    told = adaptations(recipe, TINY)
    assert told[0] == "inputs of 5 x 4 x 1"
    assert "20% of the examples held out for tests" in told
    assert adaptations(TINY, TINY) == []
    experiment = prepare(override(recipe, batch_size=2), dataset)
    assert len(experiment.test.labels) == 1
    assert experiment.recipe.model.layers[-1].features == 3


def test_means_of_other_channels_become_one(tmp_path):
    np.savez(tmp_path / "own.npz", x=PIXELS, y=LABELS, x_test=PIXELS, y_test=LABELS)
    dataset = load_dataset("npz:own.npz", data_dir=str(tmp_path))
    own = override(TINY, preprocessing=Standardize((0.25, 0.5, 0.75), (1.0, 2.0, 3.0)))
    recipe = adapted(own, dataset)
    assert recipe.preprocessing == Standardize((0.5,), (2.0,))
    assert "one mean and standard deviation for all channels" in adaptations(
        recipe, own
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_its_own_data_set_stays_as_it_is(name):
    """Digits have MNIST's shapes; what cannot be adapted to is left to be refused."""
    recipe, digits = get_recipe(name), load_dataset("digits")
    if recipe.model.input_shape == (28, 28, 1):
        assert adapted(recipe, digits) == recipe
    elif recipe.loss != "softmax_cross_entropy":
        assert adapted(recipe, digits) is recipe
    else:
        assert adapted(recipe, digits).model.input_shape == (28, 28, 1)
        assert recipe.split == OFFICIAL
