"""How the command ends: the exit codes, and the error that ends it with one line."""

from __future__ import annotations

OK = 0
FAILED = 1
WRONG_USAGE = 2
NOT_FOUND = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE, as shells have it

EXIT_CODES = {
    OK: "all went well",
    FAILED: "the request, or a part of it, failed",
    WRONG_USAGE: "wrong usage or wrong settings",
    NOT_FOUND: "no such record",
    INTERRUPTED: "interrupted with Ctrl-C",
    PIPE_CLOSED: "the reader of the output went away, as '| head' does",
}


class Stop(Exception):
    """Ends the command: *message* is its one line on standard error."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
