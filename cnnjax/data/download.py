"""Download the files of a dataset: by https, and only what has a known digest."""

from __future__ import annotations

from pathlib import Path

from cnnjax.base.errors import InputError

# Seconds to connect, and between two pieces of a response: without a network, the error
# comes quickly.
TIMEOUT = (5, 30)
MOST_BYTES = 2**30  # of one file; the largest of ours has 170 MB


def download(
    name: str, url: str, *, known_hash: str, stand_in: str | None = None
) -> Path:
    """Return the path of a URL's file in the user's cache; download it if necessary.

    A file with the wrong hash, or of more than `MOST_BYTES`, is not kept.

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
            written = 0
            for piece in response.iter_content(2**16):
                written += len(piece)
                if written > MOST_BYTES:
                    raise ValueError(f"{url}: more than {MOST_BYTES} bytes")
                file.write(piece)
                bar.update(len(piece))
