"""The files of a dataset: where they are looked for, read, and downloaded to."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cnnjax.base.errors import InputError

# Seconds to connect, and between two pieces of an answer: without a network the user
# is told at once.
TIMEOUT = (5, 30)


class File(NamedTuple):
    """A file's bytes, un-gzipped, and the path that messages name."""

    path: Path
    content: bytes


def expand_home(folder: str, *, what: str = "data_dir") -> Path:
    """Return the path of a folder, with `~` as the user's home.

    Raises:
        InputError: the home of a user that is not there.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"expected {what} to be a folder, got {folder!r}: there is no such home"
        ) from error


def open_folder(data_dir: str) -> Path:
    """Return the path of a folder that is there and may be entered.

    Raises:
        InputError: it is no folder, or may not be entered, with the reason.
    """
    root = expand_home(data_dir)
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
        if is_folder and os.access(root, os.X_OK):
            return root
        reason = "Permission denied" if is_folder else "it is a file"
    except OSError as error:
        reason = _reason(root, error)
    except ValueError as error:  # a null character
        reason = str(error)
    raise InputError(f"expected data_dir to be a folder, got {str(root)!r}: {reason}")


def search_folders(name: str, data_dir: str) -> tuple[Path, Path]:
    """Return the folders that a dataset is looked for in, the more specific first.

    Raises:
        InputError: `data_dir` is not a folder.
    """
    root = open_folder(data_dir)
    return root / name, root


def is_file(path: Path) -> bool:
    """Return whether a file is there, or a link to one that is gone.

    Such a link is no missing file: `read_file` then says what is wrong.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(path, error)})") from error


def misspelled(folders: Iterable[Path], names: Iterable[str]) -> str:
    """Return what to do about a file whose name differs in case only; else nothing.

    It ends the message that none of the names was found in these folders.
    """
    right = {name.casefold(): name for name in names}
    for folder in folders:
        found_there: list[str] = []
        with contextlib.suppress(OSError):  # no such folder, or one to enter only
            found_there = sorted(os.listdir(folder))
        for found in found_there:
            name = right.get(found.casefold(), found)
            if found != name:
                return f"; rename {folder / found} to {name}: its case counts"
    return ""


def read_file(path: Path) -> File:
    """Read a file, raw or gzipped, or gzipped twice, whatever its name.

    Raises:
        InputError: the file cannot be read, or is a damaged gzip file.
    """
    try:
        content = path.read_bytes()
        for _ in range(2):
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: damaged gzip file ({error}); copy or download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(path, error)})") from error
    return File(path, content)


def download(
    name: str, url: str, *, known_hash: str, stand_in: str | None = None
) -> Path:
    """Return the path of the URL's file in the user's cache, downloaded if need be.

    A file whose hash is wrong is not kept.

    Args:
        name: the dataset's name, and its folder's in the cache.
        url: where the file is.
        known_hash: `sha256:...` or `md5:...`.
        stand_in: a dataset that needs no file and fits wherever this one does.

    Raises:
        InputError: no network, an unexpected file, or a cache that cannot be written.
    """
    # Imported here: only a download needs them.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    try:
        path = pooch.retrieve(
            url,
            known_hash,
            fname=url.rsplit("/", 1)[-1],
            path=pooch.os_cache("cnnjax") / name,
            downloader=_stream,  # pyright: ignore[reportArgumentType]
        )
    except requests.RequestException as error:
        last_way_out = f", or use --dataset={stand_in}" if stand_in else ""
        raise InputError(
            f"cannot download {name} from {url} ({type(error).__name__}); give its "
            f"files with --data_dir, or connect to the network{last_way_out}"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{url}: expected the file with {known_hash}, got another (a login page, "
            f"or a changed file); give the files of {name} with --data_dir"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write the download of {name} to {pooch.os_cache('cnnjax')} "
            f"({error.strerror}); give its files with --data_dir"
        ) from error
    return Path(path)


def _stream(url: str, output_file: str, _: object) -> None:
    # What pooch.HTTPDownloader does, except that it leaves the connection of a failed
    # download, and its progress bar, open.
    import requests
    from tqdm import tqdm

    with requests.get(url, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        size = int(response.headers.get("content-length", 0))
        # disable=None: no bar where stderr is not a terminal.
        with (
            open(output_file, "wb") as file,
            tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for piece in response.iter_content(2**16):
                file.write(piece)
                bar.update(len(piece))


def _reason(path: Path, error: OSError) -> str:
    lost = isinstance(error, FileNotFoundError) and path.is_symlink()
    return "a link that leads nowhere" if lost else error.strerror or str(error)
