"""Subunit on standard input, a line of JSON for each test on standard output. Runs in the programs' venv."""

import json
import sys
from typing import Any

import subunit
import testtools


def main() -> None:
    """Turn one stream into lines."""
    to_lines = testtools.StreamToDict(_print)
    to_lines.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="output").run(to_lines)
    to_lines.stopTestRun()


def _print(test: dict[str, Any]) -> None:
    begin, end = test["timestamps"]
    texts = {name: content.as_text() for name, content in test["details"].items() if name in ("reason", "traceback")}
    seconds = (end - begin).total_seconds() if begin and end else 0.0
    print(json.dumps({"id": test["id"], "status": test["status"], "seconds": seconds, **texts}))


if __name__ == "__main__":
    main()
