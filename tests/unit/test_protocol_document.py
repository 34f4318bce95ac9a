"""docs/protocol.md is held by tests: each of its rules names one, and the tests are there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
RULE = re.compile(r"^([A-Z]{1,2}[0-9]?) {2,}\S", re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z]{1,2}[0-9]?) \| [^|]+ \| (tests/\S+\.py)::(\w+) \|$", re.MULTILINE)
NOT_RULES = {
    *("M", "O1", "C3", "C5", "D1", "P2", "P3"),  # a look, a lock or a stamp that is nothing without the next
    *("H", "O4"),  # tested as parts of I2 and O3
}


def test_every_rule_has_a_test() -> None:
    """Each statement that has a letter in the document is in its table, and the table has no other."""
    blocks = "\n".join(re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL))
    rules = set(RULE.findall(blocks)) | {"T"}
    assert len(rules) > 40
    assert {row[0] for row in ROW.findall(TEXT)} == rules - NOT_RULES


def test_every_test_of_the_table_is_there() -> None:
    """Each test that the table names is in the tree."""
    rows = ROW.findall(TEXT)
    assert len(rows) == TEXT.count("::test_")
    missing = [
        f"{path}::{name}" for _, path, name in rows if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []
