"""Fetch the public datasets, only when asked: ``fetch("coco", "data")``.

Nothing here runs on import or in a test against the network. Downloads resume, are checked where a digest is
published, and unpack beside the target before they take its name.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
# Archives and unpacked files lie side by side until the archive is deleted; pictures do not compress.
SPACE_FACTOR = 2.05
CHUNK = 1 << 20


class DownloadError(OSError):
    """A dataset cannot be fetched: one sentence with the file and what to do."""


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Args:
        url: http(s) address.
        size: bytes, exact or rounded up; for the check of disk space.
        holds: a path that exists under the folder once the archive is unpacked there.
        md5: published digest or None.
        into: folder under the dataset's own that the archive is unpacked into.
        flat: take the files out of the archive's own folders.
    """

    url: str
    size: int
    holds: str
    md5: str | None = None
    into: str = "."
    flat: bool = False

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A dataset's archives, and what a person must fetch by hand (no direct address exists): (path, instruction)."""

    archives: tuple[Archive, ...]
    by_hand: tuple[tuple[str, str], ...] = ()


# Addresses and MD5 sums of COCO as on cocodataset.org and in its mirrors' lists; annotation archives of MPII and
# CrowdPose in the JSON that HRNet and mmpose read, from the mmpose documentation (no digests are published).
COCO = Source(
    archives=(
        Archive(
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            252_907_541,
            "annotations/person_keypoints_val2017.json",
            md5="f4bbac642086de4f52a3fdda2de5fa2c",
        ),
        Archive(
            "http://images.cocodataset.org/zips/val2017.zip",
            815_585_330,
            "val2017",
            md5="442b8da7639aecaf257c1dceb8ba8c80",
        ),
        Archive(
            "http://images.cocodataset.org/zips/train2017.zip",
            19_336_861_798,
            "train2017",
            md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        ),
    )
)
MPII = Source(
    archives=(
        Archive(
            "https://download.openmmlab.com/mmpose/datasets/mpii_annotations.tar",
            100 << 20,
            "annotations/mpii_val.json",
            into="annotations",
            flat=True,
        ),
        Archive(
            "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/mpii_human_pose_v1.tar.gz",
            13 * GIB,
            "images",
        ),
    )
)
CROWDPOSE = Source(
    archives=(
        Archive(
            "https://download.openmmlab.com/mmpose/datasets/crowdpose_annotations.tar",
            200 << 20,
            "annotations/mmpose_crowdpose_test.json",
            into="annotations",
            flat=True,
        ),
    ),
    by_hand=(
        ("images", "the pictures (images.zip) have no direct address: follow https://github.com/Jeff-sjtu/CrowdPose"),
    ),
)
SOURCES = {"coco": COCO, "mpii": MPII, "crowdpose": CROWDPOSE}


def fetch(
    name: str,
    root: str | os.PathLike = "data",
    *,
    only: tuple[str, ...] | None = None,
    sources: dict[str, Source] = SOURCES,
    progressbar: bool = True,
) -> Path:
    """Download and unpack a dataset; what is already there is left alone.

    Args:
        name: "coco", "mpii" or "crowdpose".
        root: the dataset goes to ``root/name``.
        only: parts of archive names to fetch, e.g. ``("annotations", "val2017")``; None fetches all.
        sources: where from; for mirrors.
        progressbar: show one.

    Returns:
        The folder.

    Raises:
        DownloadError: unknown name, not enough disk space, no connection, a wrong digest, or a part that only a
            person can fetch.
    """
    if name not in sources:
        raise DownloadError(f"no dataset '{name}' is known; there are {', '.join(sorted(sources))}")
    folder = Path(root, name)
    archives = [a for a in sources[name].archives if only is None or any(part in a.name for part in only)]
    missing = [a for a in archives if not (folder / a.holds).exists()]
    _check_space(folder, sum(a.size for a in missing))
    for archive in missing:
        _unpack(_download(archive, folder, progressbar=progressbar), folder / archive.into, flat=archive.flat)
        if not (folder / archive.holds).exists():
            raise DownloadError(
                f"{archive.url} was unpacked but holds no '{archive.holds}'; look into {folder} and rename by hand"
            )
    for path, instruction in sources[name].by_hand:
        if only is None and not (folder / path).exists():
            raise DownloadError(f"{name}: {instruction}, and unpack it to {folder / path}")
    return folder


def _check_space(folder: Path, size: int) -> None:
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free, needed = shutil.disk_usage(there).free, int(size * SPACE_FACTOR)
    if free < needed:
        raise DownloadError(
            f"{folder} needs {needed / GIB:.1f} GiB and {free / GIB:.1f} GiB are free; choose another root, or parts "
            "of the dataset with only="
        )


def _download(archive: Archive, folder: Path, *, progressbar: bool) -> Path:
    import pooch
    import requests

    try:
        path = pooch.retrieve(
            archive.url,
            known_hash=f"md5:{archive.md5}" if archive.md5 else None,
            fname=archive.name,
            path=folder,
            downloader=_Resuming(folder / f"{archive.name}.partial", progressbar=progressbar),
        )
    except requests.RequestException as error:
        raise DownloadError(
            f"{archive.url} cannot be fetched ({type(error).__name__}); check the connection and call again, it goes "
            "on where it stopped"
        ) from None
    except ValueError:
        raise DownloadError(
            f"{archive.url} does not have the published MD5 sum {archive.md5}; call again to fetch it anew"
        ) from None
    return Path(path)


class _Resuming:
    """A pooch downloader that keeps what it has and asks only for the rest."""

    def __init__(self, partial: Path, *, progressbar: bool) -> None:
        self.partial = partial
        self.progressbar = progressbar

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests
        from tqdm import tqdm

        have = self.partial.stat().st_size if self.partial.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=60) as response:
            if response.status_code != requests.codes.requested_range_not_satisfiable:  # else all of it is here
                response.raise_for_status()
                if response.status_code != requests.codes.partial_content:
                    have = 0  # the server sends the file from its beginning
                total = have + int(response.headers.get("content-length", 0))
                with (
                    open(self.partial, "ab" if have else "wb") as file,
                    tqdm(
                        initial=have,
                        total=total,
                        unit="B",
                        unit_scale=True,
                        desc=self.partial.stem,
                        disable=not self.progressbar,
                    ) as bar,
                ):
                    for chunk in response.iter_content(CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
                if total > self.partial.stat().st_size:
                    raise requests.ConnectionError("connection closed early")
        self.partial.replace(output_file)


def _unpack(path: Path, target: Path, *, flat: bool) -> None:
    """Unpack beside the target, then move the top entries to their names, so that a stop leaves nothing half there."""
    staging = path.with_name(f".{path.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        # Tar files could name paths outside the folder; the "data" filter refuses those (zip files never do).
        shutil.unpack_archive(path, staging, filter=None if path.suffix == ".zip" else "data")
    except (shutil.ReadError, OSError, EOFError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        path.unlink()
        raise DownloadError(f"{path.name} cannot be unpacked ({error}); call again to fetch it anew") from None
    if flat:
        for entry in [e for e in staging.rglob("*") if e.is_file()]:
            entry.replace(staging / entry.name)
    _merge(staging, target)
    shutil.rmtree(staging)
    path.unlink()


def _merge(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        place = target / entry.name
        if entry.is_dir() and not any(entry.iterdir()):
            continue
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)
