"""The values that the public API returns: frozen, plain, ready for `--json`.

Sizes are bytes; times are aware UTC datetimes; ids as in `casimg.ids`. By theme, not gathered here: making a dataclass
takes half a millisecond, and a command pays for what it returns.
"""
