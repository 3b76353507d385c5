"""An SD card that needs nothing at its first boot.

    card.py list  < asked.json   the cards of a run; nothing is looked at but the list itself
    card.py look  < card.json    what would refuse the card; changes nothing
    card.py plan  < card.json    what would change on it; changes nothing
    card.py write < card.json    writes it: an image of its own, or a root that is mounted

What goes in is JSON, since it holds passwords; what comes out is JSON as well. Exit code 1 with
one line a fault on stderr: the site, and the mend. A run that is cut off leaves no half image: it
appears under its name when it is complete. A second run changes nothing.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from image import ImageError, System, mounted, system
from network import NetworkError, checked, nameservers
from rootfs import Root
from wheels import WheelError, is_there, needed_mb

_FAULTS = (ImageError, NetworkError, WheelError, OSError)


class CardError(Exception):
    """One line: the site, and the mend."""


def main(arguments: list[str]) -> int:
    """One command; its exit code."""
    os.umask(0o022)
    try:
        wanted = json.load(sys.stdin)
        match arguments:
            case ["list"]:
                told: object = asked(wanted)
            case ["look"]:
                told = look(wanted)
            case ["plan"]:
                told = plan(wanted)
            case ["write"]:
                told = write(wanted)
            case _:
                raise CardError("card: list, look, plan or write")
    except CardError as err:
        print(err, file=sys.stderr)
        return 1
    except _FAULTS as err:
        print(f"{wanted.get('site') or 'card'}: {err}", file=sys.stderr)
        return 1
    print(json.dumps(told))
    return 0


def asked(wanted: dict[str, Any]) -> list[dict[str, str]]:
    """The cards of a run, each with its site.

    Args:
        wanted: `site` (ids or groups, with commas) and perhaps `card`, or `cards`, a CSV file with
            site and card; `groups` of the inventory; `image`, `out` and `here`, the folder that
            relative paths begin at.

    Raises:
        CardError: all faults, a line each.
    """
    here, out, image = Path(wanted["here"]), Path(wanted["out"]), wanted["image"]
    if wanted["cards"]:
        rows = _rows(here / wanted["cards"])
    else:
        rows = [("", site, wanted["card"]) for site in _sites(wanted["site"], wanted["groups"])]
    faults = [] if rows else ["flash.yml: say which by -e site=bitung-0001, or -e cards=cards.csv"]
    found: dict[str, str] = {}
    for place, site, card in rows:
        path = str(here / card if card else out / f"{site}.img")
        if site not in wanted["groups"]["sites"]:
            faults.append(f"{place}{site}: is not in sites.csv; add its row, or correct the name")
        elif site in found:
            faults.append(f"{place}{site}: stands there twice; keep one of them")
        elif path in found.values():
            faults.append(f"{place}{site}: {path} is another site's already; name a card for each")
        elif not Path(path).exists() and not image:
            faults.append(f"{place}{site}: {path} is not there; mount the card, or name -e image=…")
        found[site] = path
    if faults:
        raise CardError("\n".join(faults))
    return [{"site": site, "card": path} for site, path in found.items()]


def look(wanted: dict[str, Any]) -> dict[str, object]:
    """What stands on a card, as far as nothing speaks against writing it.

    Raises:
        CardError: what does.
    """
    site, card = wanted["site"], Path(wanted["card"])
    links = checked(wanted["network"])
    if not wanted["ssh_keys"]:
        raise CardError(f"{site}: nobody could log in; name public keys in flash_ssh_keys")
    _look_at_authority(site, Path(wanted["authority"]))
    there = card if card.exists() or not wanted["image"] else Path(wanted["image"])
    if not there.exists():
        raise CardError(f"{site}: {there} is not there; mount the card, or correct -e image=…")
    if card.is_dir() and card.samefile("/"):
        raise CardError(f"{site}: {card} is this machine itself; name the card's folder")
    if there is not card:
        _look_for_room(site, there, card.parent, wanted["copies"])
    with mounted(there, write=False) as root:
        found = system(root, there)
        archive = _archive(wanted, found)
        if not archive.exists():
            raise CardError(
                f"{site}: {there} is {found.architecture} with Python {found.python}, and"
                f" {archive.name} was not built; take the right image, or add it to pantau_builds"
                " and run build.yml"
            )
        _look_at_root(wanted, Root(root), there, found)
        has = is_there(archive, root / "opt/pantau" / wanted["version"])
        needed = (0 if has else needed_mb(archive)) + (wanted["spool_mb"] if there.is_dir() else 0)
        if found.free_mb < needed:
            raise CardError(
                f"{site}: {there} has {found.free_mb} MB free, and {needed} are needed; take a"
                " larger card, or an image with more room"
            )
    kind = ", ".join(links)
    return {"architecture": found.architecture, "network": kind, "new": there is not card}


def plan(wanted: dict[str, Any]) -> dict[str, object]:
    """What `write` would change, gone through on the card or image as it is, read-only."""
    told = look(wanted)
    with mounted(Path(wanted["image"] if told["new"] else wanted["card"]), write=False) as path:
        root = Root(path, dry=True)
        _, host_key = _fill(root, wanted, system(path, Path(wanted["card"])))
    return {**told, "changed": root.changed, "diff": root.diff, "host_key": host_key}


def write(wanted: dict[str, Any]) -> dict[str, object]:
    """Write a card; says what changed there, and its ssh host key."""
    # Room for all was looked for before the first: by now, some of them have taken theirs.
    told, card = look({**wanted, "copies": 1}), Path(wanted["card"])
    target = card.with_name(f".{card.name}.unfinished") if told["new"] else card
    alone = _alone(wanted["site"], target)  # for as long as this process lives
    try:
        if told["new"]:
            os.fchmod(alone, 0o600)
            _run("cp", "--sparse=always", wanted["image"], str(target))
        with mounted(target, write=True) as path:
            root = Root(path)
            judged, host_key = _fill(root, wanted, system(path, card))
            os.sync()
        if target is not card:
            there = card.parent.stat()
            os.chown(target, there.st_uid, there.st_gid)
            target.rename(card)
    except BaseException:
        if target is not card:
            target.unlink(missing_ok=True)
        raise
    return {**told, "changed": root.changed, "judged": judged, "host_key": host_key}


def _alone(site: str, target: Path) -> int:
    """A lock on what is written: a run that was cut off may not have ended here yet."""
    how = os.O_RDONLY if target.exists() else os.O_RDONLY | os.O_CREAT
    lock = os.open(target, how, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CardError(
            f"{site}: {target} is still being written by another run; wait until it has ended"
        ) from None
    return lock


def _fill(root: Root, wanted: dict[str, Any], found: System) -> tuple[bool, str]:
    """All that the device needs; whether its agent judged the configuration, and the host key."""
    root.release(_archive(wanted, found), wanted["version"], found.python)
    root.identity(wanted["site"], wanted["authority"], wanted["ca"], wanted["days"])
    judged = root.agent(wanted["files"], wanted["enable"], wanted["version"])
    root.network(wanted["site"], checked(wanted["network"]), found.network)
    root.names(wanted["site"], wanted["timezone"])
    host_key = root.ssh(wanted["ssh_keys"])
    root.clock()
    return judged, host_key


def _sites(words: str, groups: dict[str, list[str]]) -> list[str]:
    """The sites that are meant by ids and groups."""
    found: list[str] = []
    for word in filter(None, words.split(",")):
        found += [word] if word in groups["sites"] else groups.get(word, [word])
    return found


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """Place, site and card of each line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if "site" not in (reader.fieldnames or ()):
                raise CardError(f"{file}: its first line must be site,card")
            return [
                (f"{file}: line {reader.line_num}: ", (row["site"] or "").strip(),
                 (row.get("card") or "").strip())
                for row in reader
            ]  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as err:
        raise CardError(f"{file}: not CSV in UTF-8: {err}; save it so") from None
    except OSError as err:
        raise CardError(f"{file}: {err.strerror}; correct -e cards=…") from None


def _archive(wanted: dict[str, Any], found: System) -> Path:
    name = f"pantau-{wanted['version']}-agent-{found.architecture}-py{found.python}.tar"
    return Path(wanted["artifacts"], name)


def _look_at_authority(site: str, authority: Path) -> None:
    if not (authority / "ca.key").exists() or not (authority / "ca.pem").exists():
        raise CardError(f"{site}: there is no authority in {authority}; run site.yml first")
    done = subprocess.run(
        ["openssl", "x509", "-in", str(authority / "ca.pem"), "-noout", "-checkend", "86400"],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CardError(
            f"{site}: {authority}/ca.pem has expired, or does so within a day; move the folder away"
            " and run site.yml for all sites"
        )


def _look_for_room(site: str, image: Path, folder: Path, copies: int) -> None:
    """Room on the controller for the images that this run makes."""
    while not folder.exists():
        folder = folder.parent
    takes_mb = image.stat().st_blocks * 512 * copies // 2**20
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < takes_mb:
        raise CardError(
            f"{site}: {folder} has {free_mb} MB free, and {copies} images need {takes_mb}; make"
            " room, set flash_out to another disk, or flash fewer at a time"
        )


def _look_at_root(wanted: dict[str, Any], root: Root, card: Path, found: System) -> None:
    site, owner = wanted["site"], root.owner()
    if owner and (owner != site or str(card) == wanted["image"]):
        raise CardError(f"{site}: {card} is {owner}'s; take a fresh one, or say -e site={owner}")
    if card.is_dir() and not os.access(card, os.W_OK):
        raise CardError(f"{site}: {card} cannot be written; mount it writable, look at the lock")
    if not root.has("usr/share/zoneinfo", wanted["timezone"]):
        raise CardError(
            f"{site}: the image knows no time zone {wanted['timezone']!r}; correct it in sites.csv"
        )
    links = checked(wanted["network"])
    if found.network == "networkd":
        if "wifi" in links and not root.has("usr/sbin", "wpa_supplicant"):
            raise CardError(f"{site}: wifi needs wpa_supplicant; take an image that has it")
        named = any(letter.isalpha() for letter in wanted["broker"]) and ":" not in wanted["broker"]
        resolves = root.has("lib/systemd", "systemd-resolved") or nameservers(links)
        if named and not resolves:
            raise CardError(
                f"{site}: the image has no resolver for {wanted['broker']}; name dns in"
                " pantau_network"
            )
    elif "lte" in links and not root.has("usr/sbin", "ModemManager"):
        raise CardError(f"{site}: lte needs ModemManager; take an image that has it")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{command[0]}: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
