"""Find, read and download the files of a dataset."""

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

# Seconds to connect, and between two pieces of a response: without a network, the error
# comes quickly.
TIMEOUT = (5, 30)


class File(NamedTuple):
    """The decompressed bytes of a file, and its path for messages."""

    path: Path
    content: bytes


def expand_home(folder: str, *, what: str = "data_dir") -> Path:
    """Return the path of a folder, with `~` as the user's home.

    Raises:
        InputError: the home folder of a user who does not exist.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"expected {what} to be a folder, got {folder!r}: its home folder is not "
            "known"
        ) from error


def open_folder(data_dir: str) -> Path:
    """Return the path of a folder that exists and can be entered.

    Raises:
        InputError: it is not a folder, or cannot be entered; the message has the
            reason.
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
    """Return the folders in which a dataset is searched for, the more specific first.

    Raises:
        InputError: `data_dir` is not a folder.
    """
    root = open_folder(data_dir)
    return root / name, root


def is_file(path: Path) -> bool:
    """Return whether a file, or a broken link, exists at this path.

    A broken link does not count as missing, so that `read_file` reports it.

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
    """Return a hint to rename a file whose name differs only in case; "" if none does.

    The hint is appended to the message that none of the names was found.
    """
    right = {name.casefold(): name for name in names}
    for folder in folders:
        found_there: list[str] = []
        with contextlib.suppress(OSError):  # no such folder, or it cannot be listed
            found_there = sorted(os.listdir(folder))
        for found in found_there:
            name = right.get(found.casefold(), found)
            if found != name:
                return f"; rename {folder / found} to {name}: names are case-sensitive"
    return ""


def read_file(path: Path) -> File:
    """Read a file that is raw, gzipped or gzipped twice, whatever its name.

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
    """Return the path of a URL's file in the user's cache; download it if necessary.

    A file with the wrong hash is not kept.

    Args:
        name: the name of the dataset, and of its folder in the cache.
        url: the address of the file.
        known_hash: `sha256:...` or `md5:...`.
        stand_in: a dataset without files that can replace this one; for messages.

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
    # Like pooch.HTTPDownloader, which leaves the connection and the progress bar of a
    # failed download open.
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
    return "a broken link" if lost else error.strerror or str(error)
