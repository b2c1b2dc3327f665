"""A user's own pictures: read, made like the training data, recognized."""

from __future__ import annotations

import io

import numpy as np
import own_digits
import pytest
from PIL import Image

from cnnjax.base.errors import InputError
from cnnjax.data import drawn as drawing
from cnnjax.data import load_dataset, pictures

SHAPE = (28, 28, 1)


def write(path, picture: Image.Image, **how):
    picture.save(path, **how)
    return path


def drawn(**how) -> np.ndarray:
    content = own_digits.draw(3, 0, **{"pen": 0.1, **how})
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def centre_of(image: np.ndarray) -> np.ndarray:
    places = np.indices(image.shape[:2]).reshape(2, -1)
    return np.average(places, axis=1, weights=image.reshape(-1))


@pytest.mark.parametrize("way", own_digits.WAYS)
def test_a_digit_is_scaled_and_centred_as_in_mnist(way):
    """Its longer side has 20 of 28 pixels, its mass is in the middle, on black."""
    image = drawing.as_digit(drawn(**way), SHAPE)
    assert (image.shape, image.dtype) == (SHAPE, np.uint8)
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in ((1, 2), (0, 2)))
    sides = [int(side[-1] - side[0] + 1) for side in (rows, columns)]
    assert max(sides) in (19, 20)
    assert np.abs(centre_of(image) - 13.5).max() <= 0.75
    assert image.max() > 200
    border = np.concatenate([image[:3].ravel(), image[-3:].ravel()])
    assert border.max() == 0


def test_polarity_place_and_size_make_little_difference():
    one = drawing.as_digit(drawn(), SHAPE).astype(float)
    for way in ({"dark_ground": True}, {"at": (0.2, 0.1), "high": 0.5}, {"side": 500}):
        other = drawing.as_digit(drawn(**way), SHAPE).astype(float)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95, way


def nearest_classes(images: np.ndarray, known) -> np.ndarray:
    own, others = (x.reshape(len(x), -1) / 255.0 for x in (images, known.inputs))
    return known.labels[[np.square(others - one).sum(1).argmin() for one in own]]


def test_a_digit_is_made_like_those_of_scikit_learn():
    """It fills 8 x 8 blocks of ink; the nearest of theirs is mostly the same digit."""
    known = load_dataset("digits").train
    digits, _, contents = zip(*own_digits.all_digits(), strict=True)
    pictures_of = [
        np.asarray(Image.open(io.BytesIO(c)).convert("RGB")) for c in contents
    ]
    make = drawing.preparation_of("digits", SHAPE)
    images = np.stack([make(picture, SHAPE) for picture in pictures_of])
    assert (images.shape[1:], images.dtype) == (SHAPE, np.uint8)
    as_theirs = (nearest_classes(images, known) == digits).mean()
    like_mnist = np.stack([drawing.as_digit(p, SHAPE) for p in pictures_of])
    assert as_theirs > 0.75
    assert (nearest_classes(like_mnist, known) == digits).mean() < 0.6
    assert images.mean() > 0.75 * known.inputs.mean()


def test_thin_strokes_in_a_large_picture_are_not_lost():
    """Mistake: a stroke thinner than a pixel of the bitmap is no ink."""
    make = drawing.preparation_of("digits", SHAPE)
    for digit in range(10):
        pens = (
            own_digits.draw(digit, 0, pen=0.012, side=1200),
            own_digits.draw(digit, 0, pen=0.012),
            own_digits.draw(digit, 0, pen=0.08),
        )
        images = [
            make(np.asarray(Image.open(io.BytesIO(c)).convert("RGB")), SHAPE)
            for c in pens
        ]
        thinnest, thin, usual = (image.astype(float).ravel() for image in images)
        assert np.corrcoef(thinnest, usual)[0, 1] > 0.8, digit
        assert np.corrcoef(thin, usual)[0, 1] > 0.8, digit


def test_how_pictures_are_prepared_follows_from_the_data():
    assert drawing.preparation_of("mnist", SHAPE) is drawing.as_digit
    assert drawing.preparation_of("digits", SHAPE) is drawing.as_coarse_digit
    assert drawing.preparation_of("digits", SHAPE, raw=True) is pictures.as_image
    assert drawing.preparation_of("cifar10", (32, 32, 3)) is pictures.as_image


def test_specks_do_not_move_a_digit():
    dirty = np.array(drawn())
    dirty[4:7, 4:7] = 0
    np.testing.assert_array_equal(
        drawing.as_digit(dirty, SHAPE), drawing.as_digit(drawn(), SHAPE)
    )


def test_a_picture_of_one_shade_is_refused():
    for shade in (0, 128, 255):
        flat = np.full((40, 40, 3), shade, np.uint8)
        with pytest.raises(InputError, match="something drawn, got a picture of one"):
            drawing.ink_of(flat)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (20, 24, 1)])
def test_a_picture_is_scaled_to_the_network(shape):
    tall = np.zeros((90, 60, 3), np.uint8)
    tall[..., 0] = 200
    image = pictures.as_image(tall, shape)
    assert (image.shape, image.dtype) == (shape, np.uint8)
    np.testing.assert_allclose(image[..., 0], 200 if shape[-1] == 3 else 60, atol=1)


@pytest.mark.parametrize("shape", [(5,), (8, 8, 2)])
def test_a_network_without_images_is_refused(shape):
    for make in (pictures.as_image, drawing.as_digit, drawing.as_coarse_digit):
        with pytest.raises(InputError, match="a network that takes images of one col"):
            make(drawn(), shape)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pictures_of_every_kind_are_read(mode, tmp_path):
    own = "tiff" if mode in ("CMYK", "I;16") else "png"
    path = write(tmp_path / f"x.{own}", Image.new("L", (30, 20), 0).convert(mode))
    read = pictures.read_picture(path)
    assert (read.shape, read.dtype) == ((20, 30, 3), np.uint8)


def test_a_transparent_picture_is_on_white(tmp_path):
    path = write(tmp_path / "x.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert (pictures.read_picture(path) == 255).all()


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    photo, exif = Image.new("RGB", (30, 10)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = write(tmp_path / "x.jpg", photo, exif=exif)
    assert pictures.read_picture(path).shape == (30, 10, 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.png", b"", "expected a picture"),
        ("x.png", b"GIF nonsense", "expected a picture"),
        ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected a picture"),
        ("x.png", own_digits.draw(1, 0, pen=0.1)[:300], "the picture is damaged"),
    ],
)
def test_what_is_no_picture_is_named(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        pictures.read_picture(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_picture_that_would_take_all_memory_is_refused(tmp_path):
    """By the size that it declares, before a pixel is read."""
    path = write(tmp_path / "x.png", Image.new("1", (8000, 6000)))
    with pytest.raises(InputError, match="at most 33,554,432 pixels, got 8000 x 6000"):
        pictures.read_picture(path)
    with pytest.raises(InputError, match="cannot read"):
        pictures.read_picture(tmp_path / "none.png")


def test_pictures_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    names = [path.name for path in pictures.find_pictures(tmp_path)]
    assert names == ["a.jpg", "b.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected pictures .* in .*empty, got 'none'"):
        pictures.find_pictures(tmp_path / "empty")
