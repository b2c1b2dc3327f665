"""MNIST, Fashion-MNIST and Kuzushiji-MNIST: 60,000 + 10,000 images of 28 x 28 pixels.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998;
H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017, arXiv:1708.07747;
T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018,
arXiv:1812.01718.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.download import download
from cnnjax.data.files import File
from cnnjax.data.idx import FILES, digests_of, find_idx_files, parse_idx_files
from cnnjax.data.idx_file import read_idx_file
from cnnjax.types import Examples


@dataclass(frozen=True, kw_only=True)
class OfficialFiles:
    """The address and the hashes of the four files, in the order of `FILES`."""

    url: str
    gz_hashes: tuple[str, ...]  # of the gzipped files, as the mirror serves them
    sha256: tuple[str | None, ...]  # of the decompressed files; None: not published
    class_names: tuple[str, ...]
    num_images: tuple[int, int] = (60_000, 10_000)  # training images, test images


OFFICIAL = {
    "mnist": OfficialFiles(
        url="https://storage.googleapis.com/cvdf-datasets/mnist/",
        gz_hashes=(
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        class_names=tuple("0123456789"),
    ),
    "fashion_mnist": OfficialFiles(
        url="https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        gz_hashes=(
            "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        class_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    # Only the MD5 of the gzipped files is published, so downloads are checked. Files in
    # a folder can be gzipped differently; we can only detect another dataset's files.
    "kmnist": OfficialFiles(
        url="https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        gz_hashes=(
            "md5:bdb82020997e1d708af4cf47b453dcf7",
            "md5:e144d726b3acfaa3e44228e80efcd344",
            "md5:5c965bf0a639b31b8f53240b1b52f4d7",
            "md5:7320c461ea6c1c855c0b718fb2a4b134",
        ),
        sha256=(None, None, None, None),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def load_official(name: str, data_dir: str | None = None) -> Dataset:
    """Read a dataset of `OFFICIAL` from a folder, or download it (11 to 30 MB).

    Returns:
        uint8 images [60000, 28, 28, 1] and [10000, 28, 28, 1], int32 labels 0 to 9.

    Raises:
        InputError: files that are missing, damaged or not the official ones; or no
            folder is given and there is no network.
    """
    official = OFFICIAL[name]
    if data_dir is None:
        paths = [
            download(
                name,
                f"{official.url}{file}.gz",
                known_hash=gz_hash,
                stand_in="digits",
            )
            for file, gz_hash in zip(FILES, official.gz_hashes, strict=True)
        ]
    else:
        paths = find_idx_files(name, data_dir)
    files = [read_idx_file(path) for path in paths]
    train, test = parse_idx_files(files)
    _check_examples(name, train, labels_file=files[1])
    _check_examples(name, test, labels_file=files[3])
    _check_counts(name, train, test)
    digests = digests_of(files)
    for file, got, sha256 in zip(files, digests.values(), official.sha256, strict=True):
        _check_content(name, file, got=got, sha256=sha256)
    return Dataset(
        name=name,
        train=train,
        test=test,
        class_names=official.class_names,
        files=digests,
    )


def _check_examples(name: str, examples: Examples, *, labels_file: File) -> None:
    size = " x ".join(map(str, examples.inputs.shape[1:]))
    if size != "28 x 28 x 1":
        raise InputError(
            f"expected {name} images of 28 x 28 x 1 pixels, got {size}; use "
            "--dataset=idx for files of your own"
        )
    if examples.labels.max() > 9:
        raise InputError(
            f"{labels_file.path}: expected {name} labels 0 to 9, got "
            f"{examples.labels.max()}; use --dataset=idx for files of your own"
        )


def _check_counts(name: str, train: Examples, test: Examples) -> None:
    counts = len(train.labels), len(test.labels)
    for part, expected, got in zip(
        ("training", "test"), OFFICIAL[name].num_images, counts, strict=True
    ):
        if got != expected:
            raise InputError(
                f"expected {name} to have {expected} {part} images, got {got}; use "
                "--dataset=idx for files of your own"
            )


def _check_content(name: str, file: File, *, got: str, sha256: str | None) -> None:
    for other, official in OFFICIAL.items():
        if other != name and got in official.sha256:
            raise InputError(
                f"{file.path}: expected the official {name} file, but these are "
                f"{other}'s files; use --dataset={other}"
            )
    if sha256 is not None and got != sha256:
        raise InputError(
            f"{file.path}: expected the official {name} file (content sha256 "
            f"{sha256[:12]}...), got {got[:12]}...; copy or download it again, or use "
            "--dataset=idx for files of your own"
        )
