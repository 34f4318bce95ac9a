"""Exit codes: the one table from families of errors to what a script sees. Pure."""

from casimg import errors

OK = 0
INTERNAL = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
INPUT = 5
REPOSITORY = 6
DAMAGE = 7
TRY_AGAIN = 8
NO_SPACE = 9
DIFFERENT = 10
INTERRUPTED = 130
PIPE_CLOSED = 141

_TABLE: tuple[tuple[type[errors.CasimgError], int], ...] = (
    (errors.NotFoundError, NOT_FOUND),
    (errors.ConflictError, CONFLICT),
    (errors.InputError, INPUT),
    (errors.RepositoryError, REPOSITORY),
    (errors.NativeMissingError, REPOSITORY),
    (errors.DamageError, DAMAGE),
    (errors.TryAgainError, TRY_AGAIN),
    (errors.NoSpaceError, NO_SPACE),
    (errors.CancelledError, INTERRUPTED),
)

HELP = """\
Exit codes: 0 ok; 1 internal error, please report it; 2 wrong usage; 3 not found; 4 conflict (ambiguous, taken or
protected name); 5 unusable input, source or target; 6 the repository cannot be used (none, foreign, newer, bad
configuration, no native code); 7 damaged data; 8 try again (busy, fenced, unreachable); 9 no space left; 10 compared
and found different, or check or recover found problems; 130 interrupted; 141 the reader of our output went away."""


def exit_code_of(error: errors.CasimgError) -> int:
    """Return the exit code for an error."""
    for family, code in _TABLE:
        if isinstance(error, family):
            return code
    return INTERNAL
