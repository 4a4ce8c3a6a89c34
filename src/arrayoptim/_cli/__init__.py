"""The command line: ``info``, ``inspect``, ``demo`` and ``plot-schedule``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .errors import CommandError, one_line

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default, those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 1 for bad input or a failed check, 2 for bad usage or a
        missing package, 130 if interrupted from the keyboard.
    """
    from .parser import build

    parser = build()
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["demo"]:
            from . import demo

            return demo.main(words[1:])
        arguments = parser.parse_args(words)
        if arguments.command is None:
            parser.print_help()
            return 0
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse exits after --help and bad usage
        return leaving.code if isinstance(leaving.code, int) else 2
    except CommandError as error:
        print(f"{parser.prog}: error: {one_line(error)}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has exited; Python must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
