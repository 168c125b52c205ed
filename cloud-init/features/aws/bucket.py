"""Read and write certificates in an S3 bucket, through a temporary folder in memory."""

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aws
from step import StepError

#: This folder is in memory.
RUN = Path("/run/app")


class Bucket:
    """The objects below s3://bucket/prefix."""

    def __init__(self, where: str) -> None:
        self.name, _, prefix = where.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        #: The bucket's region, if a response has named it.
        self.region = ""

    def ask(self, name: str, content: bytes, words: list) -> aws.Answer:
        """Send a request for an object, with `content` as its body. Repeat it if the bucket is in another region."""
        who = aws.role()
        region = self.region or who.region
        digest = hashlib.sha256(content).hexdigest()
        style = f"/{self.name}" if aws.ENDPOINT else ""
        answer = aws.signed(
            f"{self.name}.s3.{region}", f"{style}/{self.prefix}{name}",
            [*words, ("header", f"X-Amz-Content-Sha256: {digest}")], who,
        )  # fmt: skip
        if answer.status in (301, 307, 400) and answer.region not in ("", region) and not self.region:
            self.region = answer.region
            return self.ask(name, content, words)
        return answer

    def get(self, name: str) -> bytes | None:
        """Return the content of an object; None if it does not exist. Raises StepError."""
        answer = self.ask(name, b"", [])
        if answer.status == 200:
            return answer.body
        # Without the permission to list the bucket, S3 answers 403 for missing objects too.
        problem = self.problem(name, answer, "s3:GetObject on it, or s3:ListBucket on its bucket")
        if problem is None:
            return None
        raise problem

    def put(self, name: str, path: Path) -> None:
        """Write the content of a file to an object. Raises StepError."""
        words = [("request", "PUT"), ("data-binary", f"@{path}"), ("header", "Content-Type: application/octet-stream")]
        answer = self.ask(name, path.read_bytes(), words)
        if answer.status != 200:
            raise self.problem(name, answer, "s3:PutObject on it") or StepError(f"{self.name}: {answer.status}")

    def problem(self, name: str, answer: aws.Answer, action: str) -> StepError | None:
        """Return the error for a failed request; None if the object does not exist."""
        text = answer.body.decode(errors="replace")
        code, message = (
            match[1] if (match := re.search(f"<{part}>([^<]*)</{part}>", text)) else "" for part in ("Code", "Message")
        )
        if code == "NoSuchKey":
            return None
        return aws.refused(f"s3://{self.name}/{self.prefix}{name}", answer.status, code, message, action)


@contextlib.contextmanager
def folder(where: str, names: tuple, patience: float) -> Iterator[Path]:
    """Yield a folder with the objects `names`. Afterwards, write changed files back, the last name first."""
    bucket = Bucket(where)
    with tempfile.TemporaryDirectory(dir=RUN) as place:
        had = {}
        for name in names:
            had[name] = aws.patiently(lambda name=name: bucket.get(name), patience)  # type: ignore[misc]
            if had[name] is not None:
                (Path(place) / name).write_bytes(had[name])
        yield Path(place)
        for name in reversed(names):
            path = Path(place) / name
            if path.exists() and path.read_bytes() != had[name]:
                aws.patiently(lambda name=name, path=path: bucket.put(name, path), patience)  # type: ignore[misc]
